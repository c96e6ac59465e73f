"""CIDEr-D, what papers print as CIDEr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

SPEC = MetricSpec(
    "cider_d",
    "CIDEr-D, what papers print as CIDEr; 0-10",
    "cider_d",
    "pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6)",
    document_frequency="the references scored, one document per region",
    compute=f"{__name__}:cider_d",
    reference=f"{__name__}:by_pycocoevalcap",
    doubts=f"{__name__}:doubts",
    maximum=10.0,
    label="CIDEr-D",
    requires=(JAVA,),
)
_BESIDE = ("meteor", "rouge_l", "bleu_1")
"""Values that lie far above zero where captions are good, whatever the document frequencies."""


def cider_d(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """CIDEr-D over the references of all rows, one document per region.

    Raises:
        NotComputed: No reference holds a word, or there is no Java.

    Source: Vedantam et al., CIDEr, CVPR 2015.
    """
    tokens = context.tokens(rows)
    value, per_region = tokens.index.cider_d(tokens.captions)
    return [Scored("cider_d", value, per_region.tolist(), rows)]


def by_pycocoevalcap(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """The same by pycocoevalcap's own class."""
    tokens = context.tokens(rows)
    scores = reference_scorers.cider_d(tokens.references, tokens.captions)
    return [Scored("cider_d", *scores, rows)]


def doubts(values: Mapping[str, float | None], rows: Sequence[CaptionRow]) -> list[str]:
    """Return why CIDEr-D says little of these rows; nothing where it does."""
    own = values.get("cider_d")
    if own is not None and len(rows) == 1:
        return ["cider_d: one region only, so every word's weight is log 1 = 0"]
    if own is not None and own < 0.01:
        for other in _BESIDE:
            if (values.get(other) or 0.0) > 0.1:
                return [
                    f"cider_d is {own:.4f} while {other} is {values[other]:.3f}: are the "
                    "references the right ones, and do they differ from region to region?"
                ]
    return []
