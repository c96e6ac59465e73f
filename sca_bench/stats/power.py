"""What a comparison can and cannot tell: equivalence, the sizes it would need, the noise floor.

Source: Schuirmann, A comparison of the two one-sided tests procedure and the power approach,
Journal of Pharmacokinetics and Biopharmaceutics 15, 1987 (equivalence).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from sca_bench.stats.bootstrap import CellScores, Floats, Resampled, resample
from sca_bench.stats.compare import Comparison, compare_resampled
from sca_bench.stats.variance import SeedPart, degrees

MOST_SEEDS = 1000
MOST_TIMES_IMAGES = 1000
"""Where looking for a number ends: a difference that needs more is out of reach. Images: so many
times those there are."""


@dataclass(frozen=True, slots=True)
class Needed:
    """How many of one kind alone a difference needs to be found; None where no number is enough.

    Attributes:
        seeds: Seeds of each trained cell, on the images there are.
        images: Test images, with the seeds there are.
        regions: Regions on that many images, at as many an image as there are.
    """

    seeds: int | None
    images: int | None
    regions: int | None


@dataclass(frozen=True, slots=True)
class SeedPairs:
    """Pairs of runs of one cell, which differ in nothing but the seed.

    Attributes:
        num_pairs: Pairs that were compared.
        outside: Those whose interval over images alone excludes zero: about one in twenty would, if
            seeds added nothing.
    """

    num_pairs: int
    outside: int


def equivalence(comparison: Comparison, margin: float) -> float | None:
    """Return the p of two one-sided tests: small where the difference lies within the margin.

    Args:
        comparison: The comparison.
        margin: Largest difference that does not matter, natural units, not negative.

    Raises:
        ValueError: The margin is negative or not finite.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin={margin}: expected a finite number that is not negative")
    above, below = comparison.p_value_above(margin), comparison.p_value_below(-margin)
    return None if above is None or below is None else max(above, below)


def needed(
    comparison: Comparison,
    alpha: float = 0.05,
    power: float = 0.8,
    distance: float | None = None,
) -> Needed:
    """Return how many seeds, or images, it takes to find a difference as large as observed.

    The variances are taken to be those found; with one seed of a trained cell the variance between
    seeds is unknown, and the answer is two seeds, to begin with.

    Args:
        comparison: The comparison.
        alpha: Two-sided level of the test.
        power: Chance of finding the difference if it is as large as observed.
        distance: Distance to be told from zero instead of the observed difference; natural units.

    Raises:
        ValueError: A level or power that is no share.
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha={alpha}, power={power}: expected shares between 0 and 1")
    if not comparison.covers_seeds:
        return Needed(2, None, None)
    observed = abs(comparison.difference if distance is None else distance)
    if comparison.se_images is None or observed == 0:
        return Needed(None, None, None)
    now, regions = comparison.num_images, comparison.num_regions

    def enough(seeds: int | None, images: int) -> bool:
        se, df = _planned(comparison, seeds, images)
        return bool(observed >= (stdtrit(df, 1 - alpha / 2) + stdtrit(df, power)) * se)

    trained = any(part.trained for part in comparison.parts)
    seeds = _least(lambda n: enough(n, now), 2, MOST_SEEDS) if trained else None
    images = _least(lambda n: enough(None, n), 2, MOST_TIMES_IMAGES * now)
    return Needed(seeds, images, None if images is None else -(-images * regions // now))


def detectable(comparison: Comparison, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest difference that a comparison like this one finds as often as `power`.

    What `needed` is for numbers of seeds and images: the variances are taken to be those found.

    Args:
        comparison: The comparison.
        alpha: Two-sided level of the test.
        power: Chance of finding a difference of this size.

    Returns:
        Natural units; None with fewer than two images, or one seed of a trained cell.

    Raises:
        ValueError: A level or power that is no share.
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha={alpha}, power={power}: expected shares between 0 and 1")
    if comparison.se_images is None or not comparison.covers_seeds:
        return None
    se, df = _planned(comparison, None, comparison.num_images)
    return float((stdtrit(df, 1 - alpha / 2) + stdtrit(df, power)) * se)


def noise_floor(parts: Sequence[SeedPart]) -> float | None:
    """Return what seeds alone make of the difference of two cells: 95 % of it lies below that.

    It belongs to these two cells, whose seeds may spread differently: one floor for all pairs would
    be too high for the steady ones and too low for the others. Natural units, of the means over as
    many seeds as there are; Student's t allows for how uncertain the spreads are.

    Args:
        parts: The seed variance of both cells (`Comparison.parts`).

    Returns:
        None where it is not known: nothing was trained, or one seed of a trained cell.
    """
    trained = [part for part in parts if part.trained]
    if not trained or not all(part.counted for part in trained):
        return None
    variances = [part.variance for part in trained]
    total = sum(variance for variance, _ in variances)
    return float(stdtrit(degrees((0.0, 1.0), variances), 0.975) * total**0.5)


def seed_pairs(cells: Sequence[CellScores], weights: Floats | None = None) -> SeedPairs:
    """Compare every pair of seeds of each trained cell (A/A), by images alone.

    Args:
        cells: Cells; those where nothing was trained are left out. They may differ in their images
            unless `weights` is given.
        weights: (B, I) as `image_weights` gives; None draws 1,000 with seed 0.

    Raises:
        ValueError: Weights that do not fit.
    """
    several = [cell for cell in cells if cell.trained and cell.num_seeds > 1]
    resampled = [one for group in _by_images(several) for one in resample(group, weights)]
    pairs = [pair for one in resampled if one.draws.size for pair in combinations(_single(one), 2)]
    return SeedPairs(len(pairs), sum(_excludes_zero(compare_resampled(*pair)) for pair in pairs))


def _planned(comparison: Comparison, seeds: int | None, images: int) -> tuple[float, float]:
    """Return the standard error with other seeds or images, and its degrees of freedom."""
    assert comparison.se_images is not None
    fewer = comparison.num_images / images
    image_part = (comparison.se_images**2 * fewer, images - 1.0)
    seed_parts = []
    for part in comparison.parts:
        if part.counted:
            num = part.num_seeds if seeds is None else seeds
            square = part.seeds + part.interaction * fewer
            seed_parts.append((square / num, num - 1.0))
    total = image_part[0] + sum(variance for variance, _ in seed_parts)
    return total**0.5, degrees(image_part, seed_parts)


def _least(enough: Callable[[int], bool], first: int, most: int) -> int | None:
    """Return the least number from `first` that is enough; None where `most` is not."""
    if not enough(most):
        return None
    low, high = first - 1, first
    while not enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _by_images(cells: Sequence[CellScores]) -> list[list[CellScores]]:
    groups: dict[bytes, list[CellScores]] = {}
    for cell in cells:
        groups.setdefault(np.ascontiguousarray(cell.counts).tobytes(), []).append(cell)
    return list(groups.values())


def _single(one: Resampled) -> list[Resampled]:
    """Return each seed as a cell that was not trained, so that images alone vary."""
    cell = one.cell
    return [
        Resampled(
            CellScores(cell.sums[s : s + 1], cell.counts, cell.combine, trained=False),
            one.scores[s : s + 1],
            one.draws[s : s + 1],
        )
        for s in range(cell.num_seeds)
    ]


def _excludes_zero(comparison: Comparison) -> bool:
    return comparison.p is not None and comparison.p < 0.05
