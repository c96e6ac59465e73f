"""One cell's score, or the difference of two cells' scores, with its interval. Pure functions.

Both cells are scored on the same images, which are resampled for both at once. See `variance` for
the standard error. The interval is the difference plus and minus t times it, rather than the
percentiles of a bootstrap over seeds and images: with two, three and five seeds that make most of
the error such a bootstrap covers 64, 82 and 87 % where it should 95
(tests/stats/test_interval_coverage.py simulates both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from sca_bench.stats.bootstrap import CellScores, Floats, Resampled, resample
from sca_bench.stats.variance import ROUNDING, SeedPart, Spread, spread


@dataclass(frozen=True, slots=True)
class Estimate:
    """A cell's score, averaged over seeds, natural units. None: fewer than two images.

    Attributes:
        value: Mean over seeds of the corpus score.
        low: Lower end of the interval.
        high: Upper end.
        se: Standard error, of images and seeds.
        se_images: Of images, as far as all seeds agree on them.
        se_seeds: Of seeds on this test set; zero where nothing was trained; None with one seed of a
            trained cell, where it is unknown and the interval covers images only.
        df: Degrees of freedom of `se`.
        num_seeds: Number of seeds.
        num_images: Number of images.
        num_regions: Number of regions.
        covers_seeds: Whether the interval covers seeds.
        approximate: Why the interval is only approximate; see `variance.Spread`.
    """

    value: float
    low: float | None
    high: float | None
    se: float | None
    se_images: float | None
    se_seeds: float | None
    df: float | None
    num_seeds: int
    num_images: int
    num_regions: int
    covers_seeds: bool
    approximate: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first cell's score less the second's, natural units. None: fewer than two images.

    Attributes:
        difference: Difference of the means over seeds of the corpus scores.
        low: Lower end of the interval.
        high: Upper end.
        se: Standard error, of images and seeds.
        se_images: Of images, as far as all seeds agree on them.
        se_seeds: Of seeds on this test set; None where one seed of a trained cell leaves it
            unknown.
        df: Degrees of freedom of `se`.
        p: Two-sided p of no difference.
        num_seeds: Number of seeds of each cell; of several the fewest.
        num_images: Number of images.
        num_regions: Number of regions.
        covers_seeds: Whether the interval covers seeds: at least two of every trained cell.
        parts: Seed variance of each cell; empty with fewer than two images.
        approximate: Why interval and p are only approximate; see `variance.Spread`.
    """

    difference: float
    low: float | None
    high: float | None
    se: float | None
    se_images: float | None
    se_seeds: float | None
    df: float | None
    p: float | None
    num_seeds: tuple[int, int]
    num_images: int
    num_regions: int
    covers_seeds: bool
    parts: tuple[SeedPart, ...] = ()
    approximate: str = ""

    def p_value_above(self, margin: float) -> float | None:
        """Return the one-sided p of `difference >= margin`: small where it lies below."""
        return _probability(self.difference - margin, self.se, self.df, self.num_images)

    def p_value_below(self, margin: float) -> float | None:
        """Return the one-sided p of `difference <= margin`: small where it lies above."""
        return _probability(margin - self.difference, self.se, self.df, self.num_images)


def estimate(cell: CellScores, weights: Floats | None = None, level: float = 0.95) -> Estimate:
    """Return a cell's score with its interval.

    Args:
        cell: The cell.
        weights: (B, I) as `image_weights` gives; None draws 1,000 with seed 0.
        level: Coverage of the interval.

    Raises:
        ValueError: A shape, number or level that cannot be.
    """
    return estimate_resampled(resample([cell], weights)[0], level)


def compare(
    a: CellScores, b: CellScores, weights: Floats | None = None, level: float = 0.95
) -> Comparison:
    """Return the difference `a - b` with its interval, both on the same resampled images.

    Args:
        a: The first cell.
        b: The second, of the same regions.
        weights: (B, I) as `image_weights` gives; None draws 1,000 with seed 0.
        level: Coverage of the interval.

    Raises:
        ValueError: The cells have other numbers of images or regions, or a shape, number or level
            that cannot be. That the images are the same is the caller's to see to.
    """
    first, second = resample([a, b], weights)
    return compare_resampled(first, second, level)


