"""Data sets and loaders of a group, from its settings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset, Subset, get_worker_info

from sca_bench.batch import RegionBatch
from sca_bench.data.load import load_split
from sca_bench.data.pipeline.collate import ImageSample, collate
from sca_bench.data.pipeline.dataset import RegionDataset, ViewDataset
from sca_bench.data.pipeline.sampling import EvalSampler, SeekableSampler
from sca_bench.data.region_set import RegionSet
from sca_bench.engine.fork_servers import end_with_trainer, loader_processes
from sca_bench.errors import InputError, ScaBenchError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import SPLITS, CellIdentity, RunSplit


def load_splits(cell: CellIdentity) -> dict[RunSplit, RegionSet]:
    """Read every split that a run needs.

    Raises:
        InputError: A file is missing or damaged.
    """
    sets: dict[RunSplit, RegionSet] = {}
    for name in SPLITS:
        split = cell.split_settings(name)
        if split is not None:
            sets[name] = load_split(split)
            sets[name].check_images()
    return sets


def make_dataset(
    sets: Mapping[RunSplit, RegionSet],
    split: RunSplit,
    cell: CellIdentity,
    *,
    image_size: int,
    seed: int,
    with_pixels: bool,
    training: bool | None = None,
) -> RegionDataset:
    """Return the torch data set of one split; `training` decides on draws, not the split's name.

    Where `training` is None, the training split is drawn from and the others are captioned.

    Raises:
        InputError: The prompt needs masks, and a region has none.
    """
    settings = cell.settings
    return RegionDataset(
        sets[split],
        image_size=image_size,
        pixels=cell.encoder.pixel_stats,
        prompt=cell.prompt(split),
        prompt_seed=settings.eval.prompt_seed,
        regions_per_image=settings.train.regions_per_image,
        training=split == "train" if training is None else training,
        seed=seed,
        augmentation=settings.data,
        permute_captions=settings.data.permute_captions,
        blank_images=settings.data.blank_images,
        with_pixels=with_pixels,
        with_originals=cell.spec.needs_originals,
    )


Ahead = Callable[[RegionBatch], RegionBatch]
"""What is done to a batch before the step that needs it, in a loader's own process if it has any:
kept features are read (`FeatureBank.attach`), captioners prepare their input (`PreparesBatches`).
Such a process gets a copy of it."""


@dataclass(frozen=True)
class InOrder:
    """Several things that are done to a batch, one after another."""

    steps: tuple[Ahead, ...]

    def __call__(self, batch: RegionBatch) -> RegionBatch:
        """Return the batch after all of them."""
        for step in self.steps:
            batch = step(batch)
        return batch


def train_loader(
    dataset: RegionDataset,
    settings: CellSettings,
    *,
    seed: int,
    start: int,
    pin_memory: bool = False,
    ahead: Ahead | None = None,
) -> DataLoader[Any]:
    """Return the endless training loader, beginning after `start` steps.

    Args:
        dataset: The training split.
        settings: The cell, or the first one of a group.
        seed: Seed of the data order.
        start: Steps that were made before.
        pin_memory: Put batches into page-locked memory, for a job on CUDA; it starts CUDA in this
            process, so a job on the CPU leaves it alone even where there is a GPU.
        ahead: What is done to each batch beforehand.
    """
    size = settings.train.images_per_batch
    sampler = SeekableSampler(
        len(dataset),
        seed,
        start=start * size,
        parts=[(len(p.region_set.images), p.weight) for p in dataset.region_set.parts] or None,
    )
    return _Loader(
        _Items(dataset),
        batch_size=size,
        sampler=sampler,  # type: ignore[arg-type]
        collate_fn=_Collate(collate, ahead),
        persistent_workers=settings.runtime.loader_workers > 0,
        pin_memory=pin_memory,
        **_processes(settings),
    )


def eval_loader(
    dataset: RegionDataset,
    settings: CellSettings,
    regions: int = 0,
    *,
    pin_memory: bool = False,
    ahead: Ahead | None = None,
) -> DataLoader[Any]:
    """Return a loader that yields every image once, about so many regions at a time.

    Args:
        dataset: The split.
        settings: Of the cell.
        regions: How many; as `runtime.eval_regions` says where 0.
        pin_memory: Whether batches are copied to pinned memory.
        ahead: What else is read with each batch.
    """
    sampler = EvalSampler(len(dataset))
    more = {"sampler": sampler, "pin_memory": pin_memory}
    return _loader(dataset, dataset, settings, ahead, regions, **more)


def stored_loader(dataset: RegionDataset, settings: CellSettings) -> DataLoader[Any]:
    """Return a loader over every image as it is stored, with the captions it is trained on."""
    return _loader(ViewDataset(dataset, stored_only=True), dataset, settings)


def view_loader(
    views: ViewDataset, positions: Sequence[int], settings: CellSettings
) -> DataLoader[Any]:
    """Return a loader over some (image, view) pairs, about `eval_regions` regions at a time."""
    return _loader(Subset(views, positions), views.dataset, settings)


def _loader(
    items: Dataset[ImageSample],
    dataset: RegionDataset,
    settings: CellSettings,
    ahead: Ahead | None = None,
    regions: int = 0,
    **more: Any,
) -> DataLoader[Any]:
    per_image = max(1.0, len(dataset.region_set.regions) / max(1, len(dataset)))
    return _Loader(
        _Items(items),
        batch_size=max(1, round((regions or settings.runtime.regions_at_a_time) / per_image)),
        collate_fn=_Collate(collate, ahead),
        **_processes(settings),
        **more,
    )


@dataclass(frozen=True)
class _Fault:
    """What went wrong with a batch, perhaps in a loader's process.

    An error of ours has to arrive as it was raised: torch would hand on its traceback as a text.
    """

    error: ScaBenchError


class _Items(Dataset[ImageSample]):
    """A data set that gives several items at a time, or what went wrong with one."""

    def __init__(self, items: Dataset[ImageSample]) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> ImageSample:
        return self.items[index]

    def __getitems__(self, indices: Sequence[Any]) -> list[ImageSample] | _Fault:
        try:
            return [self.items[index] for index in indices]
        except ScaBenchError as error:
            return _Fault(error)

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Collate:
    """Makes a batch of samples, and does to it what is done beforehand."""

    collate: Callable[[Sequence[ImageSample]], RegionBatch]
    ahead: Ahead | None

    def __call__(self, samples: Sequence[ImageSample] | _Fault) -> RegionBatch | _Fault:
        if isinstance(samples, _Fault):
            return samples
        batch = self.collate(samples)
        try:
            batch = batch if self.ahead is None else self.ahead(batch)
        except ScaBenchError as error:
            return _Fault(error)
        if get_worker_info() is not None and isinstance(batch, RegionBatch):
            # Here, for torch does it in a thread whose failure nobody would ever hear of.
            return batch.share_memory()
        return batch


class _Loader(DataLoader[Any]):
    """A loader that raises what went wrong with a batch."""

    def __iter__(self) -> Any:
        try:
            for batch in super().__iter__():
                if isinstance(batch, _Fault):
                    raise batch.error
                yield batch
        except RuntimeError as error:
            if any(text in str(error) for text in _NO_ROOM):
                raise _no_room(self.num_workers) from None
            raise


_NO_ROOM = ("shared memory", "</torch_")
"""What torch says where a batch does not fit: in words, or by the name of the file that it is."""
_SHARED = "/dev/shm"


def _no_room(workers: int) -> InputError:
    """Return what is wrong where batches of loaders' processes do not fit into shared memory."""
    size = ""
    with suppress(OSError):
        room = shutil.disk_usage(_SHARED)
        size = f" ({_SHARED}: {room.free >> 20:,} of {room.total >> 20:,} MiB are free)"
    problem = f"{workers}: there is no room for their batches in shared memory{size}"
    fix = "enlarge it (`docker run --shm-size=8g`), or use fewer processes; 0 needs none"
    return InputError("settings", "runtime.loader_workers", problem, fix)


def _processes(settings: CellSettings) -> dict[str, Any]:
    """Return what a loader is told of its worker processes."""
    workers = settings.runtime.loader_workers
    if workers == 0:
        return {}
    return {
        "num_workers": workers,
        "multiprocessing_context": loader_processes(),
        "worker_init_fn": end_with_trainer,
    }
