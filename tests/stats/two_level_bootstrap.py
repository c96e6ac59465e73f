"""A bootstrap over seeds and images, to show why `compare` does not use one."""

from __future__ import annotations

import numpy as np

from sca_bench.stats.bootstrap import (
    NUM_RESAMPLES,
    CellScores,
    Floats,
    Interval,
    Resampled,
    resample,
)


def two_level_bootstrap(
    a: CellScores,
    b: CellScores,
    n: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    weights: Floats | None = None,
) -> Interval:
    """Return the percentile interval of `a - b` from resampled seeds and images, for reference.

    With few seeds it is too narrow: S seeds drawn with replacement vary by (S - 1) / S of what
    they should, and percentiles know no degrees of freedom. Use `compare`.

    Args:
        a: The first cell; its seeds are drawn apart from those of the second.
        b: The second, of the same regions.
        n: Number of resamples, unless `weights` says it.
        seed: Seed of this call's own generator.
        level: Coverage aimed at.
        weights: (B, I) resampled images; None draws them.

    Raises:
        ValueError: As in `compare`.
    """
    rng = np.random.default_rng(seed)
    if weights is None:
        weights = rng.multinomial(
            a.num_images, np.full(a.num_images, 1 / a.num_images), size=n
        ).astype(np.float64)
    first, second = resample([a, b], weights)
    mean = float(first.scores.mean() - second.scores.mean())
    if a.num_images < 2:
        return Interval(mean, None, None)
    drawn = _resampled_seeds(first, rng) - _resampled_seeds(second, rng)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def _resampled_seeds(one: Resampled, rng: np.random.Generator) -> Floats:
    """Return (B,) means over seeds drawn with replacement, other ones for each resample."""
    seeds = rng.integers(one.cell.num_seeds, size=one.draws.shape)
    return np.asarray(np.take_along_axis(one.draws, seeds, axis=0).mean(axis=0))
