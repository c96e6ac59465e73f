"""Large-scale jitter: scale an image up or down, then cut or pad it to a square.

Everything here is a pure function of drawn numbers; who draws them is the caller's business.
Shape legend: H, W original size; h, w resized size; S side of the square; R regions.

Source: Ghiasi et al., Simple Copy-Paste, CVPR 2021; the numbers as detectron2's `ResizeScale` and
`FixedSizeCrop` take them, which the Segment and Caption Anything code uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from sca_bench.boxes import mirror_boxes, scale_boxes
from sca_bench.data.pipeline.published_pixels import published_pixels
from sca_bench.specs.encoders import IMAGENET, PixelStats

SMALLEST_SIDE_PX = 1e-5
"""Boxes whose side is not longer than this after the cut are gone."""
_TIE = 1e-6
"""Values this little below a half round up, so that the last bits of the interpolation, which
differ between machines and numbers of threads, never decide about a pixel."""


@dataclass(frozen=True)
class Jitter:
    """What is done to one image.

    Attributes:
        original_hw: Its height and width.
        resized_hw: Height and width it is scaled to.
        offset_yx: Rows and columns cut off above and to the left.
        side: Side of the square that is kept; what lies beyond the image is padding.
        mirrored: Whether it is mirrored left to right first.
        as_published: Cast pixels and box corners down as the original does, not to the nearest.
    """

    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    offset_yx: tuple[int, int]
    side: int
    mirrored: bool
    as_published: bool


def plan_jitter(
    original_hw: tuple[int, int],
    side: int,
    scale: float,
    offset: float,
    *,
    mirrored: bool,
    as_published: bool,
) -> Jitter:
    """Turn drawn numbers into sizes and offsets.

    Args:
        original_hw: Height and width of the image.
        side: Side of the square in pixels.
        scale: The image is made to fit a square of `scale * side` pixels.
        offset: Where the cut lies, from 0 (top left) to 1 (bottom right), on both axes.
        mirrored: Whether the image is mirrored.
        as_published: See `Jitter`.
    """
    height, width = original_hw
    factor = min(side * scale / height, side * scale / width)
    resized = np.maximum(np.round(np.multiply((height, width), factor)), 1).astype(int)
    cut = np.round(np.multiply(np.maximum(resized - side, 0), offset)).astype(int)
    return Jitter(
        original_hw,
        (int(resized[0]), int(resized[1])),
        (int(cut[0]), int(cut[1])),
        side,
        mirrored,
        as_published,
    )


def jitter_boxes(boxes_xyxy: ArrayLike, jitter: Jitter) -> NDArray[np.float64]:
    """Return boxes (R, 4) in the square's pixels, cut at its border; some may have no area left.

    Args:
        boxes_xyxy: Boxes in original pixels.
        jitter: What was done to the image. As published, corners are whole numbers, before and
            after scaling (the original's arrays of integers cannot hold others).
    """
    boxes_xyxy_R4 = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    if jitter.as_published:
        boxes_xyxy_R4 = np.trunc(boxes_xyxy_R4)
    if jitter.mirrored:
        boxes_xyxy_R4 = mirror_boxes(boxes_xyxy_R4, jitter.original_hw[1])
    scaled_R4 = scale_boxes(boxes_xyxy_R4, jitter.original_hw, jitter.resized_hw)
    if jitter.as_published:
        scaled_R4 = np.trunc(scaled_R4)
    top, left = jitter.offset_yx
    moved_R4 = scaled_R4 - np.array([left, top, left, top])
    cut_R4: NDArray[np.float64] = np.clip(moved_R4, 0, jitter.side)
    return cut_R4


def has_area(boxes_xyxy_R4: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say for each of R boxes whether both sides are longer than `SMALLEST_SIDE_PX`."""
    sides_R2 = boxes_xyxy_R4[:, 2:] - boxes_xyxy_R4[:, :2]
    return np.asarray((sides_R2 > SMALLEST_SIDE_PX).all(axis=1))


def jitter_image(
    image_HW3: NDArray[np.uint8], jitter: Jitter, pixels: PixelStats = IMAGENET
) -> NDArray[np.uint8]:
    """Return the square (S, S, 3): scaled bilinearly, cut, padded with the pixels' mean colour."""
    if jitter.mirrored:
        image_HW3 = np.ascontiguousarray(image_HW3[:, ::-1])
    rows, columns = _shown(jitter)
    if jitter.as_published:
        padding = np.array(pixels.mean).astype(np.uint8)
        shown = published_pixels(image_HW3, jitter.resized_hw, rows, columns)
    else:
        padding = np.round(pixels.mean).astype(np.uint8)
        shown = _nearest_pixels(image_HW3, jitter.resized_hw, rows, columns)
    square_SS3 = np.empty((jitter.side, jitter.side, 3), dtype=np.uint8)
    square_SS3[:] = padding
    square_SS3[: shown.shape[0], : shown.shape[1]] = shown
    return square_SS3


def _shown(jitter: Jitter) -> tuple[slice, slice]:
    """Return the rows and columns of the resized image that lie in the square."""
    rows, columns = (
        slice(cut, min(cut + jitter.side, size))
        for cut, size in zip(jitter.offset_yx, jitter.resized_hw, strict=True)
    )
    return rows, columns


def _nearest_pixels(
    image_HW3: NDArray[np.uint8], resized_hw: tuple[int, int], rows: slice, columns: slice
) -> NDArray[np.uint8]:
    image_13HW = torch.from_numpy(image_HW3).permute(2, 0, 1)[None].to(torch.float64)
    resized_13hw = F.interpolate(image_13HW, resized_hw, mode="bilinear", align_corners=False)
    values = resized_13hw[0, :, rows, columns].permute(1, 2, 0).numpy()
    return np.floor(values + 0.5 + _TIE).astype(np.uint8)
