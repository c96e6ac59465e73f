"""The conditions under which `docs/statistics.md` says how often intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from simulated_cells import RESAMPLES, World, trials

from sca_bench.metrics.registry import corpus_value
from sca_bench.stats.bootstrap import (
    CellScores,
    Resampled,
    image_weights,
    mean_combine,
    resample,
)
from sca_bench.stats.compare import compare_resampled, estimate_resampled

STATISTICS = Path(__file__).with_name("region_statistics.npz")
NUM_IMAGES = 150
SEEDS = ((2, 2), (3, 3), (5, 5), (2, 3), (3, 5))
"""Numbers of seeds of both cells: the columns of the table."""
TRUTH = 0.2
AT_ONCE = 500

_WORLD = World(num_images=NUM_IMAGES)
_ALL_INTERACTION = replace(_WORLD, own=0.0, together=0.6)
WORLDS = {
    "images make most of the error": replace(_WORLD, seed=(0.03, 0.03)),
    "images and seeds alike": replace(_WORLD, seed=(0.1, 0.1)),
    "seeds make most of it": replace(_WORLD, seed=(0.5, 0.5)),
    "seed spreads 3 to 1": replace(_WORLD, seed=(0.3, 0.1)),
    "seed spreads 10 to 1": replace(_WORLD, seed=(0.5, 0.05)),
    "seed spreads 1 to 10": replace(_WORLD, seed=(0.05, 0.5)),
    "interaction of seeds and images alone": replace(_ALL_INTERACTION, seed=(0.0, 0.0)),
    "interaction, spreads 3 to 1": replace(_ALL_INTERACTION, seed=(0.15, 0.05)),
    "as mixer_layers at tiny": replace(_ALL_INTERACTION, together=0.64, seed=(0.15, 0.04)),
    "skewed effects of images": replace(_WORLD, skew=True),
    "skewed, interaction alone": replace(_ALL_INTERACTION, seed=(0.0, 0.0), skew=True),
    "against a cell that is not trained": replace(_WORLD, seed=(0.3, 0.0), trained=(True, False)),
    "60 images": replace(_WORLD, num_images=60),
    "60 images, skewed": replace(_WORLD, num_images=60, skew=True),
    "30 images": replace(_WORLD, num_images=30),
    "30 images, skewed": replace(_WORLD, num_images=30, skew=True),
    "10 images": replace(_WORLD, num_images=10),
    "10 images, skewed": replace(_WORLD, num_images=10, skew=True),
}


@dataclass(frozen=True)
class Real:
    """How cells of real statistics of regions are drawn.

    Every image of a cell's run is captioned by a fully or by a barely trained captioner, by a
    chance that is the run's own: `spreads` are the standard deviations of that chance over seeds,
    of each cell. With `together` each run draws for itself (all of it interaction), else all seeds
    of a cell alike.
    """

    metric: str
    spreads: tuple[float, float]
    together: bool = True


REAL = {
    f"{label}, {what}": Real(metric, spreads, together)
    for metric, label in (("cider_d", "CIDEr-D"), ("bleu_4", "BLEU-4"), ("meteor", "METEOR"))
    for what, spreads, together in (
        ("interaction alone", (0.0, 0.0), True),
        ("seeds make most of the error", (0.15, 0.15), True),
        ("spreads 10 to 1", (0.2, 0.02), True),
        ("images and seeds alike", (0.03, 0.03), False),
    )
}


@dataclass(frozen=True)
class Covered:
    """Shares of trials whose interval holds the truth; whether a report calls it approximate."""

    own: float
    difference: float
    own_approximate: bool
    difference_approximate: bool


def covered_in_world(world: World, num: int, rng: np.random.Generator) -> Covered:
    """Simulate cells whose effects are drawn; the truth is known."""
    weights = image_weights(world.num_images, RESAMPLES, seed=3)
    found = []
    for start in range(0, num, AT_ONCE):
        pairs = trials(world, min(AT_ONCE, num - start), rng, difference=TRUTH)
        cells = resample([cell for pair in pairs for cell in pair], weights)
        found += list(zip(cells[::2], cells[1::2], strict=True))
    return _covered(found, TRUTH, TRUTH)


def covered_in_real(
    real: Real, seeds: tuple[int, int], num: int, rng: np.random.Generator
) -> Covered:
    """Simulate cells made of real statistics of regions; the truth is the mean over trials."""
    weights = image_weights(NUM_IMAGES, RESAMPLES, seed=3)
    pairs = list(_real_pairs(real, seeds, num, rng, weights))
    own = float(np.mean([a.scores.mean() for a, _ in pairs]))
    other = float(np.mean([b.scores.mean() for _, b in pairs]))
    return _covered(pairs, own, own - other)


def _covered(pairs: list[tuple[Resampled, Resampled]], own: float, difference: float) -> Covered:
    alone = [estimate_resampled(a) for a, _ in pairs]
    apart = [compare_resampled(a, b) for a, b in pairs]
    return Covered(
        float(np.mean([each.low <= own <= each.high for each in alone])),
        float(np.mean([each.low <= difference <= each.high for each in apart])),
        bool(alone[0].approximate),
        bool(apart[0].approximate),
    )


def _real_pairs(
    real: Real,
    seeds: tuple[int, int],
    num: int,
    rng: np.random.Generator,
    weights: np.ndarray,
) -> Iterator[tuple[Resampled, Resampled]]:
    with np.load(STATISTICS) as stored:
        early, full = (stored[f"{real.metric}/{name}"].astype(float) for name in ("early", "full"))
        regions = stored["counts"].astype(float)

    def combine(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return corpus_value(real.metric, sums, counts)

    for _ in range(num):
        images = rng.integers(len(regions), size=NUM_IMAGES)
        cells = []
        for number, spread in zip(seeds, real.spreads, strict=True):
            share = np.clip(0.5 + spread * rng.normal(size=(number, 1)), 0, 1)
            draws = rng.random((2, number if real.together else 1, NUM_IMAGES))
            is_full = draws[0] < share
            run = np.broadcast_to((draws[1] * len(full)).astype(int), is_full.shape)
            sums = np.where(is_full[..., None], full[run, images], early[run, images])
            kind = mean_combine if real.metric == "cider_d" else combine
            cells.append(CellScores(sums, regions[images], kind))
        yield tuple(resample(cells, weights))
