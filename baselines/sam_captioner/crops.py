"""What an image captioner is shown for a region: from SAM's masks to pieces of the image.

Pure functions. Boxes are `xyxy` in whole pixels of the original image: left and top are the first
pixels inside, right and bottom the first ones outside.
Shape legend: M masks, h, w low-resolution masks, H, W original image, S side of the model input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

MIN_SIDE_PX = 2
"""Shorter sides are widened to this, to the right and down."""
WHITE = 255

Box = tuple[int, int, int, int]


def full_masks(
    logits_Mhw: Tensor, *, input_hw: tuple[int, int], original_hw: tuple[int, int], side: int
) -> Tensor:
    """Bring low-resolution masks to the original image: up, padding off, then to its size.

    Args:
        logits_Mhw: Mask logits over the square, padded model input.
        input_hw: Height and width of the image inside the model input, in pixels.
        original_hw: Height and width of the original image.
        side: Side S of the model input in pixels.

    Returns:
        bool, (M, H, W): where the logits are above 0.

    Source: segment-anything, `Sam.postprocess_masks`.
    """
    padded_1MSS = F.interpolate(logits_Mhw[None].float(), (side, side), mode="bilinear")
    valid_1Mhw = padded_1MSS[..., : input_hw[0], : input_hw[1]]
    return F.interpolate(valid_1Mhw, original_hw, mode="bilinear")[0] > 0


def mask_boxes(masks_MHW: Tensor) -> NDArray[np.int64]:
    """Return the box that is cut out for each mask, (M, 4).

    The last row and column of a mask count as the first ones outside, so a box misses them; a
    side below `MIN_SIDE_PX` is widened to that, at the image's edge beyond it; and a mask without
    a true pixel gives the image's top left corner. This is what the published numbers were made
    with.

    Source: Segment and Caption Anything, SAM + captioner baseline.
    """
    boxes_M4 = np.zeros((len(masks_MHW), 4), dtype=np.int64)
    for box, mask_HW in zip(boxes_M4, masks_MHW.cpu().numpy(), strict=True):
        rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
        if rows.size:
            box[:] = columns[0], rows[0], columns[-1], rows[-1]
        box[2:] = np.maximum(box[2:], box[:2] + MIN_SIDE_PX)
    return boxes_M4


def prompt_box(box_xyxy: Sequence[float], image_hw: tuple[int, int]) -> Box:
    """Round a prompt box outwards to whole pixels of its image, sides at least `MIN_SIDE_PX`.

    Args:
        box_xyxy: Any box in original pixels that overlaps the image.
        image_hw: Height and width of the image.
    """
    height, width = image_hw
    # Boxes come back from model-input pixels a rounding error away from where they were.
    left, top = (int(np.floor(v + 1e-3)) for v in box_xyxy[:2])
    right, bottom = (int(np.ceil(v - 1e-3)) for v in box_xyxy[2:])
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right = max(min(right, width), left + MIN_SIDE_PX)
    bottom = max(min(bottom, height), top + MIN_SIDE_PX)
    return left, top, right, bottom


def widen(box_xyxy: Box, margin: float, image_hw: tuple[int, int]) -> Box:
    """Move each side of a box outwards by a share of the box's own width or height.

    The widened box ends at the image; without a margin the box is returned as it is.

    Args:
        box_xyxy: The box.
        margin: The share, 0 or more.
        image_hw: Height and width of the image.
    """
    if margin == 0:
        return box_xyxy
    left, top, right, bottom = box_xyxy
    x, y = round(margin * (right - left)), round(margin * (bottom - top))
    height, width = image_hw
    return max(left - x, 0), max(top - y, 0), min(right + x, width), min(bottom + y, height)


def cut(image_HW3: NDArray[np.uint8], box_xyxy: Box) -> Image.Image:
    """Cut a box out of an RGB image; what lies beyond the image is black."""
    return Image.fromarray(image_HW3).crop(box_xyxy)


def on_white(image_HW3: NDArray[np.uint8], mask_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the image with white wherever the mask is false."""
    return np.where(mask_HW[..., None], image_HW3, np.uint8(WHITE))


def image_array(image_HW3: Tensor) -> NDArray[np.uint8]:
    """Return an image of a batch (uint8, RGB) as an array.

    Raises:
        ValueError: It is no (H, W, 3) image of bytes.
    """
    if image_HW3.dtype != torch.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3:
        given = f"{image_HW3.dtype} {tuple(image_HW3.shape)}"
        raise ValueError(f"an original image must be uint8 (H, W, 3), not {given}")
    return np.asarray(image_HW3.cpu().numpy())
