"""What a plan takes of a named GPU, by counting operations and bytes. No torch.

Every kernel takes as long as its operations at the GPU's peak, or its bytes at the GPU's bandwidth,
whichever is longer (its *roofline*), and a moment between it and the next. A part of a run takes
the sum of that, or the time in which its kernels can be launched from Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sca_bench.engine.forecast.costs import CellWork, Rate, Work
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
from sca_bench.study.keys.stack import stack_key
from sca_bench.study.plan.plan import Group, Job


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet.

    Attributes:
        half: Dense operations a second in fp16 or bf16, added up in float32.
        tf32: Dense operations a second in TensorFloat-32.
        single: Operations a second in float32, without tensor cores.
        bandwidth: Bytes a second between the GPU and its memory.
        memory_gib: Its memory.
    """

    half: float
    tf32: float
    single: float
    bandwidth: float
    memory_gib: float

    def seconds(self, work: Work, utilisation: float) -> float:
        """Return how long it takes for some work.

        Args:
            work: What it does.
            utilisation: Share of its peak that matrix products reach.
        """
        peaks: dict[Rate, float] = {"half": self.half, "tf32": self.tf32, "single": self.single}
        busy = sum(
            max(
                k.bytes / (self.bandwidth * MEMORY_SHARE),
                k.flop / (peaks[k.rate] * utilisation) if k.flop else 0.0,
            )
            for k in work.kernels
        )
        return max(busy + work.launches * _BETWEEN_S, work.launches * _LAUNCH_S)


GPUS = {
    "a100": Gpu(312e12, 156e12, 19.5e12, 2.039e12, 80),  # A100 80 GB SXM
    "h100": Gpu(989e12, 494.5e12, 67e12, 3.35e12, 80),  # H100 SXM
    "h200": Gpu(989e12, 494.5e12, 67e12, 4.8e12, 141),  # H200 SXM
    "l40s": Gpu(362e12, 183e12, 91.6e12, 0.864e12, 48),  # L40S
    "rtx4090": Gpu(165e12, 82.6e12, 82.6e12, 1.008e12, 24),  # GeForce RTX 4090
}
"""By NVIDIA's data sheets of the A100, H100, H200 and L40S (half of what they say with sparsity),
and for the RTX 4090 by appendix A of the one on the Ada architecture (added up in float32)."""
MATRIX_SHARE = 0.6
"""Share of the peak that matrix products reach: 80 % was seen on an H200 for the largest ones, and
a step's are assumed to reach three quarters of that."""
MEMORY_SHARE = 0.76
"""Share of the bandwidth: 90 % was seen on an H200 for copies, and 85 % of that is assumed."""
_BETWEEN_S = 1.5e-6
_LAUNCH_S = 5e-6
"""From one kernel's end to the next one's start, and from one launch to the next."""


@dataclass(frozen=True)
class PartTimes:
    """How long the parts of a cell take on a GPU, in seconds.

    Attributes:
        encoder_image: Image encoder, one image.
        mixer_region: Prompt encoder and SAM mixer, one region.
        own_step: A step of all that is the cell's own, with a full batch.
        caption_region: Captioning one region at the greatest length.
    """

    encoder_image: float
    mixer_region: float
    own_step: float
    caption_region: float

    @classmethod
    def of(cls, work: CellWork, gpu: Gpu, utilisation: float) -> PartTimes:
        """Return the times of a cell's work."""
        return cls(
            *(
                gpu.seconds(part, utilisation)
                for part in (
                    work.encoder_image,
                    work.mixer_region,
                    work.own_step,
                    work.caption_region,
                )
            )
        )


@dataclass(frozen=True)
class GpuTime:
    """Seconds that a plan's runs take of one GPU.

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


def gpu_time(
    groups: Sequence[Group],
    stages: Mapping[str, Cell],
    runs_dir: Path,
    sizes: Sizes,
    parts: Mapping[str, PartTimes],
) -> GpuTime:
    """Add up what runs take, alone and in their groups; cells without a size are left out.

    Args:
        groups: The runs, stages among them, as they share.
        stages: Pretraining stages by cell id.
        runs_dir: The runs folder, which may hold features already.
        sizes: Sizes of the splits.
        parts: Cell id -> what its parts take.
    """
    by_itself: dict[str, float] = {}
    together: dict[str, float] = {}
    total_alone = total_shared = 0.0
    for group in groups:
        jobs = [job for job in group.jobs if job.cell.cell_id in parts]
        if not jobs:
            continue
        frozen = _frozen(in_group(jobs, sizes), parts[jobs[0].cell.cell_id])
        for job in jobs:
            mine = frozen / len(jobs) + _own(job.cell, job.steps, parts, sizes)
            together[job.cell.cell_id] = mine
            total_shared += mine
            if not job.cell.stage:
                took = parts[job.cell.cell_id]
                own = _own(job.cell, job.cell.settings.train.steps, parts, sizes)
                own += sum(
                    _own(stage, stage.settings.train.steps, parts, sizes)
                    for stage in _chain(job.cell, stages)
                    if stage.cell_id in parts
                )
                by_itself[job.cell.cell_id] = own + _frozen(alone([job], stages, sizes), took)
                total_alone += by_itself[job.cell.cell_id]
    cached = sum(
        _frozen(bank_count(bank, sizes), parts[bank.cell.cell_id])
        for bank in banks(groups, runs_dir)
        if bank.cell.cell_id in parts
    )
    return GpuTime(by_itself, together, cached, total_alone, total_shared + cached)


def _chain(cell: Cell, stages: Mapping[str, Cell]) -> Iterable[Cell]:
    while cell.starts_from:
        cell = stages[cell.starts_from]
        yield cell


def _frozen(count: Count, took: PartTimes) -> float:
    return count.images * took.encoder_image + count.regions * took.mixer_region


def _own(cell: Cell, steps: int, parts: Mapping[str, PartTimes], sizes: Sizes) -> float:
    """Return the time of a cell's own part; a step with fewer regions takes its share."""
    took, settings = parts[cell.cell_id], cell.settings
    trains = cell.identity.spec.trains == "gradient"
    share = min(1.0, sizes.drawn(cell) / settings.train.regions_per_image)
    total = steps * took.own_step * share if trains else 0.0
    if cell.stage:
        return total
    validations = num_validations(settings) if steps else 0
    captions: dict[RunSplit, int] = {"val": validations, "captioned": 1}
    captions["train"] = int(settings.eval.also_train)
    for split, times in captions.items():
        size = sizes.of(cell, split) if times else None
        if size is not None:
            total += times * size.regions * took.caption_region
    return total


def peak_gib(jobs: Iterable[Job], works: Mapping[str, CellWork]) -> float:
    """Return the memory of a group in GiB: frozen weights once, and one cell's step at a time.

    Trained weights and AdamW's two moments are held for every cell, gradients for one. Cells that
    are stepped as one hold gradients and all of a step at the same time.
    """
    known = [(job, works[job.cell.cell_id]) for job in jobs if job.cell.cell_id in works]
    if not known:
        return 0.0
    steps: dict[str, float] = {}
    for job, work in known:
        key = stack_key(job.cell.identity) or job.name
        steps[key] = steps.get(key, 0.0) + work.trained_gib + work.step_gib
    frozen = max(work.frozen_gib for _, work in known)
    trained = sum(3 * work.trained_gib for _, work in known)
    return frozen + trained + max(steps.values())
