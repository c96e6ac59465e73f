"""From original pixels to GRiT's input, and boxes along with them.

Three frames: *original* pixels of the image file, *resized* pixels (shorter side 800), and the
resized image padded to the right and below, whose pixels count the same.

All of it but the padding is done on the host, while a batch is made (`Preparation`): what a step
has to know of its images before it can go on is known there, and nobody waits for a GPU to say it.

Shape legend: H, W original size; h, w resized size; N boxes; X pixels of several images, one after
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from baselines.grit.config import NUM_POOLED_LEVELS, STRIDES
from sca_bench.batch import RegionBatch
from sca_bench.devices import gpu
from sca_bench.specs.encoders import IMAGENET

_CANONICAL_PX = 224
_CANONICAL_LEVEL = 4
SIZE_DIVISOR = 32
"""Both sides of the padded image are multiples of this."""


@dataclass(frozen=True)
class ResizedImage:
    """One image, resized and not yet normalised.

    Attributes:
        pixels_hw3: uint8 RGB.
        original_hw: Height and width before.
    """

    pixels_hw3: Tensor
    original_hw: tuple[int, int]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in resized pixels."""
        return self.pixels_hw3.shape[0], self.pixels_hw3.shape[1]


def resized_hw(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return the size at which the shorter side is `short_side`, or the longer one `long_side`.

    Source: detectron2, `ResizeShortestEdge`.
    """
    scale = short_side / min(height, width)
    new_h, new_w = height * scale, short_side * 1.0
    if height < width:
        new_h, new_w = short_side * 1.0, width * scale
    if max(new_h, new_w) > long_side:
        shrink = long_side / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    return int(new_h + 0.5), int(new_w + 0.5)


def resize(image_HW3: Tensor, short_side: int, long_side: int) -> ResizedImage:
    """Resize a uint8 RGB image (bilinear, antialiased)."""
    height, width = image_HW3.shape[:2]
    new_h, new_w = resized_hw(height, width, short_side, long_side)
    image = Image.fromarray(image_HW3.cpu().numpy())
    pixels = np.array(image.resize((new_w, new_h), Image.Resampling.BILINEAR))
    return ResizedImage(torch.from_numpy(pixels), (height, width))


def normalise_and_pad(image: ResizedImage, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normalise, then pad with zeros to the right and below, (3, H, W) divisible by 32."""
    height, width = image.size_hw
    pixels_3hw = gpu.send(image.pixels_hw3, device).permute(2, 0, 1).float()
    mean, std = gpu.send(torch.tensor(IMAGENET), device).view(2, 3, 1, 1)
    padding = (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR)
    return torch.nn.functional.pad((pixels_3hw - mean) / std, padding).to(dtype)


def clean_boxes(boxes_xyxy_N4: Tensor, original_hw: tuple[int, int]) -> Tensor:
    """Bring boxes (original pixels) inside their image, as the paper's GRiT evaluation does.

    Negative sides become 0, sides beyond the last pixel become the last pixel, and a box left
    without width or height becomes (0, 0, 1, 1).

    Source: xk-huang/Promptable-GRiT.
    """
    height, width = original_hw
    last = _beside(boxes_xyxy_N4, [width - 1, height - 1] * 2)
    boxes_xyxy_N4 = torch.minimum(boxes_xyxy_N4.clamp(min=0), last)
    empty_N = (boxes_xyxy_N4[:, 2:] <= boxes_xyxy_N4[:, :2]).any(1)
    unit = _beside(boxes_xyxy_N4, [0, 0, 1, 1])
    return torch.where(empty_N[:, None], unit, boxes_xyxy_N4)


def to_resized(boxes_xyxy_N4: Tensor, image: ResizedImage) -> Tensor:
    """Scale boxes from original to resized pixels; the axes scale by the ratio of rounded sizes."""
    (height, width), (new_h, new_w) = image.original_hw, image.size_hw
    return boxes_xyxy_N4 * _beside(boxes_xyxy_N4, [new_w / width, new_h / height] * 2)


def to_original(boxes_xyxy_N4: Tensor, image: ResizedImage) -> Tensor:
    """Scale boxes from resized to original pixels and clip them to the image."""
    (height, width), (new_h, new_w) = image.original_hw, image.size_hw
    scaled = boxes_xyxy_N4 * _beside(boxes_xyxy_N4, [width / new_w, height / new_h] * 2)
    limits = _beside(scaled, [width, height] * 2)
    return torch.minimum(scaled.clamp(min=0), limits)


def widen_empty(boxes_xyxy_N4: Tensor) -> Tensor:
    """Give boxes (resized pixels) without width or height one pixel, so that pooling has one."""
    top_left, bottom_right = boxes_xyxy_N4[:, :2], boxes_xyxy_N4[:, 2:]
    bottom_right = torch.where(bottom_right == top_left, bottom_right + 1, bottom_right)
    return torch.cat([top_left, bottom_right], dim=1)


def pool_levels(boxes_xyxy_N4: Tensor, num_levels: int) -> Tensor:
    """Return the level of each box, 0 for the finest: one coarser for every doubling of its side.

    Source: Lin et al., Feature Pyramid Networks, CVPR 2017.
    """
    width, height = (boxes_xyxy_N4[:, 2:] - boxes_xyxy_N4[:, :2]).unbind(1)
    side = torch.sqrt(width * height)
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_PX + 1e-8))
    first = STRIDES[0].bit_length() - 1
    return level.clamp(first, first + num_levels - 1).long() - first


