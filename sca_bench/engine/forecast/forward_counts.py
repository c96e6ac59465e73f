"""How often the frozen parts run: each cell alone and without a cache, and as a run will do it.

No torch: numbers of images and regions come from the measured `PlanCosts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sca_bench.engine.features.cache import Cache
from sca_bench.engine.forecast.costs import CellWork, SplitSize
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import Cell, RunSplit, families_of
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.plan.plan import Group, Job
from sca_bench.study.plan.preparations import preparations
from sca_bench.types import Family


@dataclass
class Count:
    """Forward passes of the frozen parts.

    Attributes:
        images: Through the image encoder.
        regions: Through prompt encoder and SAM mixer.
    """

    images: float = 0.0
    regions: float = 0.0

    def add(self, images: float, regions: float) -> None:
        """Count some more."""
        self.images += images
        self.regions += regions


@dataclass(frozen=True)
class Bank:
    """Frozen features of one split that a run will compute and keep.

    Attributes:
        split: The split.
        cell: A cell that reads them.
        missing: Families that are not there yet, with their keys.
        embedded: Whether the embeddings are there, so that nothing is encoded.
    """

    split: RunSplit
    cell: Cell
    missing: Mapping[Family, str] = field(default_factory=dict)
    embedded: bool = False


class Sizes:
    """Sizes of splits, from their files or, where those are missing, from the settings.

    Args:
        known: `split_key` -> size.

    Attributes:
        notes: What was guessed or left out.
        is_whole: Whether every split that was asked for has a size, known or guessed; else what is
            counted with them is a lower bound.
    """

    def __init__(self, known: Mapping[str, SplitSize]) -> None:
        self._known = known
        self.notes: dict[str, None] = {}
        self.is_whole = True

    def of(self, cell: Cell, split: RunSplit) -> SplitSize | None:
        """Return the size of a cell's split; None where there is no such split, or no telling."""
        part, name = cell.identity.split_settings(split), cell.identity.data_split(split)
        if part is None:
            return None
        if (size := self._known.get(split_key(cell, split))) is not None:
            return size
        drawn = cell.settings.train.regions_per_image
        images = part.most_images()
        if images is None:
            self.is_whole = False
            if split != "train":
                self.notes[f"the {name} split is not here: its captions are not counted"] = None
            return None
        if split != "train":
            self.notes[f"regions of the {name} split: {drawn} an image are assumed"] = None
        count = images * drawn
        return SplitSize(images=images, regions=count, views=images, rows=count, drawn=drawn)

    def drawn(self, cell: Cell) -> float:
        """Return how many regions a training draw keeps, at most where the split is not here."""
        size = self._known.get(split_key(cell, "train"))
        most = cell.settings.train.regions_per_image
        if size is None:
            self.notes[f"training draws keep {most} regions an image, at most"] = None
        return size.drawn if size is not None else most


def split_key(cell: Cell, split: RunSplit) -> str:
    """Return the key of a split's size: what is read, and which views of it can be drawn."""
    shown = cell.identity.split_images(split)
    most = cell.settings.train.regions_per_image if split == "train" else None
    return digest_json([shown, most])[:16]


TIMELESS = {
    "learning_rate",
    "betas",
    "weight_decay",
    "warmup_steps",
    "final_lr_ratio",
    "clip_norm",
    "label_smoothing",
    "as_published",
    "steps",
    "order_seed",
    "val_every",
}
"""Settings of a training that move the time of no step."""


def shape_key(group: Group, threads: int) -> str:
    """Return the key of all that decides how long a step and a caption of a group take."""
    cells = [
        [
            job.cell.settings.model_dump(
                mode="json", exclude={"train": TIMELESS, "note": True, "pretraining": True}
            ),
            job.reuses,
            bool(job.cell.stage),
            job.steps > 0,
        ]
        for job in group.jobs
    ]
    return digest_json([cells, threads])[:16]


def reads_sam(cell: Cell) -> bool:
    """Say whether a cell reads what SAM yields."""
    spec = cell.identity.spec
    return spec.looks and bool(spec.parts)


def num_validations(settings: CellSettings, start: int = 0) -> int:
    """Return how often a training looks at its validation split from a step on."""
    train = settings.train
    if settings.data.val is None or start >= train.steps:
        return 0
    return math.ceil(train.steps / train.val_every) - start // train.val_every


