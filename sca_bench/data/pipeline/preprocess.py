"""From an image file's pixels to the model's input, exactly as SAM does it.

Shape legend: H, W original size; h, w resized size; S side of the square model input.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sca_bench.batch import RawPixels
from sca_bench.boxes import resized_hw
from sca_bench.specs.encoders import IMAGENET, PixelStats


def resize_longest_side(image_HW3: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Scale an RGB image so that its longest side is `image_size` (bilinear, antialiased).

    Source: segment-anything, `ResizeLongestSide.apply_image`.
    """
    height, width = resized_hw(image_HW3.shape[0], image_HW3.shape[1], image_size)
    if (height, width) == image_HW3.shape[:2]:
        return image_HW3
    resized = Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def raw_pixels(
    image_HW3: NDArray[np.uint8], image_size: int, pixels: PixelStats = IMAGENET
) -> RawPixels:
    """Resize and pad one RGB image; it is normalised by these statistics where it is needed.

    Source: segment-anything, `Sam.preprocess`.
    """
    image_hw3 = resize_longest_side(image_HW3, image_size)
    height, width = image_hw3.shape[:2]
    values_13SS = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
    values_13SS[0, :, :height, :width] = torch.from_numpy(np.array(image_hw3)).permute(2, 0, 1)
    return RawPixels(values_13SS, ((height, width),), *pixels)


def preprocess(
    image_HW3: NDArray[np.uint8], image_size: int, pixels: PixelStats = IMAGENET
) -> Tensor:
    """Resize, normalise and pad one RGB image to the model's input, float32 (3, S, S)."""
    return raw_pixels(image_HW3, image_size, pixels).normalised()[0]


def blank_image(height: int, width: int, pixels: PixelStats = IMAGENET) -> NDArray[np.uint8]:
    """Return the image that says nothing but its size: the mean colour, rounded, (H, W, 3)."""
    return np.full((height, width, 3), np.rint(pixels.mean), dtype=np.uint8)


def blank_pixels(image_size: int, pixels: PixelStats = IMAGENET) -> RawPixels:
    """Return the input that says nothing: the mean colour everywhere, zero once normalised.

    It does not even say where the image ends and the padding begins.
    """
    values_13SS = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
    return RawPixels(values_13SS, ((0, 0),), *pixels)