def _beside(boxes_xyxy_N4: Tensor, numbers: list[float]) -> Tensor:
    """Return four numbers in the type of boxes, where these are."""
    return gpu.send(torch.tensor(numbers, dtype=boxes_xyxy_N4.dtype), boxes_xyxy_N4.device)


# --- whole batches --------------------------------------------------------------------------------


@dataclass(frozen=True)
class EqualImages:
    """Images of one resized size with their regions: padding one to another would change numbers.

    Attributes:
        size_hw: Height and width in resized pixels.
        original_sizes_hw: Of each image, before.
        rows: Places of their regions among the batch's N.
        image_index: Which of these images each region lies in.
        levels: The level that each region is pooled from, 0 for the finest.
    """

    size_hw: tuple[int, int]
    original_sizes_hw: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]
    image_index: tuple[int, ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """A batch as GRiT reads it, made on the host. Its tensors go to a device with their batch.

    Attributes:
        groups: The images that have regions, in groups of one size.
        pixels_X: uint8 RGB, image after image in the order of the groups, each (h, w, 3).
        boxes_xyxy_N4: Boxes in the same order: resized pixels, float32, none of them empty.
    """

    groups: tuple[EqualImages, ...]
    pixels_X: Tensor
    boxes_xyxy_N4: Tensor

    @property
    def rows(self) -> list[int]:
        """Places among the batch's N of all regions, in the order of the groups."""
        return [row for group in self.groups for row in group.rows]

    def parts(self) -> Iterator[tuple[EqualImages, list[ResizedImage], Tensor]]:
        """Yield each group with its images and boxes."""
        boxes = self.boxes_xyxy_N4.split([len(group.rows) for group in self.groups])
        start = 0
        for group, boxes_xyxy_N4 in zip(self.groups, boxes, strict=True):
            count = 3 * group.size_hw[0] * group.size_hw[1]
            images = []
            for original_hw in group.original_sizes_hw:
                pixels_hw3 = self.pixels_X[start : start + count].view(*group.size_hw, 3)
                images.append(ResizedImage(pixels_hw3, original_hw))
                start += count
            yield group, images, boxes_xyxy_N4


@dataclass(frozen=True)
class Preparation:
    """What is done to a batch before GRiT reads it; loaders do it in processes of their own.

    Attributes:
        short_side_px: Images are scaled so that their shorter side has this length ...
        long_side_px: ... unless the longer one would exceed this.
    """

    short_side_px: int
    long_side_px: int

    def __call__(self, batch: RegionBatch) -> RegionBatch:
        """Return the batch with its images resized, as `prepared`, and not as they were.

        Raises:
            ValueError: It has no boxes or no original images.
        """
        return replace(batch, prepared=self.of(batch), original_images=None)

    def of(self, batch: RegionBatch) -> Prepared:
        """Return what GRiT reads of a batch. Where that is on a GPU, it waits for the boxes.

        Raises:
            ValueError: It has no boxes or no original images.
        """
        boxes_N4 = batch.original_boxes().cpu()
        rows_of_images: list[list[int]] = [[] for _ in batch.image_ids]
        for row, image in enumerate(batch.per_region(list(range(len(batch.image_ids))))):
            rows_of_images[image].append(row)
        found: dict[tuple[int, int], list[tuple[ResizedImage, list[int]]]] = {}
        for image_HW3, rows in zip(batch.original_images or [], rows_of_images, strict=True):
            if rows:
                resized = resize(image_HW3, self.short_side_px, self.long_side_px)
                found.setdefault(resized.size_hw, []).append((resized, rows))
        groups, pixels, boxes = [], [boxes_N4.new_zeros(0, dtype=torch.uint8)], [boxes_N4[:0]]
        for size_hw, members in found.items():
            inside = [
                widen_empty(to_resized(clean_boxes(boxes_N4[rows], image.original_hw), image))
                for image, rows in members
            ]
            pixels += [image.pixels_hw3.flatten() for image, _ in members]
            boxes.append(torch.cat(inside))
            groups.append(
                EqualImages(
                    size_hw,
                    tuple(image.original_hw for image, _ in members),
                    tuple(row for _, rows in members for row in rows),
                    tuple(index for index, (_, rows) in enumerate(members) for _ in rows),
                    tuple(pool_levels(boxes[-1], NUM_POOLED_LEVELS).tolist()),
                )
            )
        return Prepared(tuple(groups), torch.cat(pixels), torch.cat(boxes))
