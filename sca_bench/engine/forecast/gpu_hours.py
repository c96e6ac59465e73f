"""What a plan takes of a named GPU, by counting operations. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sca_bench.engine.forecast.costs import CellWork
from sca_bench.engine.forecast.forward_counts import (
    Count,
    Sizes,
    alone,
    bank_count,
    banks,
    in_group,
    num_validations,
)
from sca_bench.study.keys.cell import Cell, RunSplit
from sca_bench.study.plan.plan import Group, Job

PEAK_FLOPS = {"a100": 312e12, "h100": 989e12}
"""Dense fp16 tensor operations a second, by NVIDIA's data sheets: A100 80 GB and H100, both SXM."""


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of a plan's runs.

    Attributes:
        alone: Cell id -> of one seed by itself, its pretraining included.
        shared: Cell id -> of one seed in its group: its own part, and its share of the frozen one.
        cached: Of the features that are computed once for all.
        total_alone: Of all runs, each by itself.
        total_shared: Of all runs and stages, as they will run.
    """

    alone: Mapping[str, float]
    shared: Mapping[str, float]
    cached: float
    total_alone: float
    total_shared: float


def gpu_hours(operations: float, gpu: str, utilisation: float) -> float:
    """Return the hours that one GPU takes for some operations."""
    return operations / (PEAK_FLOPS[gpu] * utilisation) / 3600


def operations(
    groups: Sequence[Group],
    stages: Mapping[str, Cell],
    runs_dir: Path,
    sizes: Sizes,
    works: Mapping[str, CellWork],
) -> Operations:
    """Count the operations of runs, alone and in their groups; cells without a size are left out.

    Args:
        groups: The runs, stages among them, as they share.
        stages: Pretraining stages by cell id.
        runs_dir: The runs folder, which may hold features already.
        sizes: Sizes of the splits.
        works: Cell id -> what it computes.
    """
    by_itself: dict[str, float] = {}
    together: dict[str, float] = {}
    total_alone = total_shared = 0.0
    for group in groups:
        jobs = [job for job in group.jobs if job.cell.cell_id in works]
        if not jobs:
            continue
        frozen = _frozen(in_group(jobs, sizes), works[jobs[0].cell.cell_id])
        for job in jobs:
            mine = frozen / len(jobs) + _own(job.cell, job.steps, works, sizes)
            together[job.cell.cell_id] = mine
            total_shared += mine
            if not job.cell.stage:
                work = works[job.cell.cell_id]
                own = _own(job.cell, job.cell.settings.train.steps, works, sizes)
                own += sum(
                    _own(stage, stage.settings.train.steps, works, sizes)
                    for stage in _chain(job.cell, stages)
                    if stage.cell_id in works
                )
                by_itself[job.cell.cell_id] = own + _frozen(alone([job], stages, sizes), work)
                total_alone += by_itself[job.cell.cell_id]
    cached = sum(
        _frozen(bank_count(bank, sizes), works[bank.cell.cell_id])
        for bank in banks(groups, runs_dir)
        if bank.cell.cell_id in works
    )
    return Operations(by_itself, together, cached, total_alone, total_shared + cached)


def _chain(cell: Cell, stages: Mapping[str, Cell]) -> Iterable[Cell]:
    while cell.starts_from:
        cell = stages[cell.starts_from]
        yield cell


def _frozen(count: Count, work: CellWork) -> float:
    return count.images * work.encoder_image + count.regions * work.mixer_region


def _own(cell: Cell, steps: int, works: Mapping[str, CellWork], sizes: Sizes) -> float:
    """Return the operations of a cell's own part; a step with fewer regions takes its share."""
    work, settings = works[cell.cell_id], cell.settings
    trains = cell.identity.spec.trains == "gradient"
    share = min(1.0, sizes.drawn(cell) / settings.train.regions_per_image)
    total = steps * work.own_step * share if trains else 0.0
    if cell.stage:
        return total
    validations = num_validations(settings) if steps else 0
    captions: dict[RunSplit, int] = {"val": validations, "captioned": 1}
    captions["train"] = int(settings.eval.also_train)
    for split, times in captions.items():
        size = sizes.of(cell, split) if times else None
        if size is not None:
            total += times * size.regions * work.caption_region
    return total


def peak_gib(jobs: Iterable[Job], works: Mapping[str, CellWork]) -> float:
    """Return the memory of a group in GiB: frozen weights once, and one cell's step at a time.

    Trained weights and AdamW's two moments are held for every cell, gradients for one.
    """
    known = [works[job.cell.cell_id] for job in jobs if job.cell.cell_id in works]
    if not known:
        return 0.0
    frozen = max(work.frozen_gib for work in known)
    trained = sum(3 * work.trained_gib for work in known)
    return frozen + trained + max(work.trained_gib + work.step_gib for work in known)
