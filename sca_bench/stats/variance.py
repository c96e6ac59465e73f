"""The variance of a score over test images and training seeds, and its degrees of freedom.

The variance of a cell's seed-averaged score is that of three effects: of images, shared by all
seeds (i / I); of seeds (s / S); and of seed and image together, by which one seed captions one
image better and another worse (u / (S I)). Resampling images with all seeds kept gives the first
and the third together. The variance of the seeds' scores of the whole test set, divided by S, gives
the second and the third. The third, known from how the seeds' resampled scores move apart, is in
both, and is taken off the first. What is left are independent parts, each with its own degrees of
freedom: images alone, with those of images and of resamples, harmonically; and the seeds of each
cell, with S - 1. Nothing else is cut at zero, since a part that is never too small is too large on
average: where seeds differ in nothing but what they make of each image, that gave 98 to 99.8 %.

Few seeds leave their part uncertain, so the interval is that of Student's t. Satterthwaite's
degrees of freedom are a little narrow where one part has few of them and another many: when seeds
happen to lie close together, both the error and their share in it come out too small (92 % with
three seeds that make most of the error). Cochran's rule, the mean of both parts' own t weighted by
variance, is a little wide. Half of the squared width comes from each. Between cells with unequal
numbers of seeds the second is the mean of both rules, too.

Simulated, 95 % intervals cover 93 to 97 % from three seeds a cell and sixty images on, whatever
the parts are; docs/statistics.md has the table. Two seeds say too little of their own spread for
any such rule (89 to 98 %), so `Spread.approximate` says where one is only approximate.

Source: Welch, The generalization of 'Student's' problem when several different population variances
are involved, Biometrika 34, 1947; Satterthwaite, An approximate distribution of estimates of
variance components, Biometrics Bulletin 2, 1946; Cochran, Approximate significance levels of the
Behrens-Fisher test, Biometrics 20, 1964; Owen, The pigeonhole bootstrap, Annals of Applied
Statistics 1, 2007 (two crossed factors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import stdtrit

from sca_bench.stats.bootstrap import Floats, Resampled

ROUNDING = 1e-12
"""Differences and errors below this share of the scores are rounding, read as zero."""
ENOUGH_SEEDS = 3
ENOUGH_IMAGES = 60
"""From as many seeds of each trained cell and test images on, 95 % intervals cover 93 to 97 %."""
_MATCHED = 0.975
"""The quantile at which the rule's interval and that of the t with its degrees of freedom agree."""
_MOST_DF = 1e7
Variance = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True, slots=True)
class SeedPart:
    """The seed variance of one cell, all of one seed's score (natural units, squared).

    Of a cell that is one of several in a mean, times the square of its share in that.

    Attributes:
        num_seeds: Number of seeds.
        trained: Whether the cell was trained.
        square: Variance of the seeds' scores of this test set: of seeds, and of seed and image
            together.
        interaction: Variance by seed and image together, at the number of images there is.
    """

    num_seeds: int
    trained: bool
    square: float = 0.0
    interaction: float = 0.0

    @property
    def seeds(self) -> float:
        """Variance between seeds on an unlimited test set, not below zero."""
        return max(0.0, self.square - self.interaction)

    @property
    def counted(self) -> bool:
        """Whether seeds of this cell vary and their variance is known."""
        return self.trained and self.num_seeds > 1

    @property
    def variance(self) -> Variance:
        """Variance of the mean over its seeds, and its degrees of freedom."""
        return self.square / self.num_seeds, self.num_seeds - 1.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard errors of a score or a difference; all None with fewer than two images.

    Attributes:
        se: Of images and seeds together: the root of the sum of both squares.
        se_images: Of images, as far as all seeds agree on them; of one seed's scores where there is
            only one.
        se_seeds: Of seeds on this test set; zero where nothing was trained; None where one seed of
            a trained cell leaves it unknown.
        df: Degrees of freedom of `se`.
        parts: The seed variance of each cell.
        approximate: Why an interval may cover less than 93 or more than 97 % where it says 95;
            empty where it does not.
    """

    se: float | None
    se_images: float | None
    se_seeds: float | None
    df: float | None
    parts: tuple[SeedPart, ...]
    approximate: str = ""


def spread(
    cells: Sequence[Resampled], scale: float, shares: Sequence[float] = (1.0, -1.0)
) -> Spread:
    """Return the standard errors of a cell's score, or of a sum of several such.

    Args:
        cells: Cells on the same resamples, whose seeds are independent.
        scale: Size of the scores, by which rounding is told from a variance.
        shares: By how much each counts in the sum; by default the first less the second.
    """
    num_images, num_draws = cells[0].cell.num_images, cells[0].draws.shape[1]
    if num_images < 2:
        return Spread(None, None, None, None, ())
    unbias = num_images / (num_images - 1)
    weighted = list(zip(cells, shares, strict=False))
    total: Floats = sum(share * one.draws.mean(axis=0) for one, share in weighted)
    parts = tuple(_seed_part(one, unbias, scale, share) for one, share in weighted)
    counted = [part for part in parts if part.counted]
    both = _clean(unbias * float(total.var(ddof=1)), scale)
    together = sum(part.interaction / part.num_seeds for part in counted)
    images = _clean(both - together, scale)
    image_df = max(1.0, 1 / (1 / (num_images - 1) + 1 / (num_draws - 1)))
    seeds = sum(part.variance[0] for part in counted)
    known = all(one.cell.covers_seeds for one in cells)
    return Spread(
        se=float(np.sqrt(images + seeds)),
        se_images=float(np.sqrt(images)),
        se_seeds=float(np.sqrt(seeds)) if known else None,
        df=degrees((images, image_df), [part.variance for part in counted]),
        parts=parts,
        approximate=_approximate(parts, num_images),
    )


def degrees(images: Variance, seeds: Sequence[Variance]) -> float:
    """Return the degrees of freedom of a variance over images and seeds.

    At least those of its part that has fewest, and never below one.

    Args:
        images: The variance of images, and its degrees of freedom.
        seeds: The same of the seeds of each cell, all independent.
    """
    of_seeds = [part for part in seeds if part[0] > 0]
    found = [part for part in (images, *of_seeds) if part[0] > 0]
    if len(found) < 2:
        return max(1.0, found[0][1] if found else images[1])
    narrow = _quantile(_satterthwaite(found))
    together = _quantile(_satterthwaite(of_seeds))
    if len({df for _, df in of_seeds}) > 1:  # Satterthwaite's is too narrow between cells, too
        together = (together + _cochran([(v, _quantile(df)) for v, df in of_seeds])) / 2
    of_cells = sum(variance for variance, _ in of_seeds)
    wide = _cochran([(images[0], _quantile(images[1])), (of_cells, together)])
    least = max(1.0, min(df for _, df in found))
    return _degrees_of(float(np.sqrt((narrow**2 + wide**2) / 2)), least)


def _satterthwaite(parts: Sequence[Variance]) -> float:
    total = sum(variance for variance, _ in parts)
    return total**2 / sum(variance**2 / df for variance, df in parts)


def _cochran(parts: Sequence[tuple[float, float]]) -> float:
    """Return the mean of the quantiles of some variances, weighted by these."""
    total = sum(variance for variance, _ in parts)
    return sum(variance * quantile for variance, quantile in parts) / total


def _quantile(df: float) -> float:
    return float(stdtrit(df, _MATCHED))


def _degrees_of(quantile: float, least: float) -> float:
    """Return the degrees of freedom, `least` at least, at which t has this quantile."""
    inverse_df, quantiles = _quantiles()
    inverse = float(np.interp(quantile, quantiles, inverse_df))
    return max(least, 1 / max(inverse, 1 / _MOST_DF))


@cache
def _quantiles() -> tuple[Floats, Floats]:
    """Return inverse degrees of freedom, evenly from none to one, and t there, to 1e-6."""
    inverse_df = np.linspace(0.0, 1.0, 4001)
    return inverse_df, stdtrit(1 / np.maximum(inverse_df, 1 / _MOST_DF), _MATCHED)


def _approximate(parts: Sequence[SeedPart], num_images: int) -> str:
    reasons = []
    if any(part.counted and part.num_seeds < ENOUGH_SEEDS for part in parts):
        reasons.append("two seeds say little of how far seeds lie apart")
    if num_images < ENOUGH_IMAGES:
        reasons.append(f"{num_images} test images are few where scores are skewed")
    return " and ".join(reasons)


def _seed_part(one: Resampled, unbias: float, scale: float, share: float) -> SeedPart:
    cell = one.cell
    if not cell.trained or cell.num_seeds < 2:
        return SeedPart(cell.num_seeds, cell.trained)
    square = share**2 * _clean(float(one.scores.var(ddof=1)), scale)
    moved: Floats = one.draws - one.draws.mean(axis=0)
    together = float(moved.var(axis=1, ddof=1).sum()) / (cell.num_seeds - 1)
    interaction = share**2 * _clean(unbias * together, scale)
    return SeedPart(cell.num_seeds, True, square, interaction)


def _clean(variance: float, scale: float) -> float:
    return variance if variance > (ROUNDING * scale) ** 2 else 0.0
