"""Measures the costs of a plan in a process of its own, so that `plan` never loads torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sca_bench.devices.gpu import resolve_device
from sca_bench.engine.device import this_machine
from sca_bench.engine.forecast.costs import CellWork, PlanCosts, Request
from sca_bench.engine.forecast.forward_counts import TIMELESS
from sca_bench.engine.measure.flops import work_of
from sca_bench.engine.measure.probe import Memory, Prober
from sca_bench.engine.provenance import machine, package_versions
from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.output import end_with_reader, guard_streams
from sca_bench.settings import CellSettings
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.plan.plan import Plan, make_plan
from sca_bench.study.plan.schedule import make_schedule
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

_WORKLESS = {"data", "note", "pretraining", "runtime", "start_from"}
_COUNTED = 2
"""Revision of what is counted; what an older one counted is counted anew."""


def measure_plan(
    plan: Plan,
    store: Store,
    *,
    probe: bool,
    count: bool,
    say: Callable[[str], None],
    start_s: float = 0.0,
) -> PlanCosts:
    """Measure and count what a plan takes; what was measured before is taken from memory.

    Args:
        plan: The plan.
        store: The runs folder.
        probe: Measure probe runs on this machine.
        count: Count operations and memory without weights.
        say: Prints a line for the user.
        start_s: Seconds from the prompt until now.

    Raises:
        InputError: An input of a run is wrong.
    """
    runs = plan.left or [*plan.stages, *plan.jobs]
    here = this_machine(resolve_device(runs[0].cell.settings.runtime.device))
    name = digest_json([machine(torch.device(here.device), 0), here.cores, package_versions()])[:12]
    memory = Memory(store.root / "probes.json", name)
    figures: dict[str, Any] = {"device": here.device, "cores": here.cores, "gpus": here.gpus}
    notes: list[str] = []
    if probe and plan.left:
        schedule = make_schedule(plan, store, here)
        prober = Prober(plan, store, schedule, here, memory, say)
        prober.measure()
        figures |= {"sizes": prober.sizes, "probes": prober.probes}
        figures["overheads"] = prober.overheads(start_s) if prober.probes else None
        notes += prober.notes
    if count:
        works = _works(plan, Memory(store.root / "probes.json", package_versions()["torch"]), say)
        figures["works"] = works
        lacking = sorted({j.cell.name for j in plan.jobs if j.cell.cell_id not in works})
        if lacking:
            notes.append(
                "operations are counted for SCA's designs whose image encoder is torch's, not for "
                + ", ".join(lacking)
            )
    return PlanCosts(**figures, notes=list(dict.fromkeys(notes)))


def _works(plan: Plan, memory: Memory, say: Callable[[str], None]) -> dict[str, CellWork]:
    """Count what the cells and stages compute, each structure once."""
    works_of_cells: dict[str, CellWork] = {}
    cells = {job.cell.cell_id: job.cell for job in (*plan.jobs, *plan.stages)}
    for number, (cell_id, cell) in enumerate(cells.items(), start=1):
        key = _structure(cell.settings)
        known = memory.get("work", key, CellWork)
        if known is None:
            say(f"counting the operations of {cell.name} ({number} of {len(cells)}) ...")
            try:
                work = work_of(cell.settings)
            except InputError:
                continue
            if work is None:
                continue
            known = work
            memory.put("work", key, known.model_dump())
        works_of_cells[cell_id] = known
    return works_of_cells


def _structure(settings: CellSettings) -> str:
    """Return the key of all that decides what a cell computes."""
    structure = settings.model_dump(
        mode="json", exclude=dict.fromkeys(_WORKLESS, True) | {"train": TIMELESS}
    )
    structure["sam"].pop("weights")
    return digest_json([_COUNTED, structure])[:16]


def main(arguments: Sequence[str]) -> int:
    """Measure the plan that a file names; write the figures, or what is wrong with the input."""
    guard_streams()
    end_with_reader()
    request = Request.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    out, store = Path(arguments[1]), Store(request.runs_dir)
    try:
        suite = load_suite(
            request.suite,
            profile=request.profile,
            overrides=request.overrides,
            seeds=request.seeds,
            allow_missing=True,
        )
        plan = make_plan(suite, store, only=request.only, allow_missing=True)
        start_s = time.time() - request.asked if request.asked else 0.0
        costs = measure_plan(
            plan,
            store,
            probe=request.probe,
            count=request.count,
            say=lambda line: print(line, flush=True),
            start_s=start_s,
        )
    except InputError as error:
        wrong = [error.where, error.key, error.problem, error.fix]
        write_atomic(out, json.dumps({"wrong": wrong}))
        return 2
    write_atomic(out, costs.model_dump_json())
    return 0
