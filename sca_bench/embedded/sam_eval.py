"""How good the masks of a tiny SAM are, on scenes it was not trained on.

Shape legend: N objects of all images, S image tokens (= h*w), C channels, M mask candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sca_bench.embedded.sam_data import load_scenes
from sca_bench.embedded.sam_recipe import SamRecipe
from sca_bench.models.sam.sam import Sam


@torch.no_grad()
def evaluate_sam(recipe: SamRecipe, sam: Sam) -> dict[str, float]:
    """Return the mean IoU of the single mask on fresh scenes, prompted by tight box and by point.

    Masks are compared at 96 x 96 pixels after bilinear enlargement. The point is the mask's pixel
    nearest to its centre of mass.
    """
    first = recipe.eval_first_scene_seed
    scenes = load_scenes(range(first, first + recipe.eval_num_scenes))
    embeddings = sam.encode_images(scenes.pixel_values_B3HW)
    sparse = {
        "iou_box": sam.encode_prompts(scenes.boxes_xyxy_N4),
        "iou_point": sam.encode_prompts(None, _central_points(scenes.masks_NHW)),
    }
    result = {}
    for name, sparse_NPC in sparse.items():
        tokens, keys = sam.mix(embeddings, scenes.image_index_N, sparse_NPC)
        logits = sam.mask_logits(tokens, keys)[:, :1]
        shown = F.interpolate(logits, size=scenes.masks_NHW.shape[-2:], mode="bilinear")[:, 0] > 0
        both, either = shown & scenes.masks_NHW, shown | scenes.masks_NHW
        result[name] = float((both.sum((1, 2)) / either.sum((1, 2))).mean())
    return result


def _central_points(masks_NHW: Tensor) -> Tensor:
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in masks_NHW.shape[-2:])
    weight = masks_NHW.float()
    area = weight.sum((1, 2))
    y = (weight.sum(2) @ rows / area)[:, None, None]
    x = (weight.sum(1) @ columns / area)[:, None, None]
    distance = (rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2
    chosen = distance.masked_fill(~masks_NHW, math.inf).flatten(1).argmin(1)
    width = masks_NHW.shape[-1]
    return torch.stack([chosen % width, chosen // width], -1).float()[:, None]
