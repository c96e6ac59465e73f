"""What a metric is to the scorer: a function from rows to values, found by `module:attribute`.

A package adds one by an entry point of the group `sca_bench.metrics` that names a `MetricSpec`
(`sca_bench.metrics.registry`) whose `compute` leads to such a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.rows import CaptionRow

ImageSource = Callable[[str], NDArray[np.uint8]]
"""Image id -> RGB uint8 (H, W, 3) as it is stored, in the pixels of the rows' boxes."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One value with the regions it is computed from.

    Attributes:
        key: Name of the value: the metric's name, or that followed by `.PART` (`value_names`).
        value: The value over `rows`, in natural units.
        per_region: One value per row of `rows`; empty where a single region has none.
        rows: The regions that count: all, or those with a slot, an image size or other phrases.
        named: Fields of the signature that only the computation knows (`scorer`, `version`,
            `tokenizer`), such as the tagger it found.
        notes: What a reader should know before believing the value.
    """

    key: str
    value: float
    per_region: list[float]
    rows: Sequence[CaptionRow]
    named: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a computation gets beside the rows.

    Attributes:
        name: The metric as it was asked for.
        images: Where pixels come from; None where nobody gave any.
        memory: What computations keep from one system to the next (a loaded model, parses), under
            names of their own; empty again in every new scorer. No value may depend on it.
    """

    name: str
    images: ImageSource | None = None
    memory: dict[str, Any] = field(default_factory=dict)


Computation = Callable[[Sequence[CaptionRow], Context], Sequence[Scored]]