def alone(jobs: Iterable[Job], stages: Mapping[str, Cell], sizes: Sizes) -> Count:
    """Count what every run would compute by itself: its pretraining, training and captions.

    Args:
        jobs: Runs (no stages).
        stages: Pretraining stages by cell id.
        sizes: Sizes of the splits.
    """
    count = Count()
    for job in jobs:
        if not reads_sam(job.cell):
            continue
        chain, key = [job.cell], job.cell.starts_from
        while key:
            chain.append(stages[key])
            key = stages[key].starts_from
        for cell in chain:
            _train(count, cell, cell.settings.train.steps, sizes)
        if job.cell.identity.spec.trains == "once":
            _pass(count, job.cell, "train", 1, sizes)
        _pass(count, job.cell, "captioned", 1, sizes)
        if job.cell.settings.eval.also_train:
            _pass(count, job.cell, "train", 1, sizes)
    return count


def _train(count: Count, cell: Cell, steps: int, sizes: Sizes) -> None:
    if cell.identity.spec.trains != "gradient":
        return
    images = steps * cell.settings.train.images_per_batch
    count.add(images, images * sizes.drawn(cell))
    if not cell.stage:
        _pass(count, cell, "val", num_validations(cell.settings), sizes)


def _pass(count: Count, cell: Cell, split: RunSplit, times: int, sizes: Sizes) -> None:
    size = sizes.of(cell, split) if times else None
    if size is not None:
        count.add(times * size.images, times * size.regions)


def banks(groups: Iterable[Group], runs_dir: Path) -> list[Bank]:
    """Return the features that a run of these groups will compute once and keep."""
    listed: list[Bank] = []
    claimed: set[tuple[str, str]] = set()
    for group, splits in preparations(list(groups)):
        for split in splits:
            readers = [job for job in group.jobs if reads_sam(job.cell)]
            if not readers:
                continue
            cell = readers[0].cell  # one preparation's cells have one key for each family
            read = families_of(job.cell.identity for job in readers)
            keys = cell.identity.store_keys(split, read)
            if not keys:
                continue
            # Embeddings alone are no reason to look at images whose features are kept.
            families = {family for family in keys if family in read} or {"images"}
            images = cell.identity.split_images(split)
            cache = Cache.of(runs_dir, cell.settings.runtime)
            is_cached = {
                family: (key, images) in claimed or cache.holds(key, images)
                for family, key in keys.items()
            }
            missing = {family: keys[family] for family in keys if not is_cached[family]}
            if families - {family for family in keys if is_cached[family]}:
                claimed |= {(key, images) for key in keys.values()}
                wanted = {f: key for f, key in missing.items() if f in families}
                listed.append(Bank(split, cell, wanted, is_cached["images"]))
    return listed


def shared(groups: Iterable[Group], runs_dir: Path, sizes: Sizes) -> Count:
    """Count what a run of these groups will compute: kept features once, the others by group."""
    groups, count = list(groups), Count()
    parts = [bank_count(bank, sizes) for bank in banks(groups, runs_dir)]
    for part in [*parts, *(in_group(group.jobs, sizes) for group in groups)]:
        count.add(part.images, part.regions)
    return count


def bank_count(bank: Bank, sizes: Sizes) -> Count:
    """Count what filling a bank takes."""
    size = sizes.of(bank.cell, bank.split)
    if size is None:
        what = f"the {bank.cell.identity.data_split(bank.split)} split is not here"
        sizes.notes[f"{what}: what it takes to keep its features is not counted"] = None
        return Count()
    mixes = bank.cell.settings.features.cache == "all"
    return Count(0 if bank.embedded else size.views, size.rows if mixes else 0)


def in_group(jobs: Iterable[Job], sizes: Sizes) -> Count:
    """Count what a group computes anew at every step; its first run represents all."""
    lead = next((job for job in jobs if reads_sam(job.cell)), None)
    once = Count()
    if lead is None:
        return once
    settings = lead.cell.settings
    for split in lead.splits:
        if split in lead.cached_splits:
            continue
        part = Count()
        if split == "train" and lead.steps:
            images = lead.steps * settings.train.images_per_batch
            part.add(images, images * sizes.drawn(lead.cell))
        elif split != "train":
            times = 1 if split == "captioned" else num_validations(settings)
            _pass(part, lead.cell, split, times, sizes)
        if split == "train" and (settings.eval.also_train or not lead.steps):
            _pass(part, lead.cell, split, 1, sizes)
        once.add(0 if lead.cell.identity.caches(split) else part.images, part.regions)
    return once


def cache_bytes(
    groups: Iterable[Group], runs_dir: Path, sizes: Sizes, works: Mapping[str, CellWork]
) -> float:
    """Return what the features that a run will keep take on disk, as far as it is known."""
    total = 0.0
    for bank in banks(groups, runs_dir):
        size, work = sizes.of(bank.cell, bank.split), works.get(bank.cell.cell_id)
        if size is None or work is None:
            continue
        for family in bank.missing:
            rows = size.views if family == "images" else size.rows
            total += rows * work.row_bytes.get(family, 0)
    return total
