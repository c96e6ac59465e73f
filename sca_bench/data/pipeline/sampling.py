"""Which image comes when: orders that are pure functions of seed and position. No torch.

Nothing here holds a random state, so a run that resumes at draw `n` jumps there at once and sees
exactly what an uninterrupted run would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ORDER_STREAM = 1
"""Keeps the random numbers of the image order apart from those of each draw's augmentation."""
_PART_STREAM = 3
"""Keeps the choice of a mixture's part apart from both (and from the caption permutation, 2)."""
_BLOCK = 65_536
"""Choices of a part that come from one generator."""


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

    Of a mixture, every draw first picks a part, with the probability of its weight. The draws of
    one part then go through that part's images as if it stood alone: all of them once, in a new
    permutation each time. With a single part this is the plain sampler, number for number.

    Args:
        num_images: Images of the data set.
        seed: Seed of the order, 0 or more.
        start: Draws already consumed; iteration begins after them.
        parts: Images and weight of each part, in the order of the data set; None for one part.

    Raises:
        ValueError: There is no image, a part without image or weight, parts that do not add up to
            `num_images`, or `start` or `seed` is negative.
    """

    def __init__(
        self,
        num_images: int,
        seed: int,
        *,
        start: int = 0,
        parts: Sequence[tuple[int, float]] | None = None,
    ) -> None:
        if num_images < 1 or start < 0 or seed < 0:
            raise ValueError(f"{num_images=} must be positive, {start=} and {seed=} at least 0")
        self.num_images, self.seed, self.start = num_images, seed, start
        self._parts = list(parts) if parts is not None else [(num_images, 1.0)]
        sizes, weights = [size for size, _ in self._parts], [weight for _, weight in self._parts]
        if min(sizes, default=0) < 1 or min(weights) <= 0 or sum(sizes) != num_images:
            raise ValueError(f"{parts=} must be positive and add up to {num_images} images")
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._limits = np.cumsum(weights) / sum(weights)

    def __iter__(self) -> Iterator[Draw]:
        consumed = self._consumed()
        orders = [self._order(part, count) for part, count in enumerate(consumed)]
        number = self.start
        while True:
            block, offset = divmod(number, _BLOCK)
            for part in self._picks(block)[offset:].tolist():
                yield Draw(self._starts[part] + next(orders[part]), number)
                number += 1

    def _consumed(self) -> list[int]:
        """Return how many of the draws already made were of each part."""
        if len(self._parts) == 1:
            return [self.start]
        block, offset = divmod(self.start, _BLOCK)
        counts = np.zeros(len(self._parts), dtype=np.int64)
        for number in range(block):
            counts += np.bincount(self._picks(number), minlength=len(counts))
        counts += np.bincount(self._picks(block)[:offset], minlength=len(counts))
        consumed: list[int] = counts.tolist()
        return consumed

    def _picks(self, block: int) -> NDArray[np.intp]:
        """Return the parts of a block of draws."""
        if len(self._parts) == 1:
            return np.zeros(_BLOCK, dtype=np.intp)
        rng = np.random.default_rng([self.seed, block, _PART_STREAM])
        picks = np.searchsorted(self._limits, rng.random(_BLOCK), side="right")
        return np.minimum(picks, len(self._parts) - 1)  # a sum of weights may round below 1

    def _order(self, part: int, consumed: int) -> Iterator[int]:
        """Yield the images of one part for ever, after those already consumed."""
        size = self._parts[part][0]
        epoch, offset = divmod(consumed, size)
        while True:
            # The first part's numbers are those of the plain sampler; others add their own.
            stream = [self.seed, epoch, _ORDER_STREAM, *([part] if part else [])]
            yield from np.random.default_rng(stream).permutation(size)[offset:].tolist()
            epoch, offset = epoch + 1, 0


class EvalSampler:
    """Every image once, in order."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, index) for index in range(self.num_images))
