"""What every reader yields: the regions of one split, and what was left out of it. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.images import load_image_file, missing_image
from sca_bench.errors import InputError
from sca_bench.types import ImageRecord, Region


@dataclass(frozen=True)
class RegionSet:
    """The regions of one split, in file order, and the images they lie in.

    Attributes:
        name: Data set and file, for people.
        images: The images that have regions, by id, in file order.
        regions: All regions; those of one image follow each other, images as in `images`.
        dropped: Reason -> number of annotations of the source that did not become regions; with
            `regions` they add up to all annotations of the source.
        images_left_out: Reason -> number of images of the source that are not in `images`.
        num_clipped: Regions whose box was cut at the image border.
        loader: Turns an image record into RGB uint8 (H, W, 3).

    Raises:
        InputError: A region id occurs twice, or a region's image is unknown.
    """

    name: str
    images: Mapping[str, ImageRecord]
    regions: tuple[Region, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    images_left_out: Mapping[str, int] = field(default_factory=dict)
    num_clipped: int = 0
    loader: Callable[[ImageRecord], NDArray[np.uint8]] = load_image_file
    _by_image: dict[str, tuple[Region, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        object.__setattr__(self, "_by_image", grouped)

    def regions_of(self, image_id: str) -> tuple[Region, ...]:
        """Return the regions of one image, in file order.

        Raises:
            KeyError: No such image.
        """
        return self._by_image[image_id]

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
        records = [r for r in self.images.values() if r.path and not Path(r.path).is_file()]
        if records:
            first = missing_image(records[0])
            count = f"{first.problem} ({len(records)} of {len(self.images)} images are missing)"
            raise InputError(first.where, first.key, count, first.fix)

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
        digest = hashlib.sha256()
        for record in self.images.values():
            row = [record.image_id, record.width, record.height]
            digest.update(json.dumps(row).encode() + b"\n")
        for r in self.regions:
            line = [r.region_id, r.image_id, list(r.box_xyxy), list(r.references)]
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()


def reasons(counts: Mapping[str, int]) -> str:
    """Return ` (crowd: 3, empty phrase: 1)`, or nothing for no reason."""
    parts = [f"{reason}: {count}" for reason, count in counts.items()]
    return f" ({', '.join(parts)})" if parts else ""
