"""What the `score` command prints: the scores of one file, without a model or a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sca_bench.errors import InputError, NotComputed, at
from sca_bench.metrics.coco_caption.java import find_java
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.ptb_tokenizer import ptb_tokenize, ptb_tokenize_groups
from sca_bench.metrics.detection.dense_captions import SPEC, dense_captions_map
from sca_bench.metrics.detection.detections import read_described_boxes, read_detections
from sca_bench.metrics.image_folder import FolderImages
from sca_bench.metrics.registry import corpus_value, spec_of_value
from sca_bench.metrics.rows import CaptionRow, read_rows
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.metrics.subsets import subset_rows
from sca_bench.stats.bootstrap import Floats, cell_scores, image_weights, mean_combine
from sca_bench.stats.compare import estimate

DEFAULT_METRICS = ("cider_d", "meteor", "spice", "bleu", "rouge_l", "exact_match", "macro_recall")


def score_file(
    path: str | Path,
    metrics: Sequence[str] | None = None,
    images: str | Path | None = None,
    subsets: Mapping[str, str] | None = None,
    check: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Score a file of rows.

    Args:
        path: `.jsonl` or `.json` file, see `sca_bench.metrics.rows.read_rows`.
        metrics: Names from `sca_bench.metrics.registry.all_metrics`; None takes `DEFAULT_METRICS`,
            and `slots` where a row carries them.
        images: Folder of the images, for the metrics that look at them.
        subsets: Name -> file of regions (or `first_of_image`) that are scored by themselves, too;
            their keys begin with `name/`.
        check: Compute CIDEr-D, BLEU, ROUGE-L and METEOR again with the field's own scorers.
        device: Where metrics with a model compute: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        Plain JSON values: `file`, `num_regions`, `num_images`, `values`, `signatures`,
        `not_computed`, `notes`, `intervals` (lower and upper end of 95 %, over images, of values
        that have one) and, if asked for, `check`: the largest absolute difference of each value
        over regions and corpus.

    Raises:
        InputError: A file is at fault, a metric is unknown, or a scorer fails when checked.
    """
    rows = read_rows(path)
    if metrics is None:
        metrics = (*DEFAULT_METRICS, *(("slots",) if any(row.slots for row in rows) else ()))
    source = None if images is None else FolderImages(images, rows)
    parts = {name: subset_rows(rows, file) for name, file in (subsets or {}).items()}
    with Scorer(device=device) as scorer:
        with at(path):
            scored = scorer.score(rows, metrics, source)
        intervals = _intervals(rows, scored)
        try:
            checked = {"check": scorer.check(rows, scored)} if check else {}
        except NotComputed as error:
            raise InputError(path, "--check", str(error)) from error
        for name, part in parts.items():
            with at(f"{path}: {name}"):
                of_part = scorer.score(part, metrics, source)
            intervals |= {f"{name}/{key}": ends for key, ends in _intervals(part, of_part).items()}
            scored.add_part(name, of_part)
    scored.notes.extend(source.notes() if source else ())
    return {
        "file": str(path),
        "num_regions": len(rows),
        "num_images": len({row.image_id for row in rows}),
        **({"subsets": {name: len(part) for name, part in parts.items()}} if parts else {}),
        **scored.to_dict(),
        "intervals": intervals,
        **checked,
    }


_ROUNDING = 1e-4
"""Largest gap between a value and that of its regions which is read as rounding."""


def _intervals(rows: Sequence[CaptionRow], scored: ScoreResult) -> dict[str, list[float]]:
    """Return the 95 % interval over images of each value, as a report has it of one seed.

    A corpus value is resampled from what its regions add to it; one that has no such statistics has
    no interval, and neither has anything with fewer than two images.
    """
    images = [row.image_id for row in rows]
    num_images = len(set(images))
    if num_images < 2:
        return {}
    weights, found = image_weights(num_images), dict[str, list[float]]()
    for key, values in scored.per_region.items():
        spec = spec_of_value(key)
        kept_as = spec.statistics_name if spec is not None and spec.statistics else ""
        table = scored.statistics.get(kept_as)

        def combine(sums: Floats, counts: Floats, key: str = key) -> Floats:
            return corpus_value(key, sums, counts)

        try:
            each = np.asarray([values if table is None else table], dtype=np.float64)
            how = mean_combine if table is None else combine
            one = estimate(cell_scores(each, images, how, trained=False), weights)
        except Exception:  # of a metric of another package
            continue
        value = scored.values[key]
        if value is not None and abs(one.value - value) <= _ROUNDING and one.low is not None:
            assert one.high is not None
            found[key] = [one.low, one.high]
    return found


DENSE_CAPTIONS = SPEC.name


def score_detections(
    path: str | Path, regions_path: str | Path, metrics: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score what a captioner found by itself against the regions of a split.

    Args:
        path: Detections, see `sca_bench.metrics.detection.detections.read_detections`.
        regions_path: Regions, see `sca_bench.metrics.detection.detections.read_described_boxes`.
        metrics: Only `dense_captions_map` is known here.

    Returns:
        Plain JSON values: `file`, `regions`, `num_detections`, `num_regions`, `num_merged_regions`,
        `num_images`, `values`, `detection_map` (of the boxes alone), `average_precision` by
        thresholds, `signatures`, `not_computed` and `notes`.

    Raises:
        InputError: A file is at fault, or another metric is asked for.
    """
    for name in metrics or ():
        if name != DENSE_CAPTIONS:
            fix = f"with --regions only {DENSE_CAPTIONS} is computed"
            raise InputError(path, "--metrics", f"{name!r} does not score detections", fix)
    detections = read_detections(path)
    regions = read_described_boxes(regions_path)
    known = {region.image_id for region in regions}
    for detection in detections:
        if detection.image_id not in known:
            problem = f"image_id {detection.image_id!r} has no region in {regions_path}"
            raise InputError(path, "image_id", problem, "score the images of one split")
    rows = [CaptionRow(r.region_id, r.image_id, "", r.references) for r in regions]
    facts: dict[str, Any] = {
        "file": str(path),
        "regions": str(regions_path),
        "num_detections": len(detections),
        "num_regions": len(regions),
        "num_images": len(known),
    }
    try:
        java = find_java()
        with Meteor(java) as meteor:

            def agree(references: Sequence[Sequence[str]], captions: Sequence[str]) -> list[float]:
                groups = ptb_tokenize_groups(java, references)
                return meteor.score(groups, ptb_tokenize(java, captions))[1]

            scored = dense_captions_map(detections, regions, agree)
    except NotComputed as error:
        empty: dict[str, Any] = {"values": {DENSE_CAPTIONS: None}, "signatures": {}, "notes": []}
        return {**facts, **empty, "not_computed": {DENSE_CAPTIONS: str(error)}}
    signature = SPEC.sign(DENSE_CAPTIONS, rows)
    return {
        **facts,
        "num_merged_regions": scored.num_merged,
        "values": {DENSE_CAPTIONS: scored.value},
        "detection_map": scored.detection_value,
        "average_precision": {
            f"iou {iou:g}, meteor {meteor:g}": value
            for (iou, meteor), value in scored.average_precision.items()
        },
        "signatures": {DENSE_CAPTIONS: {**signature.to_dict(), "short": signature.short()}},
        "not_computed": {},
        "notes": [],
    }
