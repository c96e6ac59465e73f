"""Data sets and loaders of a group, from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, Subset

from sca_bench.data.load import load_split
from sca_bench.data.pipeline.collate import ImageSample, collate
from sca_bench.data.pipeline.dataset import RegionDataset, ViewDataset
from sca_bench.data.pipeline.sampling import EvalSampler, SeekableSampler
from sca_bench.data.region_set import RegionSet
from sca_bench.engine.fork_servers import end_with_trainer, loader_processes
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


def train_loader(
    dataset: RegionDataset,
    settings: CellSettings,
    *,
    seed: int,
    start: int,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return the endless training loader, beginning after `start` steps.

    Args:
        dataset: The training split.
        settings: The cell, or the first one of a group.
        seed: Seed of the data order.
        start: Steps that were made before.
        pin_memory: Put batches into page-locked memory, for a job on CUDA; it starts CUDA in this
            process, so a job on the CPU leaves it alone even where there is a GPU.
    """
    size = settings.train.images_per_batch
    return DataLoader(
        dataset,
        batch_size=size,
        sampler=SeekableSampler(  # type: ignore[arg-type]
            len(dataset),
            seed,
            start=start * size,
            parts=[(len(p.region_set.images), p.weight) for p in dataset.region_set.parts] or None,
        ),
        collate_fn=collate,
        persistent_workers=settings.runtime.loader_workers > 0,
        pin_memory=pin_memory,
        **_processes(settings),
    )


def eval_loader(
    dataset: RegionDataset, settings: CellSettings, regions: int = 0
) -> DataLoader[Any]:
    """Return a loader that yields every image once, about so many regions at a time.

    Args:
        dataset: The split.
        settings: Of the cell.
        regions: How many; as `runtime.eval_regions` says where 0.
    """
    sampler = EvalSampler(len(dataset))
    return _loader(dataset, dataset, settings, regions, sampler=sampler)


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
    regions: int = 0,
    **more: Any,
) -> DataLoader[Any]:
    per_image = max(1.0, len(dataset.region_set.regions) / max(1, len(dataset)))
    return DataLoader(
        items,
        batch_size=max(1, round((regions or settings.runtime.regions_at_a_time) / per_image)),
        collate_fn=collate,
        **_processes(settings),
        **more,
    )


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
