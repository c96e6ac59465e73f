"""What a comparison can and cannot tell: equivalence, the sizes it would need, the noise floor.

Source: Schuirmann, A comparison of the two one-sided tests procedure and the power approach,
Journal of Pharmacokinetics and Biopharmaceutics 15, 1987 (equivalence).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from sca_bench.stats.bootstrap import CellScores, Floats, Resampled, resample
from sca_bench.stats.compare import Comparison, compare_resampled
from sca_bench.stats.variance import degrees

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
class NoiseFloor:
    """How far cells lie apart that differ in nothing but their seeds, natural units.

    Attributes:
        sd_seeds: Standard deviation of one seed's score on this test set, pooled over cells.
        df: Its degrees of freedom.
        floor: 95 % of differences between two means of as many seeds as asked lie below it.
        num_pairs: Pairs of seeds of one cell that were compared.
        pairs_outside: Those whose interval over images alone excludes zero: about one in twenty
            would, if seeds added nothing.
    """

    sd_seeds: float
    df: int
    floor: float
    num_pairs: int
    pairs_outside: int


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


def noise_floor(
    cells: Sequence[CellScores], num_seeds: int, weights: Floats | None = None
) -> NoiseFloor | None:
    """Return how far means of a cell's seeds lie apart: the cell against itself, other seeds.

    The floor is that of Student's t with the pooled degrees of freedom, so it allows for how
    uncertain the standard deviation is.

    Args:
        cells: Cells; those with one seed or nothing trained are left out. They may differ in their
            images unless `weights` is given.
        num_seeds: Number of seeds whose mean is to be compared with that of as many others.
        weights: (B, I) as `image_weights` gives; None draws 1,000 with seed 0.

    Returns:
        The floor; None where no trained cell has two seeds.

    Raises:
        ValueError: `num_seeds` below one, or weights that do not fit.
    """
    if num_seeds < 1:
        raise ValueError(f"num_seeds={num_seeds}: expected at least 1")
    several = [cell for cell in cells if cell.trained and cell.num_seeds > 1]
    if not several:
        return None
    resampled = [one for group in _by_images(several) for one in resample(group, weights)]
    pooled = pooled_floor([one.scores for one in resampled], num_seeds)
    assert pooled is not None
    pairs = [pair for one in resampled if one.draws.size for pair in combinations(_single(one), 2)]
    outside = sum(_excludes_zero(compare_resampled(*pair)) for pair in pairs)
    return NoiseFloor(*pooled, len(pairs), outside)


def pooled_floor(scores: Sequence[ArrayLike], num_seeds: int) -> tuple[float, int, float] | None:
    """Return what `noise_floor` says of seeds alone: standard deviation, its df, and the floor.

    Args:
        scores: (S,) of each trained cell, one score a seed; those with one seed are left out.
        num_seeds: Number of seeds whose mean is to be compared with that of as many others.

    Returns:
        None where no cell has two seeds.
    """
    arrays = [np.asarray(each, dtype=np.float64) for each in scores]
    several = [each for each in arrays if each.size > 1]
    if not several:
        return None
    df = sum(each.size - 1 for each in several)
    sd = float(np.sqrt(sum(float(each.var()) * each.size for each in several) / df))
    return sd, df, float(stdtrit(df, 0.975)) * sd * (2 / num_seeds) ** 0.5


def _planned(comparison: Comparison, seeds: int | None, images: int) -> tuple[float, float]:
    """Return the standard error with other seeds or images, and its degrees of freedom."""
    assert comparison.se_images is not None
    fewer = comparison.num_images / images
    parts = comparison.parts
    shared = comparison.se_images**2 - sum(p.interaction / p.num_seeds for p in parts)
    image_part = max(0.0, shared) * fewer
    seed_part = 0.0
    squares = []
    for part in parts:
        if not part.counted:
            continue
        num = part.num_seeds if seeds is None else seeds
        image_part += part.interaction * fewer / num
        seed_part += part.seeds / num
        squares.append(((part.seeds + part.interaction * fewer) / num, num - 1))
    total = image_part + seed_part
    return total**0.5, degrees(total, image_part, images - 1, squares)


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
