"""Dense captioning: mean average precision of boxes and captions found together.

A detection is right when its box overlaps a region enough *and* its caption agrees with the
region's references enough. Average precision is computed for every pair of an IoU threshold
(0.3, 0.4, 0.5, 0.6, 0.7; at least) and a METEOR threshold (0, 0.05, 0.1, 0.15, 0.2, 0.25; more
than), and averaged over the thirty pairs.

The steps are those of the metric's reference program (jcjohnson/densecap, `eval_utils.lua` and
`box_utils.lua`):

* Regions of an image that overlap are merged first: again and again, the region with most
  neighbours of IoU >= 0.7 (the first of several) is taken with them, until none is left. A group
  counts as one region, its box is the mean of theirs, its references are all of theirs.
* Detections of an image take their regions in the order of their scores: each is assigned to the
  region it overlaps most, and is wrong if an earlier one was assigned to the same, whatever either
  of them says or however little that one overlaps.
* All images' detections are ranked together. Precision at a recall is the highest at that recall
  or beyond, averaged over the recalls 0, 0.01, ... 0.99: the program counts up in steps of 0.01,
  whose rounded sum passes 1 before it reaches it, so recall 1 itself is left out.

Two things differ. A detection that overlaps nothing takes no region; the program then marks the
entry at index -1. Ties in score keep the order of the file; the program's sort is not stable.
Captions are tokenised as for all metrics here. IoU is that of continuous boxes, right and bottom
exclusive, which is what the program's inclusive pixel corners amount to.

Source: Johnson et al., DenseCap: Fully Convolutional Localization Networks for Dense Captioning,
CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import NotComputed
from sca_bench.metrics.detection.detections import DescribedBox, Detection
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec
from sca_bench.types import BoxXYXY

SPEC = MetricSpec(
    "dense_captions_map",
    "Mean average precision of own detections with captions (score FILE --regions FILE); 0-1",
    "dense_captions",
    "sca_bench dense_captions (references merged at IoU 0.7; IoU 0.3-0.7 x METEOR 1.5 0-0.25)",
    compute=f"{__name__}:of_given_regions",
    needs="a file of regions (--regions)",
    level="corpus",
)
IOU_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
METEOR_THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
MERGE_IOU = 0.7
# In float32, as the program compares them: 7 of 100 found reach the recall 0.07.
_RECALLS = (np.arange(100) * 0.01).astype(np.float32)

Agree = Callable[[Sequence[Sequence[str]], Sequence[str]], list[float]]
"""References of each caption, captions -> METEOR of each caption."""


@dataclass(frozen=True, slots=True)
class MergedRegion:
    """Regions that are one region to the metric.

    Attributes:
        box_xyxy: Mean of their boxes, original pixels.
        references: All their references, in their order.
    """

    box_xyxy: BoxXYXY
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DenseScores:
    """Mean average precision and what it is made of.

    Attributes:
        value: Mean over all pairs of thresholds, 0-1.
        detection_value: The same of the boxes alone: mean over the IoU thresholds.
        average_precision: (IoU threshold, METEOR threshold) -> average precision.
        num_merged: Regions after merging.
    """

    value: float
    detection_value: float
    average_precision: dict[tuple[float, float], float]
    num_merged: int


@dataclass(frozen=True, slots=True)
class _Assigned:
    """A detection with the region it was assigned to.

    Attributes:
        score: The detection's score.
        iou: Its overlap with that region; 0 where it overlaps none.
        first: Whether no better detection was assigned to the same region.
        caption: What it says.
        references: What the region's references say.
    """

    score: float
    iou: float
    first: bool
    caption: str
    references: tuple[str, ...]


def of_given_regions(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Refuse: dense captioning scores a captioner's own detections.

    Raises:
        NotComputed: Always.
    """
    raise NotComputed("it scores detections, not given regions: score FILE --regions FILE")


