"""Scores of cells on resampled images: one matrix product for all systems. Pure functions.

A cell is one configuration trained with S seeds, each of which captions the same R regions in I
images. Regions of one image share its features, so images are resampled, not regions. A score is a
function of statistics summed over regions: of K = 1 column for a mean (CIDEr-D with its document
frequencies held fixed), of several for a corpus score such as BLEU or METEOR. A resampled corpus
then is a row of image counts times the images' sums, exactly.

Shapes: S seeds, R regions, I images, K columns, B resamples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (weights as multinomial
counts); Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8 (clusters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Combine = Callable[[Floats, Floats], Floats]

NUM_RESAMPLES = 1000
_DRAWS = 2_000_000  # Drawn image numbers held at once: 16 MB.
_ELEMENTS = 8_000_000  # Sums multiplied at once: 64 MB.


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
class CellScores:
    """What a cell's seeds scored, by image.

    Attributes:
        sums: (S, I, K) statistics summed over the regions of each image, per seed.
        counts: (I,) number of regions of each image.
        combine: Maps (..., K) sums and (...) numbers of regions to (...) scores, natural units.
        trained: False where nothing was trained, so that another seed gives the same captions.
    """

    sums: Floats
    counts: Floats
    combine: Combine
    trained: bool = True

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: A shape is wrong, a value is not finite, or an image has no region.
        """
        if self.sums.ndim != 3 or 0 in self.sums.shape:
            raise ValueError(f"sums: expected (seeds, images, columns), got {self.sums.shape}")
        if self.counts.shape != (self.sums.shape[1],):
            raise ValueError(f"counts: expected {self.sums.shape[1]}, got {self.counts.shape}")
        if not np.isfinite(self.sums).all():
            raise ValueError("sums: expected finite numbers")
        if not (np.isfinite(self.counts) & (self.counts > 0)).all():
            raise ValueError("counts: expected at least one region of every image")

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return int(self.sums.shape[0])

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.sums.shape[1])

    @property
    def num_regions(self) -> int:
        """Number of regions of all images."""
        return round(float(self.counts.sum()))

    @property
    def covers_seeds(self) -> bool:
        """Whether the variance between seeds is known: measured, or nothing was trained."""
        return not self.trained or self.num_seeds > 1

    def scores(self) -> Floats:
        """Return each seed's score of all images, (S,).

        Raises:
            ValueError: `combine` returns another shape, or a number that is not finite.
        """
        counts = np.full(self.num_seeds, self.counts.sum())
        return _combined(self, self.sums.sum(axis=1), counts)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A cell with its scores of resampled images.

    Attributes:
        cell: The cell.
        scores: (S,) each seed's score of all images.
        draws: (S, B) the same of each resample; B = 0 with fewer than two images.
    """

    cell: CellScores
    scores: Floats
    draws: Floats


def mean_combine(sums: Floats, counts: Floats) -> Floats:
    """Return the mean over regions of the first column: (..., K), (...) -> (...)."""
    return np.asarray(sums[..., 0] / counts, dtype=np.float64)


def cell_scores(
    values: ArrayLike,
    image_of_region: Sequence[str] | Sequence[int] | NDArray,
    combine: Combine = mean_combine,
    trained: bool = True,
) -> CellScores:
    """Sum the statistics of regions by image.

    Args:
        values: (S, R, K) statistics, or (S, R) where there is one.
        image_of_region: The image of each region, any ids that sort; images are kept in the order
            of their sorted ids, so that cells of the same regions agree.
        combine: See `CellScores`.
        trained: See `CellScores`.

    Raises:
        ValueError: Lengths differ, there is nothing, or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2:
        array = array[:, :, None]
    ids = np.asarray(image_of_region)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"values: expected (seeds, regions[, columns]), got {np.shape(values)}")
    if ids.shape != (array.shape[1],):
        raise ValueError(f"{array.shape[1]} regions, image ids of shape {ids.shape}")
    names, image = np.unique(ids, return_inverse=True)
    order = np.argsort(image, kind="stable")
    starts = np.searchsorted(image[order], np.arange(names.size))
    sums = np.add.reduceat(array[:, order], starts, axis=1)
    counts = np.bincount(image, minlength=names.size).astype(np.float64)
    return CellScores(sums, counts, combine, trained)


