"""Which image comes when: orders that are pure functions of seed and position. No torch.

Nothing here holds a random state, so a run that resumes at draw `n` jumps there at once and sees
exactly what an uninterrupted run would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ORDER_STREAM = 1
"""Keeps the numbers behind the image order apart from those behind each draw's augmentation."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of the stream.

    Attributes:
        index: Which image of the data set.
        number: How many draws of the whole run came before; the seed of all that is random in it.
    """

    index: int
    number: int


class SeekableSampler:
    """Endless draws; every epoch is a new permutation of all images.

    Args:
        num_images: Images of the data set.
        seed: Seed of the order, 0 or more.
        start: Draws already consumed; iteration begins behind them.

    Raises:
        ValueError: There is no image, or `start` or `seed` is negative.
    """

    def __init__(self, num_images: int, seed: int, *, start: int = 0) -> None:
        if num_images < 1 or start < 0 or seed < 0:
            raise ValueError(f"{num_images=} must be positive, {start=} and {seed=} at least 0")
        self.num_images, self.seed, self.start = num_images, seed, start

    def __iter__(self) -> Iterator[Draw]:
        epoch, offset = divmod(self.start, self.num_images)
        number = self.start
        while True:
            rng = np.random.default_rng([self.seed, epoch, _ORDER_STREAM])
            for index in rng.permutation(self.num_images)[offset:].tolist():
                yield Draw(index, number)
                number += 1
            epoch, offset = epoch + 1, 0


class EvalSampler:
    """Every image once, in order."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, index) for index in range(self.num_images))
