"""METEOR 1.5 by its own program, which starts early: loading its tables takes ten seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.coco_caption.meteor_formula import STATISTICS, meteor_scores
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

SPEC = MetricSpec(
    "meteor",
    "METEOR 1.5 with stems, synonyms and paraphrases; 0-1",
    "meteor",
    "pycocoevalcap meteor-1.5.jar (-l en -norm)",
    compute=f"{__name__}:meteor",
    label="METEOR",
    level="corpus",
    statistics=f"{__name__}:corpus_meteor",
    prepare=f"{__name__}:start",
    reference=f"{__name__}:by_jar",
    requires=(JAVA,),
)


def start(context: Context) -> None:
    """Start the process and return at once.

    Raises:
        NotComputed: The jar is missing, or Java does not start.
    """
    context.meteor().start()


def meteor(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """METEOR over all rows.

    Raises:
        NotComputed: There is no Java, or the process died, hung or answered nonsense.

    Source: Denkowski and Lavie, Meteor Universal, WMT 2014.
    """
    tokens = context.tokens(rows)
    statistics = context.meteor().statistics(tokens.references, tokens.captions)
    value = float(meteor_scores(statistics.sum(axis=0)))
    per_region = meteor_scores(statistics).tolist()
    return [Scored("meteor", value, per_region, rows, statistics=statistics)]


def corpus_meteor(value: str, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return METEOR of each sum (..., 23) of regions' statistics.

    Raises:
        ValueError: The sums are of another shape.
    """
    if sums.ndim == 0 or sums.shape[-1] != STATISTICS:
        raise ValueError(f"{value}: sums of shape {sums.shape}, expected (..., {STATISTICS})")
    return meteor_scores(sums)


def by_jar(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """The same by the jar itself, its last step too; nothing kept is used."""
    tokens = context.tokens(rows)
    scores = context.meteor().score_by_jar(tokens.references, tokens.captions)
    return [Scored("meteor", *scores, rows)]
