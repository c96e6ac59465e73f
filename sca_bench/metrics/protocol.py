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

from sca_bench.metrics.coco_caption.java import Java
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.shared import Shared, Tokens

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
        statistics: (rows, K), what each region adds to a corpus value; a report resamples it, and
            the `CorpusScore` that the metric names gives the value of a sum of them. None where
            the value is the mean of its regions' values, or no interval is wanted. The values of
            one computation share one.
    """

    key: str
    value: float
    per_region: list[float]
    rows: Sequence[CaptionRow]
    named: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    statistics: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """What a computation gets beside the rows.

    Attributes:
        name: The metric as it was asked for.
        images: Where pixels come from; None where nobody gave any.
        memory: What computations keep from one system to the next (a loaded model, parses), under
            names of their own; empty again in every new scorer. No value may depend on it. What
            has a method `close` is closed with the scorer.
        shared: What all metrics of a scorer share, behind the methods below.
        device: Where a model computes, as `runtime.device` names it.
    """

    name: str
    images: ImageSource | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared, repr=False)
    device: str = "auto"

    def tokens(self, rows: Sequence[CaptionRow]) -> Tokens:
        """Return captions and references as the field's scorers see them: Penn Treebank tokens.

        They are cut once for all metrics that ask for them.

        Raises:
            NotComputed: There is no Java, or its tokenizer failed.
        """
        return self.shared.tokens(rows)

    def java(self) -> Java:
        """Return the Java runtime.

        Raises:
            NotComputed: There is none.
        """
        return self.shared.java()

    def meteor(self) -> Meteor:
        """Return METEOR's process, which is started on its first call.

        Raises:
            NotComputed: There is no Java.
        """
        return self.shared.meteor()


Computation = Callable[[Sequence[CaptionRow], Context], Sequence[Scored]]

CorpusScore = Callable[[str, NDArray[np.float64]], NDArray[np.float64]]
"""Name of a value, sums (..., K) of its regions' statistics -> the value of each sum (...)."""
