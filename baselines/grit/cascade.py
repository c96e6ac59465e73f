"""The cascade: three heads that each score and move the boxes of the one before.

Shape legend: P boxes of one image, C channels, S rows and columns of the pooled grid.

Source: Cai and Vasconcelos, Cascade R-CNN, CVPR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image, nms

from baselines.grit.config import DetectionConfig
from baselines.grit.pooling import pool_regions
from baselines.grit.proposals import Proposals
from sca_bench.devices import gpu

POOLED_SIZE = 7
_STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
_MAX_LOG_SCALE = math.log(1000 / 16)


@dataclass(frozen=True)
class StageOutput:
    """What one stage saw and said.

    Attributes:
        in_boxes_xyxy_P4: Boxes it pooled, pixels of the resized image.
        class_logits_P2: Foreground, background.
        deltas_P4: Moves of centre and size, in units of the stage.
        boxes_xyxy_P4: The moved boxes, not clipped.
    """

    in_boxes_xyxy_P4: Tensor
    class_logits_P2: Tensor
    deltas_P4: Tensor
    boxes_xyxy_P4: Tensor


@dataclass(frozen=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes_xyxy_P4: Pixels of the resized image, inside it.
        scores_P: Between 0 and 1; the caption's probability is not in it.
        logits_P: Foreground logit, mean over the stages.
    """

    boxes_xyxy_P4: Tensor
    scores_P: Tensor
    logits_P: Tensor


def move_boxes(boxes_xyxy_P4: Tensor, deltas_P4: Tensor, weights: Sequence[float]) -> Tensor:
    """Apply moves (dx, dy in box sides, dw, dh as logarithms; each times its weight) to boxes."""
    weights_4 = gpu.send(torch.tensor(weights, dtype=deltas_P4.dtype), deltas_P4.device)
    dx, dy, dw, dh = (deltas_P4 / weights_4).unbind(1)
    left, top, right, bottom = boxes_xyxy_P4.unbind(1)
    width, height = right - left, bottom - top
    centre_x = left + 0.5 * width + dx * width
    centre_y = top + 0.5 * height + dy * height
    half_w = 0.5 * width * dw.clamp(max=_MAX_LOG_SCALE).exp()
    half_h = 0.5 * height * dh.clamp(max=_MAX_LOG_SCALE).exp()
    return torch.stack(
        [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], dim=1
    )


class CascadeStage(nn.Module):
    """One head: two layers, then a class and a move of the box."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * POOLED_SIZE**2, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.cls_score = nn.Linear(dim, 2)
        self.bbox_pred = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 4))

    def forward(self, pooled_PCSS: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (P, 2) and moves (P, 4)."""
        x = F.relu(self.fc2(F.relu(self.fc1(pooled_PCSS.flatten(1)))))
        return self.cls_score(x), self.bbox_pred(x)


class Cascade(nn.Module):
    """All stages, and the choice of detections after the last one."""

    def __init__(self, channels: int, dim: int, config: DetectionConfig) -> None:
        super().__init__()
        self.config = config
        self.weights = _STAGE_WEIGHTS[: config.num_stages]
        self.stages = nn.ModuleList(CascadeStage(channels, dim) for _ in self.weights)

    def run(
        self, levels: Sequence[Tensor], image: int, boxes_xyxy_P4: Tensor, size_hw: tuple[int, int]
    ) -> list[StageOutput]:
        """Send the proposals of one image of the batch through all stages.

        Args:
            levels: The three pooled levels of the batch.
            image: Index of the image in the batch.
            boxes_xyxy_P4: Proposals in pixels of the resized image.
            size_hw: Height and width of the resized image, without padding.
        """
        index_P = torch.full((len(boxes_xyxy_P4),), image, device=boxes_xyxy_P4.device)
        outputs: list[StageOutput] = []
        for stage, weights in zip(self.stages, self.weights, strict=True):
            pooled = pool_regions(levels, boxes_xyxy_P4, index_P, POOLED_SIZE)
            class_logits_P2, deltas_P4 = (out.float() for out in stage(pooled))
            moved_P4 = move_boxes(boxes_xyxy_P4, deltas_P4, weights)
            outputs.append(StageOutput(boxes_xyxy_P4, class_logits_P2, deltas_P4, moved_P4))
            boxes_xyxy_P4 = clip_boxes_to_image(moved_P4, size_hw)
        return outputs

    def choose(
        self, proposals: Proposals, outputs: Sequence[StageOutput], size_hw: tuple[int, int]
    ) -> Detections:
        """Score the boxes of the last stage and keep the best that do not overlap too much."""
        logits_P = torch.stack([o.class_logits_P2[:, 0] for o in outputs]).mean(0)
        probabilities = torch.stack([o.class_logits_P2.softmax(1)[:, 0] for o in outputs])
        scores_P = torch.sqrt(probabilities.mean(0) * proposals.scores_P)
        boxes_xyxy_P4 = outputs[-1].boxes_xyxy_P4
        finite = boxes_xyxy_P4.isfinite().all(1) & scores_P.isfinite()
        kept = torch.nonzero(finite & (scores_P > self.config.min_score)).flatten()
        boxes_xyxy_P4 = clip_boxes_to_image(boxes_xyxy_P4[kept], size_hw)
        scores_P, logits_P = scores_P[kept], logits_P[kept]
        best = nms(boxes_xyxy_P4, scores_P, self.config.detection_iou)
        best = best[: self.config.max_detections]
        return Detections(boxes_xyxy_P4[best], scores_P[best], logits_P[best])
