"""What is done once for the cells of a group, before any of them starts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sca_bench.captioner import RegionCaptioner, SharesPrefix
from sca_bench.data.dataset import RegionDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.engine import splits
from sca_bench.engine.features import build_banks, families_of, locked
from sca_bench.engine.group import Member, autocast
from sca_bench.engine.images import images_folder, write_thumbnails
from sca_bench.engine.job import CellJob, GroupJob, Outcome
from sca_bench.engine.rng import RngStream
from sca_bench.engine.trained import start_weights
from sca_bench.errors import InputError
from sca_bench.models.sam import sam_dims
from sca_bench.study.store import write_atomic
from sca_bench.variants import get_variant


def build_member(cell: CellJob, where: str, parts: Any, device: torch.device) -> Member:
    """Build one cell's captioner inside its own random stream, with what it starts from."""
    settings = cell.parsed()
    rng = RngStream(cell.seed, device)
    with rng.active():
        captioner: RegionCaptioner = get_variant(settings.variant).load()(
            settings, parts, where=where
        )
    start_weights(captioner, settings, where)
    if isinstance(captioner, nn.Module):
        captioner.to(device)
    return Member(cell.cell_id, captioner, settings, rng)


def prepare(job: GroupJob, outcome: Outcome, progress: Path) -> None:
    """Check the inputs of a group and compute the frozen features its cells share.

    Everything that a user can get wrong is met here, before any cell starts.
    """
    settings = job.cells[0].parsed()
    runs_dir, device = Path(job.runs_dir), torch.device(job.device)
    sets = splits.load_splits(settings, job.where)
    _refuse_overlap(sets, job)
    outcome.messages += [f"{name}: {found.summary()}" for name, found in sets.items()]
    datasets = {
        split: splits.make_dataset(
            sets,
            split,
            settings,
            image_size=sam_dims(settings.sam.size).image_size,
            seed=0,
            with_pixels=True,
        )
        for split in sets
    }
    write_thumbnails(sets["test"], images_folder(runs_dir, sets["test"]))
    parts = get_variant(settings.variant).load_parts(settings, job.where)
    sharing: SharesPrefix | None = None
    for cell in job.cells:  # all are built, so that a wrong setting of any is met here
        member = build_member(cell, job.where, parts, device)
        if isinstance(member.captioner, SharesPrefix):
            sharing = member.captioner
    if sharing is None:
        return
    for split in splits.cached_splits(settings, sets):
        if split in job.splits:
            _fill_banks(job, split, datasets[split], sharing, progress)


def _fill_banks(
    job: GroupJob, split: str, dataset: RegionDataset, captioner: SharesPrefix, progress: Path
) -> None:
    """Compute those frozen features of a split that the group's cells read and nobody kept."""
    settings, device = job.cells[0].parsed(), torch.device(job.device)
    families = families_of(cell.parsed() for cell in job.cells)
    folders = splits.bank_folders(
        Path(job.runs_dir), settings, job.cells[0].inputs, split, families
    )
    with locked(folders.values()):
        missing = {family: folder for family, folder in folders.items() if not folder.exists()}
        if not missing:
            return
        loader, num_regions, num_images = splits.view_loader(dataset, settings)

        def tell(done: int, total: int) -> None:
            write_atomic(progress, f"frozen features, {split}: {done} of {total} regions")

        with torch.no_grad(), autocast(device, settings.train.precision):
            build_banks(
                missing,
                loader,
                functools.partial(captioner.frozen_features, families=tuple(missing)),
                num_regions=num_regions,
                num_images=num_images,
                dtype=settings.features.dtype,
                device=device,
                progress=tell,
            )


def _refuse_overlap(sets: dict[str, RegionSet], job: GroupJob) -> None:
    section = f"stages.{job.cells[0].stage}.data" if job.is_stage else "data"
    test = _image_names(sets["test"])
    for name in ("train", "val"):
        if name not in sets:
            continue
        shared = test & _image_names(sets[name])
        if shared:
            raise InputError(
                job.where,
                f"{section}.{name}",
                f"shares {len(shared)} images with data.test, the first is {min(shared)}",
                "choose disjoint splits",
            )


def _image_names(region_set: RegionSet) -> set[str]:
    """Return what tells images apart whatever data set they are read as: file, or scene."""
    if region_set.parts:
        return set().union(*(_image_names(part.region_set) for part in region_set.parts))
    return {record.path or image_id for image_id, record in region_set.images.items()}
