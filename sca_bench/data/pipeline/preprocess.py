"""From an image file's pixels to the model's input, exactly as SAM does it.

Shape legend: H, W original size; h, w resized size; S side of the square model input.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

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


def normalise_and_pad(
    image_hw3: NDArray[np.uint8], image_size: int, pixels: PixelStats = IMAGENET
) -> Tensor:
    """Normalise by an encoder's statistics, then pad with zeros to the right and below.

    Returns:
        float32, (3, S, S).

    Source: segment-anything, `Sam.preprocess`.
    """
    height, width = image_hw3.shape[:2]
    pixels_3hw = torch.from_numpy(np.array(image_hw3)).permute(2, 0, 1).to(torch.float32)
    mean_311 = torch.tensor(pixels.mean).view(3, 1, 1)
    std_311 = torch.tensor(pixels.std).view(3, 1, 1)
    padded_3SS = torch.zeros(3, image_size, image_size)
    padded_3SS[:, :height, :width] = (pixels_3hw - mean_311) / std_311
    return padded_3SS


def preprocess(
    image_HW3: NDArray[np.uint8], image_size: int, pixels: PixelStats = IMAGENET
) -> Tensor:
    """Resize, normalise and pad one RGB image to the model's input, float32 (3, S, S)."""
    return normalise_and_pad(resize_longest_side(image_HW3, image_size), image_size, pixels)


def blank_image(height: int, width: int, pixels: PixelStats = IMAGENET) -> NDArray[np.uint8]:
    """Return the image that says nothing but its size: the mean colour, rounded, (H, W, 3)."""
    return np.full((height, width, 3), np.rint(pixels.mean), dtype=np.uint8)


def blank_input(image_size: int) -> Tensor:
    """Return the input that says nothing: the mean colour everywhere, zero once normalised.

    It does not even say where the image ends and the padding begins.

    Returns:
        float32, (3, S, S).
    """
    return torch.zeros(3, image_size, image_size)
