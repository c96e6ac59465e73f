"""SAM's low-resolution mask logits as a mask of the whole image."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as nnf

from sca_bench.boxes import resized_hw


def mask_in_image(
    logits_hw: torch.Tensor, original_hw: tuple[int, int], image_size: int
) -> np.ndarray:
    """Bring a low-resolution mask to the original frame: up, padding off, then to the image.

    Args:
        logits_hw: Mask logits over the square model input.
        original_hw: Height and width of the image.
        image_size: Side of the model input in pixels.

    Returns:
        bool, (H, W).

    Source: segment-anything, `Sam.postprocess_masks`.
    """
    height, width = original_hw
    input_h, input_w = resized_hw(height, width, image_size)
    size = (image_size, image_size)
    full = nnf.interpolate(logits_hw[None, None].float(), size, mode="bilinear")
    valid = full[..., :input_h, :input_w]
    inside = nnf.interpolate(valid, (height, width), mode="bilinear")[0, 0] > 0
    return np.asarray(inside.numpy(), dtype=bool)
