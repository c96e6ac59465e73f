"""What is done once for the cells of a group, before any of them starts."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sca_bench.captioner import RegionCaptioner, SharesPrefix, fault_of_captioner
from sca_bench.data.overlap import overlaps
from sca_bench.data.pipeline.dataset import RegionDataset, ViewDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.digests import DIGESTS, FileDigests
from sca_bench.engine import loaders
from sca_bench.engine.device import check_precision
from sca_bench.engine.features.cache import Cache, locked
from sca_bench.engine.features.fill import FillResult, check_embeddings, fill_bank
from sca_bench.engine.features.split_bank import open_bank
from sca_bench.engine.job import CellJob, GroupJob, Outcome
from sca_bench.engine.thumbnails import images_folder, write_thumbnails
from sca_bench.engine.worker.cell_group import Member, autocast
from sca_bench.engine.worker.mmengine_runner import build_optimiser
from sca_bench.engine.worker.rng import RngStream
from sca_bench.engine.worker.trained_weights import start_weights
from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import SPLITS, RunSplit
from sca_bench.study.keys.stack import stack_key
from sca_bench.types import FAMILIES, Family
from sca_bench.variants import SAM_PARTS, SCA_PARTS


def build_member(cell: CellJob, parts: Any, device: torch.device) -> Member:
    """Build one cell's captioner inside its own random stream, with what it starts from.

    Raises:
        TypeError: The variant's builder gave what the loop cannot work with.
    """
    rng, spec = RngStream(cell.seed, device), cell.identity.spec
    with rng.active():
        captioner: RegionCaptioner = spec.load()(cell.settings, parts)
    if fault := fault_of_captioner(captioner, spec.trains):
        raise TypeError(f"{type(captioner).__name__} is no captioner for {spec.name}: {fault}")
    if stack_key(cell.identity) and not hasattr(captioner, "stacked_losses"):
        raise TypeError(f"{type(captioner).__name__} says `stacks`, but has no stacked_losses")
    start_weights(captioner, cell.settings)
    if isinstance(captioner, nn.Module):
        captioner.to(device)
    return Member(cell.key, captioner, cell.identity, rng)


def prepare(job: GroupJob, outcome: Outcome, progress: Path) -> None:
    """Check the inputs of a group and compute the frozen features its cells share.

    Everything that a user can get wrong is met here, before any cell starts.
    """
    lead = _lead(job.cells)
    sets, datasets = open_data(job, outcome)
    if job.part[0] == 0:
        shown = sets["captioned"]
        lacking = write_thumbnails(shown, images_folder(Path(job.runs_dir), shown, lead.identity))
        outcome.messages += [lacking] if lacking else []
    sharing: dict[Family, SharesPrefix] = {}
    for cell, member in build_members(job, outcome):
        if isinstance(member.captioner, SharesPrefix):
            for family in cell.identity.families:
                sharing.setdefault(family, member.captioner)
    for split in sets if sharing else ():
        if split in job.splits and lead.identity.caches(split):
            began = time.perf_counter()
            filled = _fill_split(job, lead, split, datasets[split], sharing, progress)
            seconds = time.perf_counter() - began
            outcome.messages += filled.notes
            outcome.count(filled.counters)
            took = {"images": filled.images, "encoded": filled.encoder_forwards, "seconds": seconds}
            name = lead.identity.data_split(split)
            outcome.note_filled(name, {**took, "bytes": filled.num_bytes})


def open_data(
    job: GroupJob, outcome: Outcome
) -> tuple[dict[RunSplit, RegionSet], dict[RunSplit, RegionDataset]]:
    """Read the splits of a group, and check them as far as no image has to be opened.

    Args:
        job: The group.
        outcome: Gets a line on each split.

    Raises:
        InputError: Any fault of the data.
    """
    lead = _lead(job.cells)
    identity = lead.identity
    sets = loaders.load_splits(identity)
    outcome.messages += _check_overlaps(job, lead, sets)
    read = {identity.data_split(name): region_set for name, region_set in sets.items()}
    for name, region_set in read.items():
        notes = region_set.picture_notes() if job.part[0] == 0 else []
        lines = [region_set.summary(), *notes]
        outcome.messages += [f"{name}: {line}" for line in lines]
    datasets = {
        split: loaders.make_dataset(
            sets,
            split,
            identity,
            image_size=sam_dims(lead.settings.sam.size).image_size,
            seed=0,
            with_pixels=True,
        )
        for split in sets
    }
    return sets, datasets


def build_members(job: GroupJob, outcome: Outcome) -> Iterator[tuple[CellJob, Member]]:
    """Build every cell of a group, so that a wrong setting or file of any is met.

    Args:
        job: The group.
        outcome: Gets the cells that cannot run, while the others can.

    Raises:
        InputError: An input of a cell is wrong.
    """
    device, parts = torch.device(job.device), _Parts(job.cells)
    for cell in job.cells:
        check_precision(cell.settings, device)
        try:
            member = build_member(cell, parts.of(cell), device)
            if isinstance(member.captioner, SharesPrefix):
                check_embeddings(member.captioner, member.settings)
            trains = cell.identity.spec.trains == "gradient" and cell.settings.train.steps > 0
            if trains and not cell.reuses:
                build_optimiser(member, device)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # that cell cannot run; the others can
            reason = f"{type(error).__name__}: {error}"
            outcome.failed[cell.key] = " ".join(reason.split())[:500]
            continue
        yield cell, member


def _lead(cells: list[CellJob]) -> CellJob:
    """Return the cell whose data set serves all: one that reads original images, if any does."""
    return next((c for c in cells if c.identity.spec.needs_originals), cells[0])


class _Parts:
    """Frozen parts by the variant's loader and text decoder; one SAM for all that can share it."""

    def __init__(self, cells: list[CellJob]) -> None:
        self._loaded: dict[tuple[str, str], Any] = {}
        # What SCA's loader returns serves captioners that need SAM alone, so it goes first.
        for cell in sorted(cells, key=lambda c: c.identity.spec.parts != SCA_PARTS):
            self.of(cell)

    def of(self, cell: CellJob) -> Any:
        """Return the parts of a cell's captioner, loading them at most once."""
        settings, spec = cell.settings, cell.identity.spec
        loader = spec.parts
        if loader == SAM_PARTS:
            whole = (parts for (name, _), parts in self._loaded.items() if name == SCA_PARTS)
            if (shared := next(whole, None)) is not None:
                return shared
        read = ""  # beside `sam` and `encoder`, which all cells prepared together share
        if loader == SCA_PARTS:
            read = settings.text_decoder.weights
        elif loader != SAM_PARTS:  # of another package: the key of the frozen prefix holds it all
            read = cell.identity.prefix_key
        key = (loader, read)
        if key not in self._loaded:
            self._loaded[key] = spec.load_parts(settings)
        return self._loaded[key]