def iou_matrix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU (N, M) of boxes xyxy (N, 4) and (M, 4) in one frame."""
    overlap = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    inner: NDArray[np.float64] = overlap.clip(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - inner
    ious: NDArray[np.float64] = inner / union
    return ious


def merge_regions(regions: Sequence[DescribedBox]) -> list[MergedRegion]:
    """Merge the regions of one image that overlap by `MERGE_IOU` or more."""
    boxes = np.array([region.box_xyxy for region in regions], dtype=np.float64).reshape(-1, 4)
    near = iou_matrix(boxes, boxes) >= MERGE_IOU
    merged = []
    while near.any():
        members = np.flatnonzero(near[near.sum(0).argmax()]).tolist()
        left, top, right, bottom = boxes[members].mean(0).tolist()
        references = tuple(text for i in members for text in regions[i].references)
        merged.append(MergedRegion((left, top, right, bottom), references))
        near[members], near[:, members] = False, False
    return merged


def _assign(detections: Sequence[Detection], merged: Sequence[MergedRegion]) -> list[_Assigned]:
    """Assign the detections of one image, the surest first."""
    ranked = sorted(detections, key=lambda detection: -detection.score)
    if not merged:
        return [_Assigned(d.score, 0.0, False, d.caption, ()) for d in ranked]
    boxes_xyxy = np.array([d.box_xyxy for d in ranked], dtype=np.float64).reshape(-1, 4)
    wanted = np.array([region.box_xyxy for region in merged], dtype=np.float64)
    overlaps = iou_matrix(boxes_xyxy, wanted)
    taken: set[int] = set()
    assigned = []
    for detection, row in zip(ranked, overlaps, strict=True):
        best = int(row.argmax())
        iou = float(row[best])
        first = iou > 0 and best not in taken
        if iou > 0:
            taken.add(best)
        references = merged[best].references
        assigned.append(_Assigned(detection.score, iou, first, detection.caption, references))
    return assigned


def average_precision(right: NDArray[np.bool_], num_regions: int) -> float:
    """Return the interpolated average precision of detections, the surest first.

    Args:
        right: Whether each detection is right.
        num_regions: How many could be found.
    """
    if not right.size or not num_regions:
        return 0.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, right.size + 1)
    recall = (hits / num_regions).astype(np.float32)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    # The first detection that reaches a recall; recall never falls along the ranking.
    at = np.searchsorted(recall, _RECALLS)
    reached = at < right.size
    return float(best_beyond[at[reached]].sum() / len(_RECALLS))


def dense_captions_map(
    detections: Sequence[Detection], regions: Sequence[DescribedBox], agree: Agree
) -> DenseScores:
    """Score detections against regions.

    Args:
        detections: Of any images that have regions; images without one count as missed.
        regions: All regions that should be found.
        agree: METEOR; called once, and not at all where no detection can be right.

    Raises:
        NotComputed: METEOR cannot be computed.
    """
    by_image: dict[str, tuple[list[DescribedBox], list[Detection]]] = {}
    for region in regions:
        by_image.setdefault(region.image_id, ([], []))[0].append(region)
    for detection in detections:
        by_image.setdefault(detection.image_id, ([], []))[1].append(detection)
    assigned: list[_Assigned] = []
    num_merged = 0
    for wanted, detected in by_image.values():
        merged = merge_regions(wanted)
        num_merged += len(merged)
        assigned += _assign(detected, merged)
    ranked = sorted(assigned, key=lambda one: -one.score)
    # Only these can be right under any pair of thresholds; METEOR is slow.
    matched = [i for i, a in enumerate(ranked) if a.first and a.iou >= IOU_THRESHOLDS[0]]
    meteor = np.zeros(len(ranked))
    if matched:
        references = [ranked[i].references for i in matched]
        meteor[matched] = agree(references, [ranked[i].caption for i in matched])
    first = np.array([one.first for one in ranked], dtype=bool)
    iou = np.array([one.iou for one in ranked])
    by_pair = {
        (least, agreed): average_precision(first & (iou >= least) & (meteor > agreed), num_merged)
        for least in IOU_THRESHOLDS
        for agreed in METEOR_THRESHOLDS
    }
    boxes_alone = [average_precision(first & (iou >= t), num_merged) for t in IOU_THRESHOLDS]
    return DenseScores(
        float(np.mean(list(by_pair.values()))), float(np.mean(boxes_alone)), by_pair, num_merged
    )