def image_weights(num_images: int, n: int = NUM_RESAMPLES, seed: int = 0) -> Floats:
    """Return how often each of n resamples holds each image, (n, I): multinomial counts.

    The draws are those of `image_bootstrap` with the same seed. Memory: 8 n I bytes, 40 MB for
    1,000 resamples of 5,000 images.

    Args:
        num_images: Number of images I; each resample draws as many, with replacement.
        n: Number of resamples.
        seed: Seed of this call's own generator.

    Raises:
        ValueError: A number below one.
    """
    if num_images < 1 or n < 1:
        raise ValueError(f"num_images={num_images}, n={n}: expected at least 1")
    weights = np.empty((n, num_images))
    start = 0
    for drawn in _drawn_images(num_images, n, seed):
        size = len(drawn)
        drawn += (np.arange(size) * num_images)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_images)
        weights[start : start + size] = counts.reshape(size, num_images)
        start += size
    return weights


def image_bootstrap(
    values_per_region: ArrayLike,
    image_ids: Sequence[str],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the mean over regions with a percentile interval from resampled images.

    Equal to percentiles of what `resample` draws for one cell and seed, up to rounding: here the
    images of a resample are added one by one, which gives the same bits on every machine.

    Args:
        values_per_region: One value per region.
        image_ids: The image of each region.
        n: Number of resamples.
        seed: Seed of this call's own generator; the global one is neither read nor moved.
        level: Coverage of the interval.

    Raises:
        ValueError: Lengths differ, there are no values, or one is not finite.
    """
    array = finite_vector(values_per_region, "values_per_region")
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
    draws = _drawn_images(sums.size, n, seed)
    means = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in draws]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def _drawn_images(num_images: int, n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield n resamples as image numbers, (resamples, I) at a time; the caller may change them."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS // num_images)
    for start in range(0, n, rows):
        yield rng.integers(num_images, size=(min(rows, n - start), num_images))


def resample(cells: Sequence[CellScores], weights: Floats | None = None) -> list[Resampled]:
    """Score every cell and seed on the same resampled images, by one matrix product.

    Args:
        cells: Cells of the same images, in the same order.
        weights: (B, I) as `image_weights` gives; None draws 1,000 with seed 0.

    Raises:
        ValueError: Cells have other images or numbers of regions than the first, the weights do not
            fit, or a score is not finite.
    """
    if not cells:
        return []
    counts = cells[0].counts
    for cell in cells[1:]:
        if not np.array_equal(cell.counts, counts):
            raise ValueError("the cells were scored on different images or regions")
    if counts.size < 2:
        return [Resampled(cell, cell.scores(), np.empty((cell.num_seeds, 0))) for cell in cells]
    if weights is None:
        weights = image_weights(counts.size)
    _check_weights(weights, counts.size)
    regions = weights @ counts
    out: list[Resampled] = []
    for part in _parts(cells, counts.size):
        columns = np.concatenate(
            [c.sums.transpose(1, 0, 2).reshape(counts.size, -1) for c in part], 1
        )
        product = weights @ columns
        start = 0
        for cell in part:
            seeds, _, k = cell.sums.shape
            sums = product[:, start : start + seeds * k].reshape(-1, seeds, k)
            start += seeds * k
            spread = np.broadcast_to(regions[:, None], sums.shape[:2])
            out.append(Resampled(cell, cell.scores(), _combined(cell, sums, spread).T))
    return out


def _parts(cells: Sequence[CellScores], num_images: int) -> list[list[CellScores]]:
    """Return the cells in groups whose sums together stay within the memory allowed."""
    parts: list[list[CellScores]] = []
    size = 0
    for cell in cells:
        if not parts or size + cell.sums.size > max(_ELEMENTS, num_images):
            parts.append([])
            size = 0
        parts[-1].append(cell)
        size += cell.sums.size
    return parts


def _combined(cell: CellScores, sums: Floats, counts: Floats) -> Floats:
    scores = np.asarray(cell.combine(sums, counts), dtype=np.float64)
    if scores.shape != counts.shape:
        raise ValueError(f"combine: expected shape {counts.shape}, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("combine: returned a score that is not finite")
    return scores


def _check_weights(weights: Floats, num_images: int) -> None:
    if weights.ndim != 2 or weights.shape[1] != num_images or weights.shape[0] < 2:
        raise ValueError(
            f"weights: expected (resamples, {num_images}) with at least 2, got {weights.shape}"
        )
    if not (weights.min() >= 0 and np.isfinite(weights.sum())):
        raise ValueError("weights: expected finite numbers that are not negative")
    if not (weights.sum(axis=1) > 0).all():
        raise ValueError("weights: a resample holds no image")


def finite_vector(values: ArrayLike, name: str) -> Floats:
    """Return numbers as an array (N,).

    Args:
        values: At least one number, all finite.
        name: What to call them in an error.

    Raises:
        ValueError: They are something else.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a non-empty list of finite numbers")
    return array
