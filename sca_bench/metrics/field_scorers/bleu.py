"""BLEU-1 to BLEU-4, corpus level: one computation, four values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption.bleu import STATISTICS, bleu_scores
from sca_bench.metrics.coco_caption.ngrams import MOST_WORDS
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

_LENGTHS = range(1, MOST_WORDS + 1)
_VALUES = tuple(f"bleu_{n}" for n in _LENGTHS)
_ALL = MetricSpec(
    "bleu",
    "BLEU-1 to BLEU-4, corpus level; 0-1",
    "bleu",
    "pycocoevalcap Bleu (n=4, closest reference length, corpus level)",
    compute=f"{__name__}:bleu",
    label="BLEU",
    values=_VALUES,
    level="corpus",
    statistics=f"{__name__}:corpus_bleu",
    reference=f"{__name__}:by_pycocoevalcap",
    requires=(JAVA,),
)
SPECS = (
    _ALL,
    *(
        replace(
            _ALL,
            name=name,
            summary=f"BLEU-{n}, corpus level; 0-1",
            label=f"BLEU-{n}",
            values=(),
        )
        for n, name in zip(_LENGTHS, _VALUES, strict=True)
    ),
)


def bleu(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """All four, or the one that is asked for.

    Raises:
        NotComputed: There is no Java, or its tokenizer failed.

    Source: Papineni et al., BLEU, ACL 2002.
    """
    tokens = context.tokens(rows)
    values, per_region, statistics = tokens.index.bleu(tokens.captions)
    return [
        Scored(
            name,
            float(values[column]),
            per_region[:, column].tolist(),
            rows,
            statistics=statistics,
        )
        for column, name in enumerate(_VALUES)
        if context.name in (name, _ALL.name)
    ]


def corpus_bleu(value: str, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one of the four of each sum (..., 10) of regions' statistics.

    Raises:
        ValueError: The sums are of another shape.
    """
    if sums.ndim == 0 or sums.shape[-1] != STATISTICS:
        raise ValueError(f"{value}: sums of shape {sums.shape}, expected (..., {STATISTICS})")
    return bleu_scores(sums)[..., _VALUES.index(value)]


def by_pycocoevalcap(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """All four by pycocoevalcap's own class."""
    tokens = context.tokens(rows)
    both = zip(*reference_scorers.bleu(tokens.references, tokens.captions), strict=True)
    return [Scored(name, *scores, rows) for name, scores in zip(_VALUES, both, strict=True)]
