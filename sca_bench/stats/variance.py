"""The variance of a score over test images and training seeds, and its degrees of freedom.

The variance of a cell's seed-averaged score is that of three effects: of images, shared by all
seeds (i / I); of seeds (s / S); and of seed and image together, by which one seed captions one
image better and another worse (u / (S I)). Resampling images with all seeds kept gives the first
and the third together. The variance of the seeds' scores of the whole test set, divided by S, gives
the second and the third; the third, known from how the seeds' resampled scores move apart, is taken
off once, and what is left is floored at zero.

Few seeds make the second uncertain, so the interval is that of Student's t. Its degrees of freedom
are Welch's and Satterthwaite's, in which each cell's seed variance stands in full, before the third
effect is taken off, with S - 1, and the image variance with I - 1 and the number of resamples less
one, harmonically. With one degree of freedom for all seeds (two seeds of the only trained cell)
that rule covers as little as 87 %, and Banerjee's conservative combination is used instead.

Simulated, 95 % intervals cover 93 to 97 % from 60 images and two seeds a cell on. They do not where
two seeds make nearly all of the error (97 to 98), where cells differ only in what each seed makes
of each image (up to 98.6 with two seeds), with two seeds of one trained cell (up to 99.6), and,
on the wrong side, with two seeds a cell whose spreads differ tenfold (88): take three.

Source: Welch, The generalization of 'Student's' problem when several different population variances
are involved, Biometrika 34, 1947; Satterthwaite, An approximate distribution of estimates of
variance components, Biometrics Bulletin 2, 1946; Banerjee, Approximate confidence interval for
linear functions of means of k populations when the population variances are not equal, Sankhya 22,
1960; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007 (two crossed factors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from sca_bench.stats.bootstrap import Floats, Resampled

ROUNDING = 1e-12
"""Differences and errors below this share of the scores are rounding, read as zero."""
_MATCHED = 0.975
"""The quantile at which Banerjee's interval and that of the t with its degrees of freedom agree."""
_MOST_DF = 1e7


@dataclass(frozen=True, slots=True)
class SeedPart:
    """The seed variance of one cell, all of one seed's score (natural units, squared).

    Of a cell that is one of several in a mean, times the square of its share in that.

    Attributes:
        num_seeds: Number of seeds.
        trained: Whether the cell was trained.
        seeds: Variance between seeds on an unlimited test set, floored at zero.
        interaction: Variance by seed and image together, at the number of images there is.
        square: Variance of the seeds' scores of this test set, which holds both.
    """

    num_seeds: int
    trained: bool
    seeds: float = 0.0
    interaction: float = 0.0
    square: float = 0.0

    @property
    def counted(self) -> bool:
        """Whether seeds of this cell vary and their variance is known."""
        return self.trained and self.num_seeds > 1


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard errors of a score or a difference; all None with fewer than two images.

    Attributes:
        se: Of images and seeds together.
        se_images: Of images, the seeds being those there are.
        se_seeds: What seeds add; zero where nothing was trained; None where one seed of a trained
            cell leaves it unknown.
        df: Degrees of freedom of `se`.
        parts: The seed variance of each cell.
    """

    se: float | None
    se_images: float | None
    se_seeds: float | None
    df: float | None
    parts: tuple[SeedPart, ...]


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
    images = _clean(unbias * float(total.var(ddof=1)), scale)
    parts = tuple(_seed_part(one, unbias, scale, share) for one, share in weighted)
    seeds = sum(part.seeds / part.num_seeds for part in parts)
    image_df = 1 / (1 / (num_images - 1) + 1 / (num_draws - 1))
    squares = [(p.square / p.num_seeds, p.num_seeds - 1) for p in parts if p.counted]
    known = all(one.cell.covers_seeds for one in cells)
    return Spread(
        se=float(np.sqrt(images + seeds)),
        se_images=float(np.sqrt(images)),
        se_seeds=float(np.sqrt(seeds)) if known else None,
        df=degrees(images + seeds, images, image_df, squares),
        parts=parts,
    )


def degrees(
    total: float, images: float, image_df: float, squares: Sequence[tuple[float, int]]
) -> float:
    """Return the degrees of freedom of a variance over images and seeds.

    Args:
        total: The variance.
        images: What images make of it.
        image_df: Degrees of freedom of that.
        squares: For each cell whose seeds vary, the seed variance of its mean, before anything is
            taken off, and its degrees of freedom.
    """
    if total <= 0:
        return image_df
    seeds = sum(square for square, _ in squares)
    if seeds > 0 and sum(df for _, df in squares) == 1:
        return _banerjee(total, image_df, min(seeds, total))
    inverse = images**2 / image_df + sum(square**2 / df for square, df in squares)
    return total**2 / inverse


def _banerjee(total: float, image_df: float, seeds: float) -> float:
    """Return the degrees of freedom at which t gives Banerjee's width, one of them for seeds."""
    images_t, seeds_t = stdtrit(image_df, _MATCHED), stdtrit(1, _MATCHED)
    wanted = np.sqrt(images_t**2 * (1 - seeds / total) + seeds_t**2 * seeds / total)
    if wanted >= seeds_t:
        return 1.0
    most = min(image_df, _MOST_DF)
    if wanted <= stdtrit(most, _MATCHED):
        return most
    return float(brentq(lambda df: stdtrit(df, _MATCHED) - wanted, 1.0, most))


def _seed_part(one: Resampled, unbias: float, scale: float, share: float) -> SeedPart:
    cell = one.cell
    if not cell.trained or cell.num_seeds < 2:
        return SeedPart(cell.num_seeds, cell.trained)
    square = share**2 * _clean(float(one.scores.var(ddof=1)), scale)
    moved: Floats = one.draws - one.draws.mean(axis=0)
    together = float(moved.var(axis=1, ddof=1).sum()) / (cell.num_seeds - 1)
    interaction = share**2 * _clean(unbias * together, scale)
    return SeedPart(cell.num_seeds, True, max(0.0, square - interaction), interaction, square)


def _clean(variance: float, scale: float) -> float:
    return variance if variance > (ROUNDING * scale) ** 2 else 0.0
