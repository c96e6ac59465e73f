"""ROUGE-L."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

SPEC = MetricSpec(
    "rouge_l",
    "ROUGE-L; 0-1",
    "rouge_l",
    "pycocoevalcap Rouge (beta=1.2)",
    compute=f"{__name__}:rouge_l",
    reference=f"{__name__}:by_pycocoevalcap",
    label="ROUGE-L",
    requires=(JAVA,),
)


def rouge_l(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """ROUGE-L, the mean over regions.

    Raises:
        NotComputed: There is no Java, or its tokenizer failed.

    Source: Lin, ROUGE, ACL workshop 2004.
    """
    tokens = context.tokens(rows)
    value, per_region = tokens.index.rouge_l(tokens.captions)
    return [Scored("rouge_l", value, per_region.tolist(), rows)]


def by_pycocoevalcap(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """The same by pycocoevalcap's own class."""
    tokens = context.tokens(rows)
    scores = reference_scorers.rouge_l(tokens.references, tokens.captions)
    return [Scored("rouge_l", *scores, rows)]
