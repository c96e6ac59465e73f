"""Pooling regions from the pyramid.

Shape legend: N regions, C channels, S rows and columns of the pooled grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from baselines.grit.config import STRIDES

_CANONICAL_PX = 224
_CANONICAL_LEVEL = 4


def pool_levels(boxes_xyxy_N4: Tensor, num_levels: int) -> Tensor:
    """Return the level of each box, 0 for the finest: one coarser for every doubling of its side.

    Source: Lin et al., Feature Pyramid Networks, CVPR 2017.
    """
    width, height = (boxes_xyxy_N4[:, 2:] - boxes_xyxy_N4[:, :2]).unbind(1)
    side = torch.sqrt(width * height)
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_PX + 1e-8))
    first = STRIDES[0].bit_length() - 1
    return level.clamp(first, first + num_levels - 1).long() - first


def pool_regions(
    levels: Sequence[Tensor], boxes_xyxy_N4: Tensor, image_index_N: Tensor, size: int
) -> Tensor:
    """Pool N boxes, each from the level that fits its size, to (N, C, size, size).

    Args:
        levels: Pyramid levels (B, C, H, W), strides 8, 16, ...
        boxes_xyxy_N4: Boxes in pixels of the resized images.
        image_index_N: Which of the B images each box lies in.
        size: Rows and columns to pool to.
    """
    rois_N5 = torch.cat([image_index_N[:, None].to(boxes_xyxy_N4), boxes_xyxy_N4], dim=1)
    rois_N5 = rois_N5.to(levels[0].dtype)
    shape = (len(boxes_xyxy_N4), levels[0].shape[1], size, size)
    pooled_NCSS = levels[0].new_zeros(shape)
    chosen_N = pool_levels(boxes_xyxy_N4, len(levels))
    for number, level_BCHW in enumerate(levels):
        rows = torch.nonzero(chosen_N == number).flatten()
        if len(rows):
            cut = roi_align(
                level_BCHW,
                rois_N5[rows],
                size,
                spatial_scale=1 / STRIDES[number],
                sampling_ratio=0,
                aligned=True,
            )
            pooled_NCSS = pooled_NCSS.index_copy(0, rows, cut.to(pooled_NCSS.dtype))
    return pooled_NCSS
