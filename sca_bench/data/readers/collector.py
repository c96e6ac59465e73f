"""From annotations to a `RegionSet`: the checks and the counting that all file readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sca_bench.boxes import BoxFault, fit_box, xywh_to_xyxy
from sca_bench.data.readers.selection import Selection
from sca_bench.data.region_set import RegionSet, reasons
from sca_bench.errors import InputError
from sca_bench.settings.splits import FileSplit
from sca_bench.types import BoxXYXY, ImageRecord, Region

EMPTY_PHRASE = "empty phrase"
CROWD = "crowd"
BEYOND = "beyond max_images"
NO_REGION = "without a usable region"
NOT_MET = "listed but not in the annotations"

_NO_SLOTS: dict[str, str] = {}
"""Shared by millions of regions: an own empty dict each would cost 64 bytes each."""


class Collector:
    """Takes in the images and annotations of one file and keeps count of what is left out.

    Args:
        name: Name of the region set.
        file: The annotation file, for messages.
        split: The split's settings.
    """

    def __init__(self, name: str, file: str, split: FileSplit) -> None:
        self._name, self._file, self._split = name, file, split
        self._selection = Selection(split)
        self._images: dict[str, ImageRecord] = {}
        self._regions: list[Region] = []
        self._dropped: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._num_clipped = 0
        self._image: ImageRecord | None = None

    def open_image(self, image: ImageRecord, record: Mapping[str, Any], num_regions: int) -> bool:
        """Start an image.

        Args:
            image: What the region set would keep of it.
            record: The image's own record in the file.
            num_regions: How many annotations it has.

        Returns:
            Whether its annotations are wanted; where not, they are counted as dropped.
        """
        self._close_image()
        reason = ""
        if not self._selection.keeps(image.image_id, record):
            reason = self._selection.reason
        elif self._split.max_images is not None and len(self._images) >= self._split.max_images:
            reason = BEYOND
        if reason:
            self._left_out[reason] += 1
            self.drop(f"in images {reason}", num_regions)
            return False
        self._image = image
        return True

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count images that were not even opened."""
        if count:
            self._left_out[reason] += count

    def drop(self, reason: str, count: int = 1) -> None:
        """Count annotations that do not become regions."""
        if count:
            self._dropped[reason] += count

    def add(
        self,
        region_id: str,
        box_xywh: tuple[float, float, float, float],
        references: tuple[str, ...],
        segmentation: str = "",
    ) -> None:
        """Take one annotation of the open image: keep it, or count why not.

        Args:
            region_id: Unique in the file.
            box_xywh: Left, top, width, height in original pixels.
            references: Its references; runs of white space become one blank, none at the ends,
                and empty ones are left out, both unless the split reads them as published.
            segmentation: Its mask as `Region` holds it.

        Raises:
            InputError: A number of its box is too large to be one.
        """
        image = self._image
        assert image is not None, "open_image comes first"
        try:
            box_xyxy = xywh_to_xyxy(*box_xywh)
        except OverflowError:  # a whole number of hundreds of digits
            problem = "its box has a number that is too large"
            raise InputError(self._file, f"region {region_id}", problem) from None
        all_count = "regions" in self._split.as_published
        box: BoxXYXY | BoxFault = box_xyxy
        if not all_count:
            box = fit_box(box_xyxy, image.width, image.height, self._split.min_side_px)
        if isinstance(box, BoxFault):
            self.drop(self._reason(box))
            return
        if "white_space" not in self._split.as_published:
            references = tuple(" ".join(text.split()) for text in references)
        if not all_count:
            references = tuple(text for text in references if text.strip())
        if not references:
            self.drop(EMPTY_PHRASE)
            return
        self._num_clipped += box != box_xyxy
        self._images[image.image_id] = image
        self._regions.append(
            Region(region_id, image.image_id, box, references, _NO_SLOTS, segmentation)
        )

    def finish(self) -> RegionSet:
        """Return the region set.

        Raises:
            InputError: The selection matches no image, or no region is left.
        """
        self._close_image()
        not_met = self._selection.finish(self._file)
        if not_met:
            self._left_out[NOT_MET] = not_met
        if not self._regions:
            total = sum(self._dropped.values())
            problem = (
                f"no region is left of {total} annotations{reasons(self._dropped)}"
                if total
                else "holds no annotation"
            )
            raise InputError(self._file, "", problem, "give a file with usable regions")
        return RegionSet(
            name=self._name,
            images=self._images,
            regions=tuple(self._regions),
            dropped=dict(self._dropped),
            images_left_out=dict(self._left_out),
            num_clipped=self._num_clipped,
            task=self._split.task,
        )

    def _close_image(self) -> None:
        if self._image is not None and self._image.image_id not in self._images:
            self._left_out[NO_REGION] += 1
        self._image = None

    def _reason(self, fault: BoxFault) -> str:
        if fault is BoxFault.TOO_SMALL:
            return f"side of at most {self._split.min_side_px:g} px"
        return fault.value
