"""What is left of a suite may rely on files of earlier runs: checked before anything starts.

Damage found here costs one run what it must: its weights are made anew from the checkpoint before
them, or its training begins anew, in a group of runs that stand where it then stands. Damage that
comes later is met by whoever reads the file, and fails that run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sca_bench.files import drop_unfinished
from sca_bench.study.plan import Plan
from sca_bench.study.store import Store, set_damaged_aside
from sca_bench.study.training import TrainedIndex


def repaired_plan(make: Callable[[], Plan], store: Store, say: Callable[[str], None]) -> Plan:
    """Return a plan that relies on no damaged file; call it only while holding the runs folder.

    Every file that the runs which are left would read is read once. What is damaged is set aside,
    and the plan is made again, until nothing more is found. What a killed writer left unfinished
    in the folders of these runs is deleted.

    Args:
        make: Makes the plan from what is there.
        store: The runs folder.
        say: Takes a line for each file that was set aside.
    """
    checked: set[Path] = set()
    while True:
        plan, lines = make(), list[str]()
        for folder in _relied_on(plan, store):
            if folder not in checked:
                checked.add(folder)
                drop_unfinished(folder)
                lines += set_damaged_aside(folder)
        for line in lines:
            say(f"  {line}; its run is repeated as far as needed")
        if not lines:
            return plan


def _relied_on(plan: Plan, store: Store) -> Iterator[Path]:
    """Yield the folders of runs whose weights or checkpoints the runs of a plan begin with."""
    index = TrainedIndex(store)
    for job in plan.left:
        if not job.reuses:
            yield store.run_dir(job.cell.cell_id, job.seed)
        for training in job.waits_for:
            found = index.find(*training)
            if found is not None:
                yield index.folder(found)
