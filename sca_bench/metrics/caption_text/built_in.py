"""The package's own metrics as computations (`sca_bench.metrics.protocol`)."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.errors import NotComputed
from sca_bench.metrics.caption_text import exact_match as matches
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow

WITHOUT = matches.WITHOUT


def exact_match(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Exact match; asked for as `exact_match_without_PHRASE`, over the regions without it.

    Raises:
        NotComputed: Every region has that phrase.
    """
    if not context.name.startswith(WITHOUT):
        return [matches.exact_match(rows)]
    phrase = context.name.removeprefix(WITHOUT).replace("_", " ")
    return [matches.exact_match_without(rows, phrase, context.name)]


def macro_recall(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Exact match averaged over distinct reference phrases."""
    return [matches.macro_recall(rows)]


def slot_accuracy(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Accuracy of every slot, see `exact_match.slot_accuracy`.

    Raises:
        NotComputed: No row carries slots, or a row names a slot the grammar does not know.
    """
    return matches.slot_accuracy(rows)


def own_detections(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Refuse: dense captioning scores a captioner's own detections.

    Raises:
        NotComputed: Always.
    """
    raise NotComputed("it scores detections, not given regions: score FILE --regions FILE")
