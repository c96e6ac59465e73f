"""The torch data set: one image and its regions per draw, a pure function of seed and draw number.

Shape legend: R regions of one image, P points of a region, H, W original size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sca_bench.batch import RegionBatch
from sca_bench.boxes import centre_points, mirror_boxes, resized_hw, scale_boxes
from sca_bench.data.collate import ImageSample, collate
from sca_bench.data.preprocess import blank_image, blank_input, preprocess
from sca_bench.data.region_set import RegionSet
from sca_bench.data.sampling import Draw
from sca_bench.types import ImageRecord, Region

Prompt = Literal["box", "point", "box_point"]

PLAIN, FLIPPED = 0, 1
"""View numbers: the image as stored, and mirrored left to right."""

_SIDED = re.compile(r"\b(?:left|right)(?:most)?\b", re.IGNORECASE)
_PERMUTATION_STREAM = 2
"""Keeps the caption permutation apart from the image order and the draws."""


class RegionDataset(Dataset[ImageSample]):
    """Images of a region set as model input, one `ImageSample` per `Draw`.

    In training a draw takes the regions in random order, keeps the first `regions_per_image`,
    picks one reference of each, and flips the image with probability one half. All of it comes
    from `default_rng([seed, draw.number])`, so neither workers nor a resume can change it. At
    evaluation all regions come in order, with their first reference.

    Every draw consumes the same random numbers whatever `flip`, `permute_captions`,
    `blank_images`, `prompt` and `with_pixels` say, and what may be flipped is decided on the true
    captions: a control sees the same regions and views as the cell it controls.

    Args:
        region_set: The split.
        image_size: Side of the square model input in pixels.
        prompt: What stands for a region: its box, its box's centre point, or both.
        regions_per_image: Regions kept per training draw; None keeps all. Evaluation keeps all.
        training: Random draws, or all regions in order.
        seed: Seed of the draws and of the caption permutation.
        flip: Mirror training images left to right, unless the reference of a kept region speaks
            of left or right.
        permute_captions: In training, deal the references to other regions: one fixed permutation.
        blank_images: Replace every image by one constant input, the same for all of them.
        with_pixels: Yield model input; False where frozen features come from a cache.
        with_originals: Yield images as they are stored, mirrored where the view is.
    """

    def __init__(
        self,
        region_set: RegionSet,
        *,
        image_size: int,
        prompt: Prompt = "box",
        regions_per_image: int | None = None,
        training: bool = False,
        seed: int = 0,
        flip: bool = False,
        permute_captions: bool = False,
        blank_images: bool = False,
        with_pixels: bool = True,
        with_originals: bool = False,
    ) -> None:
        self.region_set, self.image_size, self.prompt = region_set, image_size, prompt
        self.regions_per_image = regions_per_image if training else None
        self.training, self.seed, self.flip = training, seed, flip and training
        self.blank_images, self.with_pixels = blank_images, with_pixels
        self.with_originals = with_originals
        self.image_ids = tuple(region_set.images)
        self._dealt: dict[str, tuple[str, ...]] | None = None
        if permute_captions and training:
            regions = region_set.regions
            rng = np.random.default_rng([seed, 0, _PERMUTATION_STREAM])
            order = rng.permutation(len(regions)).tolist()
            self._dealt = {
                region.region_id: regions[source].references
                for region, source in zip(regions, order, strict=True)
            }

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, draw: Draw) -> ImageSample:
        """Return one draw.

        Raises:
            InputError: The image file is missing or broken.
            IndexError: No such image.
        """
        regions = self.region_set.regions_of(self.image_ids[draw.index])
        if not self.training:
            return self._sample(draw.index, regions, [0] * len(regions), PLAIN)
        rng = np.random.default_rng([self.seed, draw.number])
        coin = rng.random() < 0.5
        order = rng.permutation(len(regions))[: self.regions_per_image].tolist()
        choices = rng.random(len(order))
        kept = [regions[k] for k in order]
        picks = [
            int(choice * len(self.references_of(region)))
            for choice, region in zip(choices, kept, strict=True)
        ]
        mirror = self.flip and coin and not any(_is_sided(region) for region in kept)
        return self._sample(draw.index, kept, picks, FLIPPED if mirror else PLAIN)

    def references_of(self, region: Region) -> tuple[str, ...]:
        """Return the references a region trains on: its own, or those dealt to it."""
        return region.references if self._dealt is None else self._dealt[region.region_id]

    def views_of(self, index: int) -> tuple[int, ...]:
        """Return the views of an image that draws can yield: as stored, perhaps also mirrored."""
        if not self.flip:
            return (PLAIN,)
        regions = self.region_set.regions_of(self.image_ids[index])
        needed = min(len(regions), self.regions_per_image or len(regions))
        num_free = sum(not _is_sided(region) for region in regions)
        return (PLAIN, FLIPPED) if num_free >= needed else (PLAIN,)

    def view(self, index: int, view: int) -> ImageSample:
        """Return one view of an image with all its regions in order and their first references."""
        regions = self.region_set.regions_of(self.image_ids[index])
        return self._sample(index, regions, [0] * len(regions), view)

    def _sample(
        self, index: int, regions: list[Region] | tuple[Region, ...], picks: list[int], view: int
    ) -> ImageSample:
        record = self.region_set.images[self.image_ids[index]]
        original_hw = (record.height, record.width)
        input_hw = resized_hw(*original_hw, self.image_size)
        boxes_xyxy_R4 = np.array([region.box_xyxy for region in regions]).reshape(-1, 4)
        if view == FLIPPED:
            boxes_xyxy_R4 = mirror_boxes(boxes_xyxy_R4, record.width)
        boxes_xyxy_input_R4 = scale_boxes(boxes_xyxy_R4, original_hw, input_hw)
        points_xy_input_RP2 = centre_points(boxes_xyxy_input_R4)[:, None]
        return ImageSample(
            image_id=record.image_id,
            region_ids=tuple(region.region_id for region in regions),
            captions=tuple(
                self.references_of(region)[pick]
                for region, pick in zip(regions, picks, strict=True)
            ),
            input_size_hw=input_hw,
            view=view,
            boxes_xyxy_input_R4=None if self.prompt == "point" else _float(boxes_xyxy_input_R4),
            points_xy_input_RP2=None if self.prompt == "box" else _float(points_xy_input_RP2),
            **self._pictures(record, view),
        )

    def _pictures(self, record: ImageRecord, view: int) -> dict[str, Tensor]:
        """Return the image as model input, as it is stored, both or neither."""
        found: dict[str, Tensor] = {}
        if not (self.with_pixels or self.with_originals):
            return found
        if self.blank_images:
            image_HW3 = blank_image(record.height, record.width)
        else:
            image_HW3 = self.region_set.load_image(record.image_id)
        if view == FLIPPED:
            image_HW3 = np.ascontiguousarray(image_HW3[:, ::-1])
        if self.with_originals:
            found["original_HW3"] = torch.from_numpy(np.array(image_HW3))
        if self.with_pixels and self.blank_images:
            found["pixels_3SS"] = blank_input(self.image_size)
        elif self.with_pixels:
            found["pixels_3SS"] = preprocess(image_HW3, self.image_size)
        return found


class StoredDataset(Dataset[ImageSample]):
    """Every image as it is stored, with all regions in order and the captions it is trained on."""

    def __init__(self, dataset: RegionDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> ImageSample:
        return self._dataset.view(index, PLAIN)


class ViewDataset(Dataset[ImageSample]):
    """Every view of every image that a data set can yield, each with all regions in order.

    This is what a feature cache is filled from; a plain data set with integer indices, so that a
    `DataLoader` with `collate_fn=collate` may serve it with workers.

    Attributes:
        keys: Image id and view number of each item.
    """

    def __init__(self, dataset: RegionDataset) -> None:
        self._dataset = dataset
        self._places = [
            (index, view) for index in range(len(dataset)) for view in dataset.views_of(index)
        ]
        self.keys = [(dataset.image_ids[index], view) for index, view in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> ImageSample:
        return self._dataset.view(*self._places[index])


def iter_views(dataset: RegionDataset) -> Iterator[RegionBatch]:
    """Yield a batch of one image for every view of `ViewDataset`, in its order."""
    views = ViewDataset(dataset)
    for index in range(len(views)):
        yield collate([views[index]])


def _is_sided(region: Region) -> bool:
    return any(_SIDED.search(reference) for reference in region.references)


def _float(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(array).to(torch.float32)
