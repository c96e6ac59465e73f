"""Boxes: one format, two frames. Pure functions over numpy arrays and tuples; no torch.

A box is `xyxy`: left, top, right, bottom, right and bottom exclusive, x to the right and y down.
Frames: *original* pixels of the image file, and *input* pixels of the model's square canvas, into
which the image is scaled so that its longest side fits, top left aligned. Names carry the frame
(`box_xyxy` is original, `box_xyxy_input` is not).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sca_bench.types import BoxXYXY

FAR_PX = 1e9
"""No image is so large; a number beyond, or none at all (NaN), is no place in one."""


class BoxFault(StrEnum):
    """Why a box cannot be used; the value is the reason that summaries print."""

    DEGENERATE = "box without area"
    OUTSIDE = "box wholly outside its image"
    TOO_SMALL = "side not above min_side_px"


def xywh_to_xyxy(x: float, y: float, width: float, height: float) -> BoxXYXY:
    """Turn a left, top, width, height box into `xyxy` in the same frame."""
    return (float(x), float(y), float(x) + float(width), float(y) + float(height))


def clip_box(box_xyxy: BoxXYXY, width: int, height: int) -> BoxXYXY:
    """Cut a box to `0 <= x <= width`, `0 <= y <= height`; the result may have no area."""
    left, top, right, bottom = box_xyxy
    return (
        min(max(left, 0.0), float(width)),
        min(max(top, 0.0), float(height)),
        min(max(right, 0.0), float(width)),
        min(max(bottom, 0.0), float(height)),
    )


def fit_box(
    box_xyxy: BoxXYXY, width: int, height: int, min_side_px: float = 0.0
) -> BoxXYXY | BoxFault:
    """Cut a box to its image and say whether the rest is of use.

    Args:
        box_xyxy: A finite box in original pixels.
        width: Image width in pixels.
        height: Image height in pixels.
        min_side_px: Both sides of the clipped box must be *longer* than this.

    Returns:
        The clipped box (right > left, bottom > top), or the reason why there is none.
    """
    left, top, right, bottom = box_xyxy
    if not (right > left and bottom > top):
        return BoxFault.DEGENERATE
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return BoxFault.OUTSIDE
    inside = left >= 0 and top >= 0 and right <= width and bottom <= height
    clipped = box_xyxy if inside else clip_box(box_xyxy, width, height)
    left, top, right, bottom = clipped
    if not (right > left and bottom > top):
        return BoxFault.DEGENERATE
    if not (right - left > min_side_px and bottom - top > min_side_px):
        return BoxFault.TOO_SMALL
    return clipped


def resized_hw(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Return height and width once the longest side is `long_side`, rounded half up as SAM does.

    A side that would round to nothing keeps one pixel.

    Source: segment-anything, `ResizeLongestSide.get_preprocess_shape`.
    """
    scale = long_side * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def scale_boxes(
    boxes_xyxy: ArrayLike, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Scale boxes (..., 4) from an image of size `from_hw` to the same image at size `to_hw`.

    The two axes scale by the ratio of the rounded sizes, as SAM's `apply_boxes` does. Swap the
    sizes to go back from model-input pixels to original pixels.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    x_scale, y_scale = to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]
    scaled: NDArray[np.float64] = boxes * np.array([x_scale, y_scale, x_scale, y_scale])
    return scaled


def mirror_boxes(boxes_xyxy: ArrayLike, width: float) -> NDArray[np.float64]:
    """Mirror boxes (..., 4) left to right inside a frame `width` pixels wide."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    return np.stack(
        [width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], axis=-1
    )


def centre_points(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Return the centres (..., 2), x then y, of boxes (..., 4), in the boxes' frame."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    centres: NDArray[np.float64] = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres


def tight_box(mask_HW: NDArray[np.bool_]) -> BoxXYXY:
    """Return the smallest box around the true pixels of a mask (H, W), in the mask's pixels.

    Raises:
        ValueError: The mask has no true pixel.
    """
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if rows.size == 0:
        raise ValueError("an empty mask has no tight box")
    return (float(columns[0]), float(rows[0]), float(columns[-1]) + 1.0, float(rows[-1]) + 1.0)
