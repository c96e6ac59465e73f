"""The torch data set: one image and its regions per draw, a pure function of seed and draw number.

Shape legend: R regions of one image, P points of a region, H, W original size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sca_bench.boxes import mirror_boxes, resized_hw, scale_boxes
from sca_bench.data.pipeline.collate import ImageSample
from sca_bench.data.pipeline.jitter import Jitter, has_area, jitter_boxes, jitter_image, plan_jitter
from sca_bench.data.pipeline.preprocess import blank_image, blank_pixels, raw_pixels
from sca_bench.data.pipeline.prompts import (
    WITH_BOX,
    WITH_POINT,
    box_points,
    check_boxes,
    check_masks,
    mask_points,
)
from sca_bench.data.pipeline.sampling import Draw
from sca_bench.data.pipeline.training_draw import TrainingDraw, draw_numbers
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import AugmentationSettings
from sca_bench.specs.encoders import IMAGENET, PixelStats
from sca_bench.types import ImageRecord, Prompt, Region

PLAIN, FLIPPED, JITTERED = 0, 1, 2
"""View numbers: the image as stored, mirrored left to right, scaled and cut at random."""

_SIDED = re.compile(r"\b(?:left|right)(?:most)?\b", re.IGNORECASE)
_PERMUTATION_STREAM = 2
"""Keeps the caption permutation apart from the image order and the draws."""


@dataclass(frozen=True)
class _Look:
    """How an image is shown: a view, and for a jittered one what was done to it."""

    view: int
    jitter: Jitter | None = None


class RegionDataset(Dataset[ImageSample]):
    """Images of a region set as model input, one `ImageSample` per `Draw`.

    In training a draw takes the regions in random order, keeps the first `regions_per_image`,
    picks one reference of each, and may mirror, scale and cut the image. All of it comes from
    `default_rng([seed, draw.number])`, so neither workers nor a resume can change it. At evaluation
    all regions come in order, with their first reference.

    Every draw consumes the same random numbers whatever the settings say, and what may be mirrored
    is decided on the true captions: a control sees the same regions and views as the cell it
    controls.

    With jitter, regions that the cut leaves without area are dropped before the first
    `regions_per_image` are kept. Where a cut would drop all of them, the draw's next cut is tried;
    where all are used up, the image is shown whole. No image is ever left without a region (the
    original skips such an image, or the whole step).

    Args:
        region_set: The split.
        image_size: Side of the square model input in pixels.
        pixels: What they are normalised by; blank images and padding have its mean.
        prompt: What a region is prompted with.
        prompt_seed: Seed of random points.
        regions_per_image: Regions kept per training draw; None keeps all. Evaluation keeps all.
        training: Random draws, or all regions in order.
        seed: Seed of the draws and of the caption permutation.
        augmentation: What is done to training images. `unsided` mirrors an image unless a reference
            of a kept region speaks of left or right.
        permute_captions: In training, deal the references to other regions: one fixed permutation.
        blank_images: Replace every image by one constant input, the same for all of them.
        with_pixels: Yield model input; False where frozen features come from a cache, or the
            captioner reads none.
        with_originals: Yield images as they are stored, mirrored or cut as the model input is.

    Raises:
        InputError: The prompt needs boxes or masks, and a region has none that can be used.
        ValueError: Points in masks are asked for of jittered images, whose masks are not cut.
    """

    def __init__(
        self,
        region_set: RegionSet,
        *,
        image_size: int,
        pixels: PixelStats = IMAGENET,
        prompt: Prompt = "box",
        prompt_seed: int = 0,
        regions_per_image: int | None = None,
        training: bool = False,
        seed: int = 0,
        augmentation: AugmentationSettings | None = None,
        permute_captions: bool = False,
        blank_images: bool = False,
        with_pixels: bool = True,
        with_originals: bool = False,
    ) -> None:
        self.region_set, self.image_size, self.pixels = region_set, image_size, pixels
        self.prompt, self.prompt_seed = prompt, prompt_seed
        self.regions_per_image = regions_per_image if training else None
        self.training, self.seed = training, seed
        self.augmentation = augmentation if augmentation and training else AugmentationSettings()
        self.blank_images, self.with_pixels = blank_images, with_pixels
        self.with_originals = with_originals
        self._permuted: dict[str, tuple[str, ...]] | None = None
        if permute_captions and training:
            regions = region_set.regions
            rng = np.random.default_rng([seed, 0, _PERMUTATION_STREAM])
            order = rng.permutation(len(regions)).tolist()
            self._permuted = {
                region.region_id: regions[source].references
                for region, source in zip(regions, order, strict=True)
            }
        check_boxes(region_set, prompt)
        if prompt == "mask_point":
            if self.augmentation.lsj_scale is not None:
                raise ValueError("mask_point cannot be combined with jitter")
            check_masks(region_set)

    def __len__(self) -> int:
        return len(self.region_set.images)

    def __getitem__(self, draw: Draw) -> ImageSample:
        """Return one draw.

        Raises:
            InputError: The image file is missing or broken.
            IndexError: No such image.
        """
        if not self.training:
            return self.view(draw.index, PLAIN)
        num_regions = len(self.regions_at(draw.index))
        return self.sample(draw.index, draw_numbers(self.seed, draw.number, num_regions))

    def regions_at(self, index: int) -> tuple[Region, ...]:
        """Return all regions of the image at a place, in file order.

        Raises:
            IndexError: No such image.
        """
        return self.region_set.regions_of(self.region_set.image_id(index))

    def sample(self, index: int, drawn: TrainingDraw) -> ImageSample:
        """Return what the drawn numbers make of an image.

        Raises:
            InputError: The image file is missing or broken.
            IndexError: No such image.
        """
        regions = self.regions_at(index)
        positions, look = self._cut(index, regions, drawn)
        drawn_regions = [regions[drawn.order[position]] for position in positions]
        picks = [
            int(drawn.choices[position] * len(self.references_of(region)))
            for position, region in zip(positions, drawn_regions, strict=True)
        ]
        return self._sample(index, drawn_regions, picks, look)

    def references_of(self, region: Region) -> tuple[str, ...]:
        """Return the references a region trains on: its own, or those of another by permutation."""
        return region.references if self._permuted is None else self._permuted[region.region_id]

    def views_of(self, index: int) -> tuple[int, ...]:
        """Return the views of an image that draws can yield: as stored, perhaps also mirrored.

        Raises:
            ValueError: Draws are jittered, and no two alike.
        """
        if self.augmentation.lsj_scale is not None:
            raise ValueError("jittered draws have no views that could be listed")
        if self.augmentation.flip == "never":
            return (PLAIN,)
        regions = self.regions_at(index)
        needed = min(len(regions), self.regions_per_image or len(regions))
        num_free = sum(self._may_mirror([region]) for region in regions)
        return (PLAIN, FLIPPED) if num_free >= needed else (PLAIN,)

    def view(self, index: int, view: int) -> ImageSample:
        """Return one view of an image with all its regions in order and their first references."""
        regions = self.regions_at(index)
        return self._sample(index, regions, [0] * len(regions), _Look(view))

    def _may_mirror(self, regions: Sequence[Region]) -> bool:
        flip = "always" if self.augmentation.lsj_as_published else self.augmentation.flip
        return flip == "always" or (flip == "unsided" and not any(map(_is_sided, regions)))

    def _cut(
        self, index: int, regions: Sequence[Region], drawn: TrainingDraw
    ) -> tuple[list[int], _Look]:
        """Return the kept positions of `drawn.order`, and how the image is shown."""
        if self.augmentation.lsj_scale is not None:
            low, high = self.augmentation.lsj_scale
            ordered = [regions[position] for position in drawn.order]
            for share, offset in drawn.cuts:
                scale = low + (high - low) * share
                for mirrored in (True, False) if drawn.coin else (False,):
                    jitter = self._jitter(index, scale, offset, mirrored)
                    boxes_xyxy_R4 = jitter_boxes([r.box_xyxy for r in ordered], jitter)
                    alive = np.flatnonzero(has_area(boxes_xyxy_R4)).tolist()
                    positions = alive[: self.regions_per_image]
                    if not mirrored or self._may_mirror([ordered[k] for k in positions]):
                        break
                if positions:
                    return positions, _Look(JITTERED, jitter)
        positions = list(range(len(drawn.order)))[: self.regions_per_image]
        mirror = drawn.coin and self._may_mirror([regions[drawn.order[k]] for k in positions])
        return positions, _Look(FLIPPED if mirror else PLAIN)

    def _jitter(self, index: int, scale: float, offset: float, mirrored: bool) -> Jitter:
        record = self.region_set.images[self.region_set.image_id(index)]
        return plan_jitter(
            (record.height, record.width),
            self.image_size,
            scale,
            offset,
            mirrored=mirrored,
            as_published=self.augmentation.lsj_as_published,
        )

    def _sample(
        self, index: int, regions: Sequence[Region], picks: Sequence[int], look: _Look
    ) -> ImageSample:
        image_id = self.region_set.image_id(index)
        record = self.region_set.images[image_id]
        shown_hw = (record.height, record.width)
        boxes_xyxy_R4 = np.array([region.box_xyxy for region in regions]).reshape(-1, 4)
        if look.jitter is not None:
            shown_hw = (self.image_size, self.image_size)
            boxes_xyxy_R4 = jitter_boxes(boxes_xyxy_R4, look.jitter)
        elif look.view == FLIPPED:
            boxes_xyxy_R4 = mirror_boxes(boxes_xyxy_R4, record.width)
        input_hw = resized_hw(*shown_hw, self.image_size)
        boxes_xyxy_input_R4 = scale_boxes(boxes_xyxy_R4, shown_hw, input_hw)
        points = None
        if self.prompt in WITH_POINT:
            points = self._points(regions, boxes_xyxy_input_R4, record, shown_hw, look)
        return ImageSample(
            image_id=image_id,
            region_ids=tuple(region.region_id for region in regions),
            captions=tuple(
                self.references_of(region)[pick]
                for region, pick in zip(regions, picks, strict=True)
            ),
            input_size_hw=input_hw,
            view=look.view,
            task=self.region_set.task_of(image_id),
            mask_point_seed=self.prompt_seed if self.prompt == "sam_mask_point" else None,
            boxes_xyxy_input_R4=_float(boxes_xyxy_input_R4) if self.prompt in WITH_BOX else None,
            points_xy_input_RP2=points,
            **self._pictures(record, look),
        )

    def _points(
        self,
        regions: Sequence[Region],
        boxes_xyxy_input_R4: NDArray[np.float64],
        record: ImageRecord,
        shown_hw: tuple[int, int],
        look: _Look,
    ) -> Tensor:
        """Return one point of each region in model-input pixels, (R, 1, 2)."""
        mirrored = look.view == FLIPPED or (look.jitter is not None and look.jitter.mirrored)
        if self.prompt == "mask_point":
            points_R2 = mask_points(regions, (record.height, record.width), self.prompt_seed)
            if mirrored:
                points_R2[:, 0] = record.width - points_R2[:, 0]
            # A point scales as the corner of a box does.
            corners_R4 = np.concatenate([points_R2, points_R2], axis=1)
            input_hw = resized_hw(*shown_hw, self.image_size)
            points_R2 = scale_boxes(corners_R4, shown_hw, input_hw)[:, :2]
        else:
            points_R2 = box_points(
                self.prompt, boxes_xyxy_input_R4, regions, self.prompt_seed, mirrored=mirrored
            )
        return _float(points_R2[:, None])

    def _pictures(self, record: ImageRecord, look: _Look) -> dict[str, Any]:
        """Return the image as model input, as it is stored, both or neither."""
        pictures: dict[str, Any] = {}
        if not (self.with_pixels or self.with_originals):
            return pictures
        if self.blank_images:  # as it is stored; model input says nothing at all, see below
            image_HW3 = blank_image(record.height, record.width, self.pixels)
        else:
            image_HW3 = self.region_set.load_image(record.image_id)
        if look.jitter is not None:
            image_HW3 = jitter_image(image_HW3, look.jitter, self.pixels)
        elif look.view == FLIPPED:
            image_HW3 = np.ascontiguousarray(image_HW3[:, ::-1])
        if self.with_originals:
            pictures["original_HW3"] = torch.from_numpy(np.array(image_HW3))
        if self.with_pixels and self.blank_images:
            pictures["raw_pixels"] = blank_pixels(self.image_size, self.pixels)
        elif self.with_pixels:
            pictures["raw_pixels"] = raw_pixels(image_HW3, self.image_size, self.pixels)
        return pictures


class ViewDataset(Dataset[ImageSample]):
    """Every view of every image that a data set can yield, each with all regions in order.

    This is what a feature cache is filled from; a plain data set with integer indices, so that a
    `DataLoader` with `collate_fn=collate` may serve it with workers.

    Args:
        dataset: The data set.
        stored_only: Only images as they are stored, which jittered data sets have as well.

    Attributes:
        keys: Image id and view number of each item.
    """

    def __init__(self, dataset: RegionDataset, *, stored_only: bool = False) -> None:
        self.dataset = dataset
        self._views = [
            (index, view)
            for index in range(len(dataset))
            for view in ((PLAIN,) if stored_only else dataset.views_of(index))
        ]
        self.keys = [(dataset.region_set.image_id(index), view) for index, view in self._views]

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> ImageSample:
        return self.dataset.view(*self._views[index])


def _is_sided(region: Region) -> bool:
    return any(_SIDED.search(reference) for reference in region.references)


def _float(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(array).to(torch.float32)
