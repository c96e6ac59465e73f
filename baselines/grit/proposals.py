"""The proposal head: class-agnostic centre heat and distances to the four sides (CenterNet2).

Shape legend: B images, C channels, H and W rows and columns of a level, K candidates, P proposals.

Source: Zhou et al., Probabilistic two-stage detection, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from baselines.grit.config import STRIDES, DetectionConfig

_NUM_CONVS = 4
_NUM_GROUPS = 32
_MIN_SIDE_PX = 0.01


@dataclass(frozen=True)
class HeadOutput:
    """What the head says about one level.

    Attributes:
        heat_logits_B1HW: Logit that a region's centre lies here.
        distances_B4HW: Left, top, right, bottom side, in cells (times the stride: pixels).
    """

    heat_logits_B1HW: Tensor
    distances_B4HW: Tensor


@dataclass(frozen=True)
class Proposals:
    """Proposals of one image, best first.

    Attributes:
        boxes_xyxy_P4: Pixels of the resized image; may reach outside it.
        scores_P: Square root of the heat.
    """

    boxes_xyxy_P4: Tensor
    scores_P: Tensor


def cell_centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Return the points (H*W, 2), x then y in pixels, that a level's cells represent."""
    y = torch.arange(height, device=device) * stride + stride // 2
    x = torch.arange(width, device=device) * stride + stride // 2
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1).float()


class ProposalHead(nn.Module):
    """One tower of convolutions, shared by all levels, with two outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_NUM_CONVS):
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GroupNorm(min(_NUM_GROUPS, channels), channels),
                nn.ReLU(),
            ]
        self.tower = nn.Sequential(*layers)
        self.heat = nn.Conv2d(channels, 1, 3, padding=1)
        self.distances = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(1) for _ in STRIDES)

    def forward(self, levels: Sequence[Tensor]) -> list[HeadOutput]:
        """Score every cell of the five levels."""
        outputs = []
        for level_BCHW, scale in zip(levels, self.scales, strict=True):
            x_BCHW = self.tower(level_BCHW)
            distances = F.relu(scale * self.distances(x_BCHW))
            outputs.append(HeadOutput(self.heat(x_BCHW), distances))
        return outputs


def choose_proposals(
    outputs: Sequence[HeadOutput], image: int, config: DetectionConfig
) -> Proposals:
    """Turn the head's outputs for one image of the batch into proposals.

    Args:
        outputs: Of each of the five levels.
        image: Index of the image in the batch.
        config: Thresholds and limits.
    """
    boxes, scores = [], []
    heats = [output.heat_logits_B1HW[image].sigmoid().flatten() for output in outputs]
    counts = torch.stack([(heat_K > config.min_heat).sum() for heat_K in heats]).tolist()
    for output, stride, heat_K, count in zip(outputs, STRIDES, heats, counts, strict=True):
        distances_K4 = output.distances_B4HW[image].flatten(1).T * stride
        height, width = output.heat_logits_B1HW.shape[-2:]
        centres_K2 = cell_centres(height, width, stride, heat_K.device)
        kept = _places(heat_K > config.min_heat, count)
        if len(kept) > config.max_per_level:
            kept = kept[heat_K[kept].topk(config.max_per_level).indices]
        boxes.append(_decode(centres_K2[kept], distances_K4[kept]))
        scores.append(torch.sqrt(heat_K[kept]))
    boxes_xyxy_K4, scores_K = torch.cat(boxes).float(), torch.cat(scores).float()
    kept = nms(boxes_xyxy_K4, scores_K, config.proposal_iou)
    if len(kept) > config.max_proposals:
        # All that tie with the last one stay, so there may be a few more.
        least = scores_K[kept].kthvalue(len(kept) - config.max_proposals + 1).values
        kept = kept[scores_K[kept] >= least]
    return Proposals(boxes_xyxy_K4[kept], scores_K[kept])


def _places(chosen_K: Tensor, count: int) -> Tensor:
    """Return what `nonzero` would, and the host need not wait to learn that these are `count`."""
    slots_K = torch.where(chosen_K, chosen_K.cumsum(0) - 1, count)
    places_K = torch.arange(len(chosen_K), device=chosen_K.device)
    return places_K.new_zeros(count + 1).scatter(0, slots_K, places_K)[:count]


def _decode(centres_K2: Tensor, distances_K4: Tensor) -> Tensor:
    """Return boxes xyxy with sides of at least a hundredth of a pixel."""
    top_left = centres_K2 - distances_K4[:, :2]
    bottom_right = torch.maximum(centres_K2 + distances_K4[:, 2:], top_left + _MIN_SIDE_PX)
    return torch.cat([top_left, bottom_right], dim=1)
