"""The smallest cells of every registered variant, and their way through the engine on a device."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from device.ghost import ghost_cuda
from sca_bench.contract.captioners.cell import tiny_cell
from sca_bench.data.load import load_split
from sca_bench.engine.device import computing
from sca_bench.engine.job import CellJob, GroupJob, Outcome, new_attempt
from sca_bench.engine.worker.group_run import GroupRun
from sca_bench.engine.worker.prepare import prepare
from sca_bench.metrics.rows import read_rows
from sca_bench.plugins import attribute
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.variants import SCA_PARTS, all_variants

VARIANTS = {name: spec for name, spec in all_variants().items() if not spec.fault}
DESIGNS = [
    name for name, spec in VARIANTS.items() if spec.trains == "gradient" and spec.parts == SCA_PARTS
]
SMALLEST: dict[str, Any] = {
    "data.train.num_images": 2,
    "data.test.num_images": 1,
    "eval.max_new_tokens": 4,
}


def smallest(name: str, folder: Path, *changes: Mapping[str, Any]) -> CellSettings:
    """Return the smallest settings of a variant, with changes by dotted path.

    Args:
        name: Of the variant.
        folder: Where files may be made that it reads.
        *changes: Later ones are stronger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    example = VARIANTS[name].example
    given = attribute(example)(folder) if example else {}
    settings = tiny_cell(name, given, SMALLEST, *changes)
    if name != "predictions":
        return settings
    regions = load_split(settings.data.test).regions
    rows = [json.dumps({"region_id": r.region_id, "caption": r.region_id}) for r in regions]
    (folder / "captions.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    made = {"baseline.weights": str(folder / "captions.jsonl")}
    return tiny_cell(name, given, SMALLEST, *changes, made)


@contextlib.contextmanager
def make_believe(kind: str) -> Iterator[str]:
    """Yield the name of a device: `cpu`, `cuda`, or `cuda` where `kind` is `ghost`."""
    with ghost_cuda() if kind == "ghost" else contextlib.nullcontext():
        yield "cpu" if kind == "cpu" else "cuda"


class Ran(NamedTuple):
    """What is left of a run.

    Attributes:
        record: Its record.
        captions: Of the split that is captioned.
        weights: What was trained; empty where nothing was.
        losses: Of its steps.
    """

    record: RunRecord
    captions: list[str]
    weights: dict[str, torch.Tensor]
    losses: list[float]


def job_of(cells: Sequence[CellSettings], runs: Path, device: str, seed: int = 0) -> GroupJob:
    """Return the job of a group of cells."""
    found = []
    for settings in cells:
        identity = CellIdentity(settings, Fingerprints().inputs(settings))
        found.append(CellJob(identity.cell_key, settings.variant, seed, identity))
        Store(runs).run_dir(identity.cell_key, seed).mkdir(parents=True, exist_ok=True)
    return GroupJob(str(runs), found, "cells", new_attempt("cells"), 1, device, "pytest")


def run(job: GroupJob, *, prepares: bool = True) -> Outcome:
    """Prepare and run a group, here.

    Args:
        job: The group.
        prepares: Whether features are kept and pictures are made beforehand.
    """
    torch.set_num_threads(1)
    outcome = Outcome()
    with computing(job.cells[0].settings, torch.device(job.device)):
        if prepares:
            prepare(job, outcome, Path(job.runs_dir) / "prepare.progress")
        GroupRun(job, outcome).run()
    return outcome


def results(job: GroupJob) -> list[Ran]:
    """Return what is left of each run of a job."""
    return [result(Store(job.runs_dir), cell) for cell in job.cells]


def result(store: Store, cell: CellJob) -> Ran:
    """Return what is left of one run."""
    folder = store.run_dir(cell.cell_id, cell.seed)
    record = store.record(cell.cell_id, cell.seed)
    assert record is not None
    weights, captions = folder / "trainable.safetensors", folder / PREDICTIONS
    return Ran(
        record,
        [row.caption for row in read_rows(captions)] if captions.exists() else [],
        load_file(weights) if weights.exists() else {},
        [row["loss"] for row in store.log(cell.cell_id, cell.seed) if "loss" in row],
    )


def run_all(cells: Mapping[str, CellSettings], runs: Path, device: str) -> dict[str, Ran | str]:
    """Run cells in the groups that a plan would make; return what is left of each, or its fault."""
    groups: dict[str, list[str]] = {}
    for name, settings in cells.items():
        identity = CellIdentity(settings, Fingerprints().inputs(settings))
        groups.setdefault(identity.prefix_key, []).append(name)
    found: dict[str, Ran | str] = {}
    for names in groups.values():
        job = job_of([cells[name] for name in names], runs, device)
        try:
            run(job)
            found.update(zip(names, results(job), strict=True))
        except Exception as error:
            found.update(dict.fromkeys(names, f"{type(error).__name__}: {error}"))
    return found
