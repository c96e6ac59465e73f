"""What is left of a suite may rely on files of earlier runs: checked before anything starts.

Damage found here costs one run what it must: its weights are made anew from the checkpoint before
them, or its training begins anew, in a group of runs that stand where it then stands. Damage that
comes later is met by whoever reads the file, and fails that run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sca_bench.files import drop_unfinished
from sca_bench.study.plan.plan import Plan
from sca_bench.study.runs.store import Store, set_damaged_aside
from sca_bench.study.runs.trained_index import TrainedIndex


def repaired_plan(make: Callable[[], Plan], store: Store, say: Callable[[str], None]) -> Plan:
    """Return a plan that relies on no damaged file; call it only while holding the runs folder.

    Every file that the runs which are left would read is read once. What is damaged is set aside,
    and the plan is made again, until nothing more is found. A finished run whose weights are
    damaged is no longer finished. What a killed writer left unfinished in the folders of these
    runs is deleted.

    Args:
        make: Makes the plan from what is there.
        store: The runs folder.
        say: Takes a line for each file that was set aside.
    """
    checked: set[tuple[str, int]] = set()
    while True:
        plan, lines = make(), list[str]()
        for run in _relied_on(plan, TrainedIndex(store)):
            if run not in checked:
                checked.add(run)
                lines += _repair(store, *run)
        for line in lines:
            say(f"  {line}; its run is repeated as far as needed")
        if not lines:
            return plan


def _relied_on(plan: Plan, index: TrainedIndex) -> Iterator[tuple[str, int]]:
    """Yield cell and seed of runs whose weights or checkpoints the runs of a plan begin with."""
    for job in plan.left:
        if not job.reuses:
            yield job.cell.cell_id, job.seed
        for training in job.waits_for:
            trained = index.find(*training)
            if trained is not None:
                yield trained.cell_id, trained.seed


def _repair(store: Store, cell_id: str, seed: int) -> list[str]:
    """Set a run's damaged files aside; return a line for each."""
    folder = store.run_dir(cell_id, seed)
    drop_unfinished(folder)
    lines = set_damaged_aside(folder)
    record = store.record(cell_id, seed) if lines else None
    if record is not None and record.status == "done":
        store.save(record.model_copy(update={"status": "killed", "error": lines[0]}))
    return lines
