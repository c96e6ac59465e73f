"""Points drawn at random inside the masks that SAM itself predicts for boxes.

Shape legend: B images, N regions, M mask candidates, S image tokens, C channels.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sca_bench.models.sam.sam import Sam


def draw_point(
    mask_logits_hw: Tensor,
    box_xyxy_input: Tensor,
    *,
    image_size: int,
    input_hw: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Draw one pixel of a mask, all with the same probability.

    Args:
        mask_logits_hw: Low-resolution logits over the whole square input; the mask is where they
            are positive once enlarged to model-input pixels.
        box_xyxy_input: The box (4,), in model-input pixels.
        image_size: Side of the square input, in pixels.
        input_hw: Height and width of the image inside it; beyond them is padding.
        rng: What draws.

    Returns:
        x and y of the pixel, in whole model-input pixels; of the box's centre where the mask is
        empty.
    """
    size = (image_size, image_size)
    full = F.interpolate(mask_logits_hw[None, None].float(), size, mode="bilinear")[0, 0]
    rows, columns = np.nonzero((full[: input_hw[0], : input_hw[1]] > 0).cpu().numpy())
    if rows.size == 0:
        left, top, right, bottom = box_xyxy_input.tolist()
        return (left + right) / 2, (top + bottom) / 2
    drawn = int(rng.integers(rows.size))
    return float(columns[drawn]), float(rows[drawn])


def region_rng(seed: int, region_id: str) -> np.random.Generator:
    """Return the generator of one region: a function of the seed and of its id, nothing else."""
    digest = hashlib.sha256(region_id.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])


@torch.no_grad()
def points_in_sam_masks(
    sam: Sam,
    embeddings_BChw: Tensor,
    image_index_N: Tensor,
    boxes_xyxy_input_N4: Tensor,
    *,
    input_sizes_hw: list[tuple[int, int]],
    region_ids: list[str],
    seed: int,
) -> Tensor:
    """Prompt SAM with boxes and draw a point in each best mask.

    The best mask is that candidate (of the several, not the single mask) with the highest
    predicted IoU.

    Args:
        sam: Frozen SAM.
        embeddings_BChw: Image embeddings.
        image_index_N: The image each region lies in.
        boxes_xyxy_input_N4: Boxes in model-input pixels.
        input_sizes_hw: Height and width of each image's valid area in model-input pixels.
        region_ids: N region ids.
        seed: Seed of the draws.

    Returns:
        Points (N, 1, 2), x then y, in model-input pixels.
    """
    prompts_NPC = sam.encode_prompts(boxes_xyxy_input_N4)
    tokens_NTC, image_tokens_NSC = sam.mix(embeddings_BChw, image_index_N, prompts_NPC)
    best_N = sam.predicted_ious(tokens_NTC)[:, 1:].argmax(1) + 1
    masks_NMhw = sam.mask_logits(tokens_NTC, image_tokens_NSC)
    points = [
        draw_point(
            masks_NMhw[row, best],
            boxes_xyxy_input_N4[row],
            image_size=sam.dims.image_size,
            input_hw=input_sizes_hw[image],
            rng=region_rng(seed, region_ids[row]),
        )
        for row, (best, image) in enumerate(
            zip(best_N.tolist(), image_index_N.tolist(), strict=True)
        )
    ]
    return torch.tensor(points, device=embeddings_BChw.device).reshape(-1, 1, 2)