def estimate_resampled(one: Resampled, level: float = 0.95) -> Estimate:
    """Return what `estimate` does, of a cell that `resample` has scored.

    Raises:
        ValueError: `level` is no share.
    """
    _check_level(level)
    cell, value = one.cell, float(one.scores.mean())
    uncertainty = spread([one], abs(value))
    half = _half(level, uncertainty)
    return Estimate(
        value=value,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        se=uncertainty.se,
        se_images=uncertainty.se_images,
        se_seeds=uncertainty.se_seeds,
        df=uncertainty.df,
        num_seeds=cell.num_seeds,
        num_images=cell.num_images,
        num_regions=cell.num_regions,
        covers_seeds=cell.covers_seeds,
        approximate=uncertainty.approximate,
    )


def compare_resampled(a: Resampled, b: Resampled, level: float = 0.95) -> Comparison:
    """Return what `compare` does, of two cells that one call of `resample` has scored.

    Raises:
        ValueError: The cells were not resampled together, or `level` is no share.
    """
    return compare_means([a], [b], level)


def compare_means(
    left: Sequence[Resampled], right: Sequence[Resampled], level: float = 0.95
) -> Comparison:
    """Return the difference of the means of two lists of cells, each of which counts the same.

    Seeds of different cells are independent; the images are those of all. A cell that stands
    several times in a list is one cell that counts so much more.

    Args:
        left: The first cells, that one call of `resample` has scored with the others.
        right: The second ones.
        level: Coverage of the interval.

    Raises:
        ValueError: A list is empty, the cells were not resampled together, or `level` is no share.
    """
    _check_level(level)
    if not (left and right):
        raise ValueError("expected at least one cell on each side")
    cells: list[Resampled] = []
    shares: list[float] = []
    for side, sign in ((left, 1.0), (right, -1.0)):
        distinct = {id(one): one for one in side}
        for key, one in distinct.items():
            cells.append(one)
            shares.append(sign * sum(id(other) == key for other in side) / len(side))
    first = cells[0]
    if any(
        one.draws.shape[1] != first.draws.shape[1]
        or not np.array_equal(one.cell.counts, first.cell.counts)
        for one in cells
    ):
        raise ValueError("the cells were scored on different images or resamples")
    a, b = (_mean_score(side) for side in (left, right))
    scale = max(abs(a), abs(b))
    difference = a - b
    if abs(difference) <= ROUNDING * scale:
        difference = 0.0
    uncertainty = spread(cells, scale, shares)
    half = _half(level, uncertainty)
    num_images = first.cell.num_images
    one_sided = _probability(-abs(difference), uncertainty.se, uncertainty.df, num_images)
    return Comparison(
        difference=difference,
        low=None if half is None else difference - half,
        high=None if half is None else difference + half,
        se=uncertainty.se,
        se_images=uncertainty.se_images,
        se_seeds=uncertainty.se_seeds,
        df=uncertainty.df,
        p=None if one_sided is None else min(1.0, 2 * one_sided),
        num_seeds=(_fewest_seeds(left), _fewest_seeds(right)),
        num_images=num_images,
        num_regions=first.cell.num_regions,
        covers_seeds=all(one.cell.covers_seeds for one in cells),
        parts=uncertainty.parts,
        approximate=uncertainty.approximate,
    )


def _mean_score(side: Sequence[Resampled]) -> float:
    return sum(float(one.scores.mean()) for one in side) / len(side)


def _fewest_seeds(side: Sequence[Resampled]) -> int:
    return min(one.cell.num_seeds for one in side)


def _half(level: float, uncertainty: Spread) -> float | None:
    if uncertainty.se is None or uncertainty.df is None:
        return None
    return float(stdtrit(uncertainty.df, (1 + level) / 2)) * uncertainty.se


def _probability(
    distance: float, se: float | None, df: float | None, num_images: int
) -> float | None:
    """Return the t distribution function of a distance.

    Where nothing varies it is that of a sign test: as many images that agree are worth 2^-images.
    """
    if se is None or df is None:
        return None
    if se == 0:
        least = 0.5**num_images
        return 0.5 if distance == 0 else least if distance < 0 else 1 - least
    return float(stdtr(df, distance / se))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a share between 0 and 1")
