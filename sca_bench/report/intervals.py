"""Bootstrap intervals over test images, for one cell and for the difference of two."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sca_bench.metrics.stats import Interval, image_bootstrap, paired_image_bootstrap
from sca_bench.report.collect import CellRuns, SuiteData, load_predictions, load_region_scores

LEVEL = 0.95
NUM_RESAMPLES = 1000
BOOTSTRAP_SEED = 0
CORPUS_TOLERANCE = 1e-4
"""Largest gap (natural units) between a score and the mean of its regions' scores that is read as
rounding; CIDEr-D is such a mean, corpus BLEU and METEOR are not."""


@dataclass(frozen=True, slots=True)
class RegionMeans:
    """One cell's score of every test region, averaged over seeds.

    Attributes:
        values: Region id -> mean over seeds, in natural units.
        images: Region id -> image id.
        num_seeds: Number of seeds averaged.
        note: What a reader should know, such as a corpus score that is no mean over regions.
        hole: Why there are no values; empty where there are.
    """

    values: dict[str, float]
    images: dict[str, str]
    num_seeds: int = 0
    note: str = ""
    hole: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An interval with what it rests on.

    Attributes:
        interval: Mean and ends in natural units; None where there is a hole.
        num_regions: Number of regions.
        num_images: Number of images that were resampled.
        note: What a reader should know.
        hole: Why there is no interval.
    """

    interval: Interval | None
    num_regions: int = 0
    num_images: int = 0
    note: str = ""
    hole: str = ""


def region_means(data: SuiteData, cell: CellRuns, metric: str) -> RegionMeans:
    """Average one cell's region scores over its finished seeds.

    Raises:
        InputError: A file is damaged.
    """
    if not cell.done:
        return RegionMeans({}, {}, hole="no finished run")
    per_seed: list[dict[str, float]] = []
    notes: list[str] = []
    images: dict[str, str] = {}
    for record in cell.done:
        scores = load_region_scores(data.store, record.cell_id, record.seed, metric)
        if not scores:
            notes.append(f"seed {record.seed} has no region scores and is left out")
            continue
        if per_seed and scores.keys() != per_seed[0].keys():
            hole = f"seed {record.seed} was scored on other regions than the first seed"
            return RegionMeans({}, {}, hole=hole)
        if not images:
            rows = load_predictions(data.store, record.cell_id, record.seed)
            images = {key: str(row["image_id"]) for key, row in rows.items()}
        if not scores.keys() <= images.keys():
            hole = "regions are scored that predictions.jsonl does not have"
            return RegionMeans({}, {}, hole=hole)
        whole = record.scores.get(metric)
        mean = math.fsum(scores.values()) / len(scores)
        if whole is not None and whole.value is not None:
            corpus = abs(whole.value - mean) > CORPUS_TOLERANCE
            said = "the interval is of the mean over regions, which is not the corpus score"
            if corpus and said not in notes:
                notes.append(said)
        per_seed.append(scores)
    if not per_seed:
        return RegionMeans({}, {}, hole="no region scores of this metric")
    values = {key: math.fsum(s[key] for s in per_seed) / len(per_seed) for key in per_seed[0]}
    return RegionMeans(values, images, len(per_seed), "; ".join(notes))


def cell_estimate(means: RegionMeans) -> Estimate:
    """Return the bootstrap interval of one cell's mean."""
    if means.hole:
        return Estimate(None, hole=means.hole)
    ids = list(means.values)
    images = [means.images[key] for key in ids]
    interval = image_bootstrap(
        [means.values[key] for key in ids], images, NUM_RESAMPLES, BOOTSTRAP_SEED, LEVEL
    )
    return Estimate(interval, len(ids), len(set(images)), means.note)


def difference_estimate(left: RegionMeans, right: RegionMeans) -> Estimate:
    """Return the paired bootstrap interval of `left - right` on the same regions."""
    for side, means in (("left", left), ("right", right)):
        if means.hole:
            return Estimate(None, hole=f"{side} side: {means.hole}")
    if left.values.keys() != right.values.keys():
        return Estimate(None, hole="the two sides were scored on different regions")
    ids = list(left.values)
    images = [left.images[key] for key in ids]
    if images != [right.images[key] for key in ids]:
        return Estimate(None, hole="the two sides disagree on the image of a region")
    interval = paired_image_bootstrap(
        [left.values[key] for key in ids],
        [right.values[key] for key in ids],
        images,
        NUM_RESAMPLES,
        BOOTSTRAP_SEED,
        LEVEL,
    )
    notes = dict.fromkeys(note for note in (left.note, right.note) if note)
    return Estimate(interval, len(ids), len(set(images)), "; ".join(notes))