def _fill_split(
    job: GroupJob,
    lead: CellJob,
    split: RunSplit,
    dataset: RegionDataset,
    sharing: Mapping[Family, SharesPrefix],
    progress: Path,
) -> FillResult:
    """Compute those frozen features of a split that may be kept and are not, in one pass."""
    settings, device = lead.settings, torch.device(job.device)
    name = lead.identity.data_split(split)
    cache = Cache.of(Path(job.runs_dir), settings.runtime, job.since)
    families = tuple(family for family in FAMILIES if family in sharing)
    keys = lead.identity.store_keys(split, families)
    for family, key in keys.items():
        about = {"family": family, "split": name if family != "images" else "any"}
        about |= {"sam": _sam(settings), "dtype": _dtype(settings, family)}
        cache.used(key, about)

    def tell(done: int, total: int) -> None:
        said = {"what": f"features of {name}", "done": done, "total": total}
        with contextlib.suppress(OSError):  # only a word for whoever waits
            write_atomic(progress, json.dumps(said), lasting=False)

    turns = [f"{key}.{name}.{job.part[0]}" for key in keys.values()]
    with locked(cache.root, turns):
        bank = open_bank(cache, lead.identity, split, dataset.region_set, families)
        with autocast(device, settings.train.precision):
            filled = fill_bank(
                cache, bank, sharing, ViewDataset(dataset), settings, device, tell, job.part
            )
    images = lead.identity.split_images(split)
    for family, key in keys.items():
        cache.note(key, images, whole=filled.whole[family])
    return filled


def _sam(settings: CellSettings) -> str:
    size, encoder = settings.sam.size, settings.encoder.type
    return size if encoder == "sam" else f"{size} ({encoder})"


def _dtype(settings: CellSettings, family: Family) -> str:
    return settings.features.encoder_dtype if family == "images" else settings.features.dtype


def _check_overlaps(job: GroupJob, lead: CellJob, sets: Mapping[RunSplit, RegionSet]) -> list[str]:
    """Check that no split of a cell shows an image of another one; return notes about stages.

    Cells that are prepared together share one split, and may differ in another.
    """
    digests = FileDigests(Path(job.runs_dir) / DIGESTS)
    seen: set[tuple[str, ...]] = set()
    notes: list[str] = []
    for cell in (lead, *job.cells):
        triple = (cell.stage, *(cell.identity.split_images(split) for split in SPLITS))
        if triple not in seen:
            seen.add(triple)
            read = sets if cell is lead else loaders.load_splits(cell.identity)
            notes += _check_overlap(read, cell, digests)
    return notes


def _check_overlap(
    sets: Mapping[RunSplit, RegionSet], cell: CellJob, digests: FileDigests
) -> Iterator[str]:
    """Refuse a cell that is trained, validated or captioned on one image; of a stage, note it.

    A stage may show what is captioned, since published pretraining data does; how much is said.

    Raises:
        InputError: Two splits of a cell share an image.
    """
    read = {cell.identity.data_split(name): region_set for name, region_set in sets.items()}
    captioned = cell.identity.data_split("captioned")
    for found in overlaps(read, captioned, digests):
        if not cell.stage:
            problem, fix = found.text, "choose disjoint splits"
            raise InputError(None, f"data.{found.split}", problem, fix)
        yield f"note: stages.{cell.stage}.data.{found.split} {found.text}"
