"""Statistics of scores: seeds, and the bootstrap over images. Pure functions over arrays.

Regions of one image share its features, so images are resampled, not regions; CIDEr-D's document
frequencies stay fixed while they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK = 2_000_000  # Draws held at once: keeps the memory of a large test split near 16 MB.


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with a bootstrap percentile interval.

    Attributes:
        mean: Mean over all regions.
        low: Lower end; None with fewer than two images, where there is nothing to resample.
        high: Upper end; None likewise.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """Mean and spread over training seeds.

    Attributes:
        mean: Mean over seeds.
        sd: Sample standard deviation (n - 1); None with one seed.
        num_seeds: Number of seeds.
    """

    mean: float
    sd: float | None
    num_seeds: int


def seed_summary(values: ArrayLike) -> SeedSummary:
    """Return mean and sample standard deviation over seeds.

    Raises:
        ValueError: No values, or one that is not finite.
    """
    array = _vector(values, "values")
    sd = float(array.std(ddof=1)) if array.size > 1 else None
    return SeedSummary(float(array.mean()), sd, array.size)


def image_bootstrap(
    values_per_region: ArrayLike,
    image_ids: Sequence[str],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the mean over regions with a percentile interval from resampled images.

    Args:
        values_per_region: One value per region.
        image_ids: The image of each region.
        n: Number of resamples.
        seed: Seed of this call's own generator; the global one is neither read nor moved.
        level: Coverage of the interval.

    Raises:
        ValueError: Lengths differ, there are no values, or one is not finite.
    """
    array = _vector(values_per_region, "values_per_region")
    if len(image_ids) != array.size:
        raise ValueError(f"{array.size} values, {len(image_ids)} image ids")
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n={n}, level={level}: expected n >= 1 and 0 < level < 1")
    _, image_of_region = np.unique(np.asarray(image_ids, dtype=str), return_inverse=True)
    sums = np.bincount(image_of_region, weights=array).astype(np.float64)
    counts = np.bincount(image_of_region).astype(np.float64)
    mean = float(array.mean())
    if sums.size < 2:
        return Interval(mean, None, None)
    means = _resampled_means(sums, counts, n, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return n means over the regions of as many images, drawn with replacement, as there are."""
    num_images = sums.size
    rows = max(1, _CHUNK // num_images)
    parts = []
    for start in range(0, n, rows):
        drawn = rng.integers(num_images, size=(min(rows, n - start), num_images))
        parts.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(parts)


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a non-empty list of finite numbers")
    return array
