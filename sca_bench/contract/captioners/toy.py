"""Made-up batches for contracts, and the changes of a batch that must change no answer.

Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sca_bench.batch import RegionBatch
from sca_bench.boxes import resized_hw, scale_boxes

_SIZES_HW = ((60, 96), (90, 40))
"""Original sizes of the two images: one wide, one high, neither of the model's size."""
_BOXES_XYXY = (
    ((4.0, 6.0, 40.0, 50.0), (30.0, 10.0, 90.0, 30.0), (2.0, 40.0, 25.0, 58.0)),
    ((5.0, 20.0, 35.0, 80.0),),
)


def toy_batch(image_size: int = 96, seed: int = 0) -> RegionBatch:
    """Return two images of coloured noise with three regions and one.

    Args:
        image_size: Side of the square model input in pixels.
        seed: Of the pixels; boxes and sizes are always the same.

    Returns:
        A batch with boxes, model input and original images, padded to three regions an image.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels_B3SS = torch.zeros(2, 3, image_size, image_size)
    boxes_BR4 = torch.zeros(2, 3, 4)
    originals, sizes = [], []
    for index, ((height, width), boxes) in enumerate(zip(_SIZES_HW, _BOXES_XYXY, strict=True)):
        coarse_13hw = torch.rand(1, 3, 6, 6, generator=generator)
        image_13HW = F.interpolate(coarse_13hw, (height, width), mode="bilinear")
        originals.append((255 * image_13HW[0]).byte().permute(1, 2, 0).contiguous())
        input_hw = resized_hw(height, width, image_size)
        sizes.append(input_hw)
        shown_3hw = F.interpolate(image_13HW, input_hw, mode="bilinear")[0]
        pixels_B3SS[index, :, : input_hw[0], : input_hw[1]] = 4 * shown_3hw - 2
        scaled = scale_boxes(boxes, (height, width), input_hw)
        boxes_BR4[index, : len(boxes)] = torch.from_numpy(scaled).float()
    return RegionBatch(
        image_ids=["wide", "high"],
        region_ids=["wide-0", "wide-1", "wide-2", "high-0"],
        region_mask_BR=torch.tensor([[True, True, True], [True, False, False]]),
        boxes_xyxy_input_BR4=boxes_BR4,
        pixel_values_B3HW=pixels_B3SS,
        input_sizes_hw=sizes,
        original_images=originals,
        views=[0, 0],
    )


def image_of(batch: RegionBatch, index: int) -> RegionBatch:
    """Return the batch of one of its images, without padded regions.

    Args:
        batch: A batch without features.
        index: The image, 0 to B - 1.
    """
    mask_R = batch.region_mask_BR[index]
    before = int(batch.region_mask_BR[:index].sum())
    count = int(mask_R.sum())

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[index : index + 1, mask_R]

    def item(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [values[index]]

    pixels_B3HW = batch.pixel_values_B3HW
    return replace(
        batch,
        image_ids=[batch.image_ids[index]],
        region_ids=batch.region_ids[before : before + count],
        captions=batch.captions and batch.captions[before : before + count],
        region_mask_BR=torch.ones(1, count, dtype=torch.bool),
        boxes_xyxy_input_BR4=rows(batch.boxes_xyxy_input_BR4),
        points_xy_input_BRP2=rows(batch.points_xy_input_BRP2),
        point_labels_BRP=rows(batch.point_labels_BRP),
        pixel_values_B3HW=None if pixels_B3HW is None else pixels_B3HW[index : index + 1],
        input_sizes_hw=item(batch.input_sizes_hw),
        original_images=item(batch.original_images),
        tasks=item(batch.tasks),
        views=item(batch.views),
    )


def without_regions(batch: RegionBatch) -> RegionBatch:
    """Return the batch with its images and none of its regions."""
    empty = torch.zeros_like(batch.region_mask_BR)
    captions = batch.captions and batch.captions[:0]
    return replace(batch, region_ids=[], captions=captions, region_mask_BR=empty)


def with_padding(batch: RegionBatch, seed: int = 0) -> RegionBatch:
    """Return the batch with two more padded regions an image, and other content in the padded.

    Args:
        batch: A batch with boxes and without features and points.
        seed: Of the boxes that stand in padded places, all inside the image.
    """
    assert batch.boxes_xyxy_input_BR4 is not None
    images, width = batch.region_mask_BR.shape
    more_B2 = torch.zeros(images, 2, dtype=torch.bool)
    mask_BR = torch.cat([batch.region_mask_BR, more_B2], dim=1)
    generator = torch.Generator().manual_seed(seed)
    corners_BR2 = 40 * torch.rand(images, width + 2, 2, generator=generator)
    boxes_BR4 = torch.cat([corners_BR2, corners_BR2 + 7], dim=-1)
    boxes_BR4[:, :width][batch.region_mask_BR] = batch.real(batch.boxes_xyxy_input_BR4)
    return replace(batch, region_mask_BR=mask_BR, boxes_xyxy_input_BR4=boxes_BR4)


def with_regions_in_order(batch: RegionBatch, order: Sequence[int]) -> RegionBatch:
    """Return the batch with the regions of its first image in another order.

    Args:
        batch: A batch with boxes and without features and points, its first image without padding.
        order: The place of each region before.
    """
    assert batch.boxes_xyxy_input_BR4 is not None
    count, boxes_BR4 = len(order), batch.boxes_xyxy_input_BR4.clone()
    boxes_BR4[0, :count] = boxes_BR4[0, list(order)]

    def moved(values: list[str]) -> list[str]:
        return [values[place] for place in order] + values[count:]

    return replace(
        batch,
        region_ids=moved(batch.region_ids),
        captions=batch.captions and moved(batch.captions),
        boxes_xyxy_input_BR4=boxes_BR4,
    )
