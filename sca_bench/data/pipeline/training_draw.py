"""The random numbers of one training draw, drawn before anything is done with them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ATTEMPTS = 8
"""Cuts that are tried before an image is shown whole, since every one lost all of its regions."""


@dataclass(frozen=True)
class TrainingDraw:
    """What chance decides about one image.

    Attributes:
        coin: Whether the image is mirrored, where it may be.
        order: All its regions, by place, in the order in which they are considered.
        choices: For each place of `order` a number in [0, 1) that picks among the references.
        cuts: Pairs of numbers in [0, 1], tried one after the other: where in the range of scales,
            and where along both axes the cut lies.
    """

    coin: bool
    order: tuple[int, ...]
    choices: tuple[float, ...]
    cuts: tuple[tuple[float, float], ...] = ()


def draw_numbers(seed: int, number: int, num_regions: int) -> TrainingDraw:
    """Draw the numbers of one image from `default_rng([seed, number])`.

    All are drawn whatever is used of them, so that two cells which differ in an augmentation see
    the same regions and references.

    Args:
        seed: Seed of the run.
        number: How many draws of the run came before.
        num_regions: Regions of the image.
    """
    rng = np.random.default_rng([seed, number])
    coin = bool(rng.random() < 0.5)
    order = rng.permutation(num_regions).tolist()
    choices = rng.random(num_regions).tolist()
    cuts = rng.random((ATTEMPTS, 2)).tolist()
    return TrainingDraw(coin, tuple(order), tuple(choices), tuple((a, b) for a, b in cuts))
