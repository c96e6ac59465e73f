"""From original pixels to GRiT's input, and boxes along with them.

Three frames: *original* pixels of the image file, *resized* pixels (shorter side 800), and the
resized image padded to the right and below, whose pixels count the same.

Shape legend: H, W original size; h, w resized size; N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sca_bench.specs.encoders import IMAGENET

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
    pixels_3hw = image.pixels_hw3.to(device).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in IMAGENET)
    padding = (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR)
    return torch.nn.functional.pad((pixels_3hw - mean) / std, padding).to(dtype)


def clean_boxes(boxes_xyxy_N4: Tensor, original_hw: tuple[int, int]) -> Tensor:
    """Bring boxes (original pixels) inside their image, as the paper's GRiT evaluation does.

    Negative sides become 0, sides beyond the last pixel become the last pixel, and a box left
    without width or height becomes (0, 0, 1, 1).

    Source: xk-huang/Promptable-GRiT.
    """
    height, width = original_hw
    last = boxes_xyxy_N4.new_tensor([width - 1, height - 1] * 2)
    boxes_xyxy_N4 = torch.minimum(boxes_xyxy_N4.clamp(min=0), last)
    empty_N = (boxes_xyxy_N4[:, 2:] <= boxes_xyxy_N4[:, :2]).any(1)
    unit = boxes_xyxy_N4.new_tensor([0, 0, 1, 1])
    return torch.where(empty_N[:, None], unit, boxes_xyxy_N4)


def to_resized(boxes_xyxy_N4: Tensor, image: ResizedImage) -> Tensor:
    """Scale boxes from original to resized pixels; the axes scale by the ratio of rounded sizes."""
    (height, width), (new_h, new_w) = image.original_hw, image.size_hw
    return boxes_xyxy_N4 * boxes_xyxy_N4.new_tensor([new_w / width, new_h / height] * 2)


def to_original(boxes_xyxy_N4: Tensor, image: ResizedImage) -> Tensor:
    """Scale boxes from resized to original pixels and clip them to the image."""
    (height, width), (new_h, new_w) = image.original_hw, image.size_hw
    scaled = boxes_xyxy_N4 * boxes_xyxy_N4.new_tensor([width / new_w, height / new_h] * 2)
    limits = scaled.new_tensor([width, height] * 2)
    return torch.minimum(scaled.clamp(min=0), limits)


def widen_empty(boxes_xyxy_N4: Tensor) -> Tensor:
    """Give boxes (resized pixels) without width or height one pixel, so that pooling has one."""
    top_left, bottom_right = boxes_xyxy_N4[:, :2], boxes_xyxy_N4[:, 2:]
    bottom_right = torch.where(bottom_right == top_left, bottom_right + 1, bottom_right)
    return torch.cat([top_left, bottom_right], dim=1)
