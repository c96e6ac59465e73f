"""What is done once for the cells of a group, before any of them starts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sca_bench.batch import RegionBatch, RegionFeatures, merged
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
from sca_bench.models.build import SamParts
from sca_bench.models.sam import sam_dims
from sca_bench.study.cell import data_split
from sca_bench.study.store import write_atomic
from sca_bench.types import FAMILIES, Family
from sca_bench.variants import SAM_PARTS, SCA_PARTS, get_variant


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
    lead = _lead(job.cells)
    settings = lead.parsed()
    runs_dir, device = Path(job.runs_dir), torch.device(job.device)
    sets = splits.load_splits(settings, job.where)
    _refuse_overlap(sets, job)
    read = {data_split(settings, name): found for name, found in sets.items()}
    outcome.messages += [f"{name}: {found.summary()}" for name, found in read.items()]
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
    sharing: dict[Family, SharesPrefix] = {}
    parts = _Parts(job.cells, job.where)
    for cell in job.cells:  # all are built, so that a wrong setting of any is met here
        member = build_member(cell, job.where, parts.of(cell), device)
        if isinstance(member.captioner, SharesPrefix):
            for family in families_of([member.settings]):
                sharing.setdefault(family, member.captioner)
    for split in splits.cached_splits(settings, sets) if sharing else ():
        if split in job.splits:
            with parts.remembering():
                count = _fill_banks(job, lead, split, datasets[split], sharing, progress)
            if count:
                name = data_split(settings, split)
                line = f"{name}: {count} images encoded, once for all of {len(job.cells)} cells"
                outcome.messages.append(line)


def _lead(cells: list[CellJob]) -> CellJob:
    """Return the cell whose data set serves all: one that reads original images, if any does."""
    return next((c for c in cells if get_variant(c.parsed().variant).needs_originals), cells[0])


class _Parts:
    """Frozen parts by the variant's loader and text decoder; one SAM for all that can share it."""

    def __init__(self, cells: list[CellJob], where: str) -> None:
        self._where = where
        self._loaded: dict[tuple[str, str], Any] = {}
        # What SCA's loader returns serves captioners that need SAM alone, so it goes first.
        for cell in sorted(cells, key=lambda c: get_variant(c.parsed().variant).parts != SCA_PARTS):
            self.of(cell)

    def of(self, cell: CellJob) -> Any:
        """Return the parts of a cell's captioner, loading them at most once."""
        settings = cell.parsed()
        loader = get_variant(settings.variant).parts
        if loader == SAM_PARTS:
            whole = (parts for (name, _), parts in self._loaded.items() if name == SCA_PARTS)
            if (found := next(whole, None)) is not None:
                return found
        key = (loader, "" if loader == SAM_PARTS else settings.text_decoder.weights)
        if key not in self._loaded:
            parts = get_variant(settings.variant).load_parts(settings, self._where)
            self._loaded[key] = parts
        return self._loaded[key]

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Let every SAM embed a batch once, however many captioners ask for it."""
        sams = [parts.sam for parts in self._loaded.values() if isinstance(parts, SamParts)]
        with contextlib.ExitStack() as stack:
            for sam in sams:
                stack.enter_context(sam.remembering())
            yield


def _fill_banks(
    job: GroupJob,
    lead: CellJob,
    split: str,
    dataset: RegionDataset,
    sharing: Mapping[Family, SharesPrefix],
    progress: Path,
) -> int:
    """Compute those frozen features of a split that the cells read and nobody kept, in one pass.

    Returns:
        How many images (mirrored ones count by themselves) were encoded.
    """
    settings, device = lead.parsed(), torch.device(job.device)
    families = tuple(family for family in FAMILIES if family in sharing)
    folders = splits.bank_folders(Path(job.runs_dir), settings, lead.inputs, split, families)
    with locked(folders.values()):
        missing = {family: folder for family, folder in folders.items() if not folder.exists()}
        if not missing:
            return 0
        loader, num_regions, num_images = splits.view_loader(dataset, settings)

        def tell(done: int, total: int) -> None:
            write_atomic(progress, f"frozen features, {split}: {done} of {total} regions")

        with torch.no_grad(), autocast(device, settings.train.precision):
            build_banks(
                missing,
                loader,
                functools.partial(_features, {f: sharing[f] for f in missing}),
                num_regions=num_regions,
                num_images=num_images,
                dtype=settings.features.dtype,
                device=device,
                progress=tell,
            )
    return num_images


def _features(sharing: Mapping[Family, SharesPrefix], batch: RegionBatch) -> RegionFeatures:
    """Return features of several captioners; SAM knows a batch that it has just encoded."""
    found: RegionFeatures | None = None
    for captioner in dict.fromkeys(sharing.values()):
        families = [family for family, owner in sharing.items() if owner is captioner]
        more = captioner.frozen_features(batch, families=families)
        found = more if found is None else merged(found, more)
    assert found is not None
    return found


def _refuse_overlap(sets: dict[str, RegionSet], job: GroupJob) -> None:
    section = f"stages.{job.cells[0].stage}.data" if job.is_stage else "data"
    captioned = data_split(job.cells[0].parsed(), "test")
    test = _image_names(sets["test"])
    for name in ("train", "val"):
        if name not in sets or name == captioned:
            continue
        shared = test & _image_names(sets[name])
        if shared:
            raise InputError(
                job.where,
                f"{section}.{name}",
                f"shares {len(shared)} images with data.{captioned}, the first is {min(shared)}",
                "choose disjoint splits",
            )


def _image_names(region_set: RegionSet) -> set[str]:
    """Return what tells images apart whatever data set they are read as: file, or scene."""
    if region_set.parts:
        return set().union(*(_image_names(part.region_set) for part in region_set.parts))
    return {record.path or image_id for image_id, record in region_set.images.items()}
