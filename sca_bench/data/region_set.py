"""What every reader yields: the regions of one split, and what was left out of it. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.image_files import load_image_file, missing_image
from sca_bench.errors import InputError
from sca_bench.formats.pixels import counted, notes_on
from sca_bench.settings.splits import Task
from sca_bench.types import ImageRecord, Region


@runtime_checkable
class GroupedRegions(Protocol):
    """A sequence of regions that knows those of an image by itself, checked when it was written."""

    def of_image(self, image_id: str) -> tuple[Region, ...]:
        """Return the regions of one image, in file order."""


@runtime_checkable
class OrderedImages(Protocol):
    """A mapping of images that knows the id at a place without listing all."""

    def id_at(self, index: int) -> str:
        """Return the id of the image at a place in file order."""


@dataclass(frozen=True)
class Part:
    """One data set of a mixture.

    Attributes:
        name: Unique in the mixture; its ids begin with `name/`.
        weight: Share of the training draws, relative to the other parts.
        region_set: The data set, with ids of its own.
    """

    name: str
    weight: float
    region_set: RegionSet


@dataclass(frozen=True)
class RegionSet:
    """The regions of one split, in file order, and the images they lie in.

    Attributes:
        name: Data set and file, for people.
        images: The images that have regions, by id, in file order.
        regions: All regions; those of one image follow each other, images as in `images`. A tuple,
            or a `GroupedRegions` that makes them when they are asked for.
        dropped: Reason -> number of annotations of the source that did not become regions; with
            `regions` they add up to all annotations of the source.
        images_left_out: Reason -> number of images of the source that are not in `images`.
        num_clipped: Regions whose box was cut at the image border.
        loader: Turns an image record into RGB uint8 (H, W, 3).
        task: The task of all images, where there are no parts.
        parts: The data sets of a mixture, in the order of `images`; empty elsewhere.
        stored_digest: What `digest` returns, where somebody computed it before.

    Raises:
        InputError: A region id occurs twice, or a region's image is unknown.
    """

    name: str
    images: Mapping[str, ImageRecord]
    regions: Sequence[Region]
    dropped: Mapping[str, int] = field(default_factory=dict)
    images_left_out: Mapping[str, int] = field(default_factory=dict)
    num_clipped: int = 0
    loader: Callable[[ImageRecord], NDArray[np.uint8]] = load_image_file
    task: Task = "caption"
    parts: tuple[Part, ...] = ()
    stored_digest: str = field(default="", compare=False)
    _of_image: Callable[[str], tuple[Region, ...]] = field(init=False, repr=False, compare=False)
    _id_at: Callable[[int], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        images = self.images
        id_at = images.id_at if isinstance(images, OrderedImages) else tuple(images).__getitem__
        object.__setattr__(self, "_id_at", id_at)
        if isinstance(self.regions, GroupedRegions):
            object.__setattr__(self, "_of_image", self.regions.of_image)
            return
        seen: set[str] = set()
        groups: dict[str, list[Region]] = {image_id: [] for image_id in self.images}
        for region in self.regions:
            if region.region_id in seen:
                raise InputError(self.name, region.region_id, "two regions have this id")
            if region.image_id not in groups:
                raise InputError(
                    self.name, region.region_id, f"lies in unknown image {region.image_id!r}"
                )
            seen.add(region.region_id)
            groups[region.image_id].append(region)
        grouped = {image_id: tuple(regions) for image_id, regions in groups.items()}
        object.__setattr__(self, "_of_image", grouped.__getitem__)

    def regions_of(self, image_id: str) -> tuple[Region, ...]:
        """Return the regions of one image, in file order.

        Raises:
            KeyError: No such image.
        """
        return self._of_image(image_id)

    def image_id(self, index: int) -> str:
        """Return the id of the image at a place in file order.

        Raises:
            IndexError: There are not so many images.
        """
        return self._id_at(index)

    def task_of(self, image_id: str) -> Task:
        """Return the task of one image: its part's in a mixture, else the set's."""
        name = image_id.partition("/")[0]
        return next((part.region_set.task for part in self.parts if part.name == name), self.task)

    def load_image(self, image_id: str) -> NDArray[np.uint8]:
        """Return the pixels of one image: RGB, (H, W, 3), original size.

        Raises:
            InputError: The image file is missing, broken, or of another size than annotated.
            KeyError: No such image.
        """
        return self.loader(self.images[image_id])

    def check_images(self) -> None:
        """Look whether every image file is there, without decoding any.

        Raises:
            InputError: Some are missing; names the first (or its folder) and their number.
        """
        missing = self.missing_images()
        if missing:
            first = missing_image(missing[0])
            count = f"{first.problem} ({len(missing)} of {len(self.images)} images are missing)"
            raise InputError(first.where, first.key, count, first.fix)

    def missing_images(self) -> list[ImageRecord]:
        """Return the images whose file is not there; each folder is listed once, however full."""
        files: dict[str, set[str]] = {}
        missing: list[ImageRecord] = []
        for record in self.images.values():
            if not record.path:
                continue
            folder, name = os.path.split(record.path)
            if folder not in files:
                files[folder] = _files_of(folder)
            if name not in files[folder]:
                missing.append(record)
        return missing

    def picture_notes(self) -> list[str]:
        """Return, as at most one line, what is done to images as they are read, with counts.

        Every file's header is looked at. Whether a picture is left as stored because of the
        annotated size is said here, once for the split.
        """
        notes = (
            notes_on(Path(r.path), (r.height, r.width)) for r in self.images.values() if r.path
        )
        line = counted(notes)
        return [f"{self.name}: images: {line}"] if line else []

    def summary(self) -> str:
        """Return one line: what was kept, what was dropped and why."""
        line = f"{self.name}: {len(self.regions)} regions in {len(self.images)} images kept"
        if self.num_clipped:
            line += f" ({self.num_clipped} clipped at the image border)"
        line += f"; {sum(self.dropped.values())} annotations dropped"
        line += reasons(self.dropped)
        if self.images_left_out:
            line += f"; {sum(self.images_left_out.values())} images left out"
            line += reasons(self.images_left_out)
        return line

    def digest(self) -> str:
        """Return a SHA-256 over images, sizes, boxes and references: equal for equal content."""
        if self.stored_digest:
            return self.stored_digest
        digest = hashlib.sha256()
        for record in self.images.values():
            row = [record.image_id, record.width, record.height]
            digest.update(json.dumps(row).encode() + b"\n")
        for r in self.regions:
            line = [r.region_id, r.image_id, list(r.box_xyxy), list(r.references)]
            digest.update(json.dumps(line).encode() + b"\n")
        object.__setattr__(self, "stored_digest", digest.hexdigest())
        return self.stored_digest


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def reasons(counts: Mapping[str, int]) -> str:
    """Return ` (crowd: 3, empty phrase: 1)`, or nothing for no reason."""
    parts = [f"{reason}: {count}" for reason, count in counts.items()]
    return f" ({', '.join(parts)})" if parts else ""
