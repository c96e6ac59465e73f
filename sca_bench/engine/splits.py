"""Data sets and loaders of a group, from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from sca_bench.data.collate import collate
from sca_bench.data.dataset import RegionDataset, ViewDataset
from sca_bench.data.load import load_split
from sca_bench.data.region_set import RegionSet
from sca_bench.data.sampling import EvalSampler, SeekableSampler
from sca_bench.settings import CellSettings
from sca_bench.study.cell import data_split, features_key
from sca_bench.types import Family
from sca_bench.variants import get_variant

SPLITS = ("train", "val", "test")


def load_splits(settings: CellSettings, where: str) -> dict[str, RegionSet]:
    """Read every split that a run needs; `test` is what it captions, whichever split that is.

    Raises:
        InputError: A file is missing or damaged, or two splits share an image.
    """
    sets: dict[str, RegionSet] = {}
    for name in SPLITS:
        split = getattr(settings.data, data_split(settings, name))
        if split is not None:
            sets[name] = load_split(split, where)
            sets[name].check_images()
    return sets


def cached_splits(settings: CellSettings, sets: dict[str, RegionSet]) -> list[str]:
    """Return the splits whose frozen features can be kept: not one whose images are jittered."""
    if settings.features.cache != "all":
        return []
    jittered = settings.data.lsj_scale is not None
    return [name for name in sets if not (name == "train" and jittered)]


def make_dataset(
    sets: dict[str, RegionSet],
    split: str,
    settings: CellSettings,
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
    return RegionDataset(
        sets[split],
        image_size=image_size,
        prompt=settings.train.prompt if split != "test" else settings.eval.prompt,
        prompt_seed=settings.eval.prompt_seed,
        regions_per_image=settings.train.regions_per_image,
        training=split == "train" if training is None else training,
        seed=seed,
        augmentation=settings.data,
        permute_captions=settings.data.permute_captions,
        blank_images=settings.data.blank_images,
        with_pixels=with_pixels,
        with_originals=get_variant(settings.variant).needs_originals,
    )


def train_loader(
    dataset: RegionDataset, settings: CellSettings, *, seed: int, start: int
) -> DataLoader[Any]:
    """Return the endless training loader, standing behind `start` steps."""
    size = settings.train.images_per_batch
    workers = settings.runtime.loader_workers
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
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def eval_loader(dataset: RegionDataset, settings: CellSettings) -> DataLoader[Any]:
    """Return a loader that yields every image once, about `eval_regions` regions at a time."""
    regions = len(dataset.region_set.regions)
    per_image = max(1.0, regions / max(1, len(dataset)))
    return DataLoader(
        dataset,
        batch_size=max(1, round(settings.runtime.eval_regions / per_image)),
        sampler=EvalSampler(len(dataset)),  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=settings.runtime.loader_workers,
    )


def stored_loader(dataset: RegionDataset, settings: CellSettings) -> DataLoader[Any]:
    """Return a loader over every image as it is stored, with the captions it is trained on."""
    regions = len(dataset.region_set.regions)
    per_image = max(1.0, regions / max(1, len(dataset)))
    return DataLoader(
        ViewDataset(dataset, stored_only=True),
        batch_size=max(1, round(settings.runtime.eval_regions / per_image)),
        collate_fn=collate,
        num_workers=settings.runtime.loader_workers,
    )


def view_loader(dataset: RegionDataset, settings: CellSettings) -> tuple[DataLoader[Any], int, int]:
    """Return a loader over every (image, view), and the numbers of (region, view) and of those."""
    views = ViewDataset(dataset)
    rows = sum(len(dataset.region_set.regions_of(image_id)) for image_id, _ in views.keys)
    regions = len(dataset.region_set.regions)
    per_image = max(1.0, regions / max(1, len(dataset)))
    loader = DataLoader(
        views,
        batch_size=max(1, round(settings.runtime.eval_regions / per_image)),
        collate_fn=collate,
        num_workers=settings.runtime.loader_workers,
    )
    return loader, rows, len(views)


def bank_folders(
    runs_dir: Path,
    settings: CellSettings,
    inputs: dict[str, str],
    split: str,
    families: Iterable[Family],
) -> dict[Family, Path]:
    """Return where the frozen features of a split lie, by family."""
    return {
        family: runs_dir / "features" / features_key(settings, inputs, split, family)
        for family in families
    }
