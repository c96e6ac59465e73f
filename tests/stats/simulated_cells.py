"""Cells of which everything is known: images, seeds and their interaction, as variances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from sca_bench.stats.bootstrap import CellScores, image_weights, mean_combine, resample
from sca_bench.stats.compare import Comparison, Estimate, compare_resampled, estimate_resampled

RESAMPLES = 400
AT_ONCE = 50  # trials, a few megabytes


@dataclass(frozen=True)
class World:
    """Standard deviations of effects on a region's value.

    `shared` is of an image on both cells, `own` of an image on one cell, `together` of an image
    on one seed, `region` of a region of one seed, `seed` of a seed on all its regions. With `skew`
    effects of images are exponential instead of normal.
    """

    num_images: int = 100
    num_seeds: tuple[int, int] = (3, 3)
    shared: float = 1.0
    own: float = 0.5
    together: float = 0.3
    region: float = 0.5
    seed: tuple[float, float] = (0.05, 0.05)
    trained: tuple[bool, bool] = (True, True)
    skew: bool = False

    def counts(self) -> np.ndarray:
        """Return the regions of each image: one to nine, the same in every trial."""
        return np.random.default_rng(7).integers(1, 10, self.num_images).astype(float)


def trials(world, num, rng, difference=0.0, combine=mean_combine, columns=None):
    """Return pairs of cells, the first better by `difference`, drawn anew for each trial."""
    pairs = []
    while len(pairs) < num:
        size = min(AT_ONCE, num - len(pairs))
        pairs += _some_trials(world, size, rng, difference, combine, columns)
    return pairs


def _some_trials(world, num, rng, difference, combine, columns):
    """Draw the numbers of several trials at once, in the order of one trial after the other."""
    counts, images = world.counts(), world.num_images
    shapes = [(images,)]
    for seeds, trained in zip(world.num_seeds, world.trained, strict=True):
        of_cell = [(seeds, 1), (seeds, images), (seeds, images)] if trained else [(images,)]
        shapes += [(images,), *of_cell]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    blocks = np.split(rng.normal(size=(num, ends[-1])), ends[:-1], axis=1)
    if world.skew:
        blocks = [-1 - np.log(ndtr(z)) if z.shape[1] >= images else z for z in blocks]
    drawn = iter(z.reshape(num, *shape) for z, shape in zip(blocks, shapes, strict=True))
    shared = world.shared * next(drawn)
    sides = []
    for side, (seeds, trained) in enumerate(zip(world.num_seeds, world.trained, strict=True)):
        value = (shared + world.own * next(drawn)) + (difference if side == 0 else 0.0)
        value = value[:, None]
        if trained:
            value = value + world.seed[side] * next(drawn)
            value = value + world.together * next(drawn)
            noise = world.region * next(drawn)
        else:
            noise = world.region * next(drawn)[:, None]
        sums = counts * value + np.sqrt(counts) * noise
        sums = np.broadcast_to(sums, (num, seeds, images))
        sums = sums[..., None] if columns is None else columns(sums / counts, counts)
        sides.append([CellScores(one, counts, combine, trained) for one in sums])
    return list(zip(*sides, strict=True))


def compared(pairs, level=0.95) -> list[Comparison]:
    """Compare each pair, all on the same resampled images."""
    weights = image_weights(pairs[0][0].num_images, RESAMPLES, seed=3)
    found = resample([cell for pair in pairs for cell in pair], weights)
    return [compare_resampled(a, b, level) for a, b in zip(found[::2], found[1::2], strict=True)]


def alone(pairs, level=0.95) -> list[Estimate]:
    """Return the first cell of each pair by itself."""
    weights = image_weights(pairs[0][0].num_images, RESAMPLES, seed=3)
    return [estimate_resampled(one, level) for one in resample([a for a, _ in pairs], weights)]


def coverage(comparisons, truth) -> float:
    return float(np.mean([c.low <= truth <= c.high for c in comparisons]))
