"""What a plan would take: figures that a process of its own measured or computed. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitSize(_Figures):
    """How much a split holds.

    Attributes:
        images: Images.
        regions: Regions.
        views: (image, view) pairs that a cache keeps.
        rows: (region, view) pairs that a cache keeps.
        drawn: Mean number of regions that one training draw of an image keeps.
    """

    images: int
    regions: int
    views: int
    rows: int
    drawn: float


Rate = Literal["half", "tf32", "single", "none"]
"""Which peak of a GPU bounds an operation: that of half precision, TensorFloat-32 or float32, or
none of them."""


_DIGITS = 2
"""Operations per byte are told apart to so many digits."""


class Kernels(_Figures):
    """Kernels of a GPU that make about as many operations for every byte.

    Attributes:
        rate: The peak that bounds them.
        launches: How many.
        flop: Floating-point operations of all (a multiply and an add are two).
        bytes: Bytes that all of them read and write.
    """

    rate: Rate
    launches: float
    flop: float
    bytes: float


class Work(_Figures):
    """What one part of a cell has a GPU do.

    Attributes:
        kernels: Its kernels, those of like kind together.
    """

    kernels: list[Kernels] = []

    @classmethod
    def of(cls, kernels: Iterable[Kernels], times: float = 1.0) -> Work:
        """Put kernels together, each `times` times."""
        kinds: dict[tuple[Rate, float], list[float]] = {}
        for k in kernels:
            alike = (k.rate, float(f"{k.flop / max(1.0, k.bytes):.{_DIGITS}g}"))
            sums = kinds.setdefault(alike, [0.0, 0.0, 0.0])
            for place, value in enumerate((k.launches, k.flop, k.bytes)):
                sums[place] += times * value
        return cls(
            kernels=[
                Kernels(rate=rate, launches=launches, flop=flop, bytes=moved)
                for (rate, _), (launches, flop, moved) in kinds.items()
            ]
        )

    def times(self, factor: float) -> Work:
        """Return so many times this work."""
        return Work.of(self.kernels, factor)

    @property
    def launches(self) -> float:
        """Kernels in all."""
        return sum(k.launches for k in self.kernels)

    @property
    def flop(self) -> float:
        """Floating-point operations in all."""
        return sum(k.flop for k in self.kernels)

    @property
    def bytes(self) -> float:
        """Bytes that are read and written in all."""
        return sum(k.bytes for k in self.kernels)


class CellWork(_Figures):
    """What one cell has a GPU do.

    Attributes:
        encoder_image: Image encoder, one image.
        mixer_region: Prompt encoder and SAM mixer, one region.
        own_step: Forward and backward pass of all that is the cell's own, text decoder included,
            for a full batch: every image with as many regions as a draw may keep.
        caption_region: Captioning one region at the greatest length.
        trained_gib: Trained weights.
        frozen_gib: Frozen weights, which the cells of a group share.
        step_gib: The highest point of what one step keeps and makes beside the weights.
        row_bytes: Family of features -> bytes that a cache keeps of one region (or image).
    """

    encoder_image: Work
    mixer_region: Work
    own_step: Work
    caption_region: Work
    trained_gib: float
    frozen_gib: float
    step_gib: float
    row_bytes: dict[str, int]


class GroupProbe(_Figures):
    """What a probe run of a group took on this machine, in seconds.

    Attributes:
        load_s: Reading all its splits.
        prepare_s: A preparation without reading, thumbnails and features.
        thumbnail_s: One captioned image's thumbnail.
        feature_s: Frozen features of one image with its regions.
        run_s: A run without reading, steps, validation and captions.
        step_s: One step of all its cells, with reading the batch.
        val_s: Validation of all its cells, one image.
        caption_s: Captions of all its cells, one image.
        save_s: One checkpoint of all its cells.
        cpu_share: Share of its core that a one-thread worker got; the rest went to other programs.
        memory_mib: Peak memory of a worker.
        bytes: What the kept features of one training image take on disk.
    """

    load_s: float
    prepare_s: float
    thumbnail_s: float
    feature_s: float
    run_s: float
    step_s: float
    val_s: float
    caption_s: float
    save_s: float
    cpu_share: float = 1.0
    memory_mib: float
    bytes: float


class Overheads(_Figures):
    """What a run takes beside its groups, in seconds.

    Attributes:
        start_s: From the prompt until the first process is asked for.
        pool_s: The server that processes are forked from, once.
        score_s: Starting the scorers and scoring the first run.
        score_more_s: Every further run.
        mirror_s: Opening the MLflow mirror.
        mirror_more_s: Mirroring one finished run.
    """

    start_s: float
    pool_s: float
    score_s: float
    score_more_s: float
    mirror_s: float
    mirror_more_s: float


class PlanCosts(_Figures):
    """All that is known of a plan's cost.

    Attributes:
        device: Device that the runs would use.
        cores: CPU cores.
        gpus: GPUs.
        sizes: `split_key` -> size; a split whose files are missing has none.
        works: Cell id -> work; only cells that can be sized.
        probes: `shape_key` of a group -> what its probe run took; empty without a probe.
        overheads: What a run takes beside its groups; None without a probe.
        notes: What is not known, and why.
    """

    device: str
    cores: int
    gpus: int = 0
    sizes: dict[str, SplitSize] = {}
    works: dict[str, CellWork] = {}
    probes: dict[str, GroupProbe] = {}
    overheads: Overheads | None = None
    notes: list[str] = []

    @staticmethod
    def wrong_input(text: str) -> list[str]:
        """Return `where, key, problem, fix` of an input error that stands in place of figures."""
        parts: list[str] = json.loads(text)["wrong"]
        return parts


class Request(_Figures):
    """What is to be measured.

    Attributes:
        suite: The suite file.
        profile: Its profile; the suite's own where None.
        overrides: `path=value` settings.
        seeds: In place of the suite's.
        only: Pattern over cell names.
        runs_dir: The runs folder.
        probe: Whether to measure on this machine.
        count: Whether to count operations.
        asked: Time of asking, to tell how long a process takes to start.
    """

    suite: str
    profile: str | None = None
    overrides: list[str] = []
    seeds: list[int] | None = None
    only: str | None = None
    runs_dir: str
    probe: bool = True
    count: bool = False
    asked: float = 0.0
