"""A score over training seeds: its mean and how far seeds lie apart."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from sca_bench.stats.bootstrap import finite_vector


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """Mean and spread over training seeds.

    Attributes:
        mean: Mean over seeds.
        sd: Sample standard deviation (n - 1); None with one seed.
        num_seeds: Number of seeds.
    """

    mean: float
    sd: float | None
    num_seeds: int


def seed_summary(values: ArrayLike) -> SeedSummary:
    """Return mean and sample standard deviation over seeds.

    Raises:
        ValueError: No values, or one that is not finite.
    """
    array = finite_vector(values, "values")
    sd = float(array.std(ddof=1)) if array.size > 1 else None
    return SeedSummary(float(array.mean()), sd, array.size)
