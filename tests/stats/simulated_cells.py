"""Cells of which everything is known: images, seeds and their interaction, as variances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sca_bench.stats.bootstrap import CellScores, image_weights, mean_combine, resample
from sca_bench.stats.compare import Comparison, compare_resampled

RESAMPLES = 400


@dataclass(frozen=True)
class World:
    """Standard deviations of effects on a region's value.

    `shared` is of an image on both cells, `own` of an image on one cell, `together` of an image
    on one seed, `region` of a region of one seed, `seed` of a seed on all its regions.
    """

    num_images: int = 100
    num_seeds: tuple[int, int] = (3, 3)
    shared: float = 1.0
    own: float = 0.5
    together: float = 0.3
    region: float = 0.5
    seed: tuple[float, float] = (0.05, 0.05)
    trained: tuple[bool, bool] = (True, True)

    def counts(self) -> np.ndarray:
        """Return the regions of each image: one to nine, the same in every trial."""
        return np.random.default_rng(7).integers(1, 10, self.num_images).astype(float)


def trials(world, num, rng, difference=0.0, combine=mean_combine, columns=None):
    """Return pairs of cells, the first better by `difference`, drawn anew for each trial."""
    counts = world.counts()
    pairs = []
    for _ in range(num):
        shared = world.shared * rng.normal(size=world.num_images)
        pair = []
        for side in (0, 1):
            seeds = world.num_seeds[side]
            shape = (seeds, world.num_images)
            value = shared + world.own * rng.normal(size=world.num_images)
            value = value + (difference if side == 0 else 0.0)
            if world.trained[side]:
                value = value + world.seed[side] * rng.normal(size=(seeds, 1))
                value = value + world.together * rng.normal(size=shape)
            noise = world.region * rng.normal(size=shape if world.trained[side] else shape[1:])
            sums = np.broadcast_to(counts * value + np.sqrt(counts) * noise, shape)
            sums = sums[:, :, None] if columns is None else columns(sums / counts, counts)
            pair.append(CellScores(sums, counts, combine, world.trained[side]))
        pairs.append(pair)
    return pairs


def compared(pairs, level=0.95) -> list[Comparison]:
    """Compare each pair, all on the same resampled images."""
    weights = image_weights(pairs[0][0].num_images, RESAMPLES, seed=3)
    found = resample([cell for pair in pairs for cell in pair], weights)
    return [compare_resampled(a, b, level) for a, b in zip(found[::2], found[1::2], strict=True)]


def coverage(comparisons, truth) -> float:
    return float(np.mean([c.low <= truth <= c.high for c in comparisons]))
