"""Pooling regions from the pyramid.

Shape legend: N regions, C channels, S rows and columns of the pooled grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from baselines.grit.config import STRIDES
from baselines.grit.preprocess import pool_levels
from sca_bench.devices import gpu


def pool_regions(
    levels: Sequence[Tensor],
    boxes_xyxy_N4: Tensor,
    image_index_N: Tensor,
    size: int,
    level_of_N: Sequence[int] | None = None,
) -> Tensor:
    """Pool N boxes, each from the level that fits its size, to (N, C, size, size).

    Args:
        levels: Pyramid levels (B, C, H, W), strides 8, 16, ...
        boxes_xyxy_N4: Boxes in pixels of the resized images.
        image_index_N: Which of the B images each box lies in.
        size: Rows and columns to pool to.
        level_of_N: The level of each box (`pool_levels`), where the host knows it. It waits for
            the boxes where it does not.
    """
    rois_N5 = torch.cat([image_index_N[:, None].to(boxes_xyxy_N4), boxes_xyxy_N4], dim=1)
    rois_N5 = rois_N5.to(levels[0].dtype)
    shape = (len(boxes_xyxy_N4), levels[0].shape[1], size, size)
    pooled_NCSS = levels[0].new_zeros(shape)
    if level_of_N is None:
        level_of_N = pool_levels(boxes_xyxy_N4.cpu(), len(levels)).tolist()
    for number, rows in enumerate(_rows_of(level_of_N, len(levels), boxes_xyxy_N4.device)):
        if len(rows):
            cut = roi_align(
                levels[number],
                rois_N5[rows],
                size,
                spatial_scale=1 / STRIDES[number],
                sampling_ratio=0,
                aligned=True,
            )
            pooled_NCSS = pooled_NCSS.index_copy(0, rows, cut.to(pooled_NCSS.dtype))
    return pooled_NCSS


def _rows_of(level_of_N: Sequence[int], num_levels: int, device: torch.device) -> Sequence[Tensor]:
    """Return for each level the regions that are pooled from it, in order, sent in one copy."""
    rows = [[row for row, of in enumerate(level_of_N) if of == n] for n in range(num_levels)]
    flat_N = torch.tensor([row for level in rows for row in level], dtype=torch.long)
    parts: Sequence[Tensor] = gpu.send(flat_N, device).split([len(level) for level in rows])
    return parts
