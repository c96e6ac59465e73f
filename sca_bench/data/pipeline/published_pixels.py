"""The pixels that the published jitter makes, bit for bit, on any machine and number of threads.

The original normalises the image, scales it bilinearly in double precision, undoes the
normalisation and cuts the fractions off. A value that should be 127 then becomes 127 or 126 by the
last bits of the interpolation, and those depend on the kernel that torch picks: for one thread or a
small output it weighs four pixels, else it goes along the rows first; both round after fused
multiply-adds only. Pixels whose value is not next to a whole number do not depend on any of it, so
torch computes all of them, and the few others are computed again here as the kernel for several
threads does.

Shape legend: H, W original size; h, w rows and columns asked for; K pixels next to a whole number.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_NEXT_TO = 1e-6
"""Interpolations differ by less than a millionth of this; and values this near are few."""
_SMALL_OUTPUT = 128
"""Up to this sum of height and width, torch weighs the four pixels at once."""


def published_pixels(
    image_HW3: NDArray[np.uint8], resized_hw: tuple[int, int], rows: slice, columns: slice
) -> NDArray[np.uint8]:
    """Scale an image as the original does and return some rows and columns of it.

    Args:
        image_HW3: The image.
        resized_hw: Height and width it is scaled to.
        rows: Rows of the scaled image to return.
        columns: Columns to return.

    Returns:
        (h, w, 3).
    """
    normal_HW3 = (image_HW3 / 255 - _MEAN) / _STD
    normal_13HW = torch.from_numpy(normal_HW3).permute(2, 0, 1)[None]
    resized_13hw = F.interpolate(normal_13HW, resized_hw, mode="bilinear", align_corners=False)
    normal_hw3 = resized_13hw[0, :, rows, columns].permute(1, 2, 0).numpy()
    values_hw3 = (normal_hw3 * _STD + _MEAN) * 255
    row_K, column_K, channel_K = np.nonzero(np.abs(values_hw3 - np.rint(values_hw3)) < _NEXT_TO)
    exact_K = _interpolate(
        normal_HW3, resized_hw, row_K + rows.start, column_K + columns.start, channel_K
    )
    values_hw3[row_K, column_K, channel_K] = (exact_K * _STD[channel_K] + _MEAN[channel_K]) * 255
    pixels_hw3: NDArray[np.uint8] = values_hw3.astype(np.uint8)
    return pixels_hw3


def _interpolate(
    image_HW3: Floats, resized_hw: tuple[int, int], row_K: Ints, column_K: Ints, channel_K: Ints
) -> Floats:
    """Return K values of the scaled image."""
    above_K, below_K, from_below_K = _neighbours(image_HW3.shape[0], resized_hw[0], row_K)
    left_K, right_K, from_right_K = _neighbours(image_HW3.shape[1], resized_hw[1], column_K)
    from_above_K, from_left_K = 1 - from_below_K, 1 - from_right_K
    corners = [
        image_HW3[y_K, x_K, channel_K] for y_K in (above_K, below_K) for x_K in (left_K, right_K)
    ]
    if sum(resized_hw) <= _SMALL_OUTPUT:
        weights = [
            y_K * x_K for y_K in (from_above_K, from_below_K) for x_K in (from_left_K, from_right_K)
        ]
        total_K = _fused(corners[0], weights[0], corners[1] * weights[1])
        total_K = _fused(corners[2], weights[2], total_K)
        return _fused(corners[3], weights[3], total_K)
    upper_K = _fused(corners[0], from_left_K, corners[1] * from_right_K)
    lower_K = _fused(corners[2], from_left_K, corners[3] * from_right_K)
    return _fused(upper_K, from_above_K, lower_K * from_below_K)


def _neighbours(size: int, resized: int, place_K: Ints) -> tuple[Ints, Ints, Floats]:
    """Return the two pixels beside each place along one axis, and the weight of the second."""
    step_K, half_K = np.full(len(place_K), size / resized), np.full(len(place_K), 0.5)
    source_K = np.maximum(_fused(step_K, place_K + half_K, -half_K), 0)
    # torch rounds to single precision before it takes the floor.
    first_K = np.minimum(source_K.astype(np.float32).astype(np.intp), size - 1)
    return first_K, np.minimum(first_K + 1, size - 1), np.clip(source_K - first_K, 0, 1)


def _fused(a_K: Floats, b_K: Floats, c_K: Floats) -> Floats:
    """Return `a * b + c` rounded once, from error-free products and sums (Dekker, Knuth)."""
    product_K = a_K * b_K
    a_high_K, a_low_K = _halves(a_K)
    b_high_K, b_low_K = _halves(b_K)
    lost_K = a_high_K * b_high_K - product_K + a_high_K * b_low_K + a_low_K * b_high_K
    lost_K = lost_K + a_low_K * b_low_K
    total_K = product_K + c_K
    part_K = total_K - product_K
    return total_K + ((product_K - (total_K - part_K)) + (c_K - part_K) + lost_K)


def _halves(a_K: Floats) -> tuple[Floats, Floats]:
    """Split doubles into two of 26 bits each, whose products are exact."""
    shifted_K = a_K * 134_217_729.0
    high_K = shifted_K - (shifted_K - a_K)
    return high_K, a_K - high_K
