"""What the metrics share that compare whole captions, or whole slots of them."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.errors import NotComputed
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.rows import CaptionRow

CASE = "none (NFC, case folded, runs of space collapsed)"
"""What a signature says of texts that are compared as wholes."""


def mean(key: str, values: list[float], rows: Sequence[CaptionRow]) -> Scored:
    """Return the mean of the regions' values.

    Raises:
        NotComputed: There are no regions.
    """
    if not values:
        raise NotComputed(f"{key}: there are no regions")
    return Scored(key, sum(values) / len(values), values, rows)
