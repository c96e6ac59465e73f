"""Scores without a tokenizer: exact match and macro recall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sca_bench.errors import NotComputed, near_name
from sca_bench.metrics.caption_text.wholes import CASE, mean
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

WITHOUT = "exact_match_without_"
SPECS = (
    MetricSpec(
        "exact_match",
        "Share of captions equal to a reference; 0-1; exact_match_without_PHRASE leaves regions "
        "with that reference out",
        "exact_match",
        "sca_bench exact_match",
        package="",
        tokenizer=CASE,
        compute=f"{__name__}:compute_exact_match",
        prefix=WITHOUT,
        of_training=True,
    ),
    MetricSpec(
        "macro_recall",
        "Exact match averaged over distinct reference phrases; 0-1",
        "macro_recall",
        "sca_bench macro_recall",
        package="",
        tokenizer=CASE,
        compute=f"{__name__}:compute_macro_recall",
        of_training=True,
    ),
)


def compute_exact_match(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Exact match; asked for as `exact_match_without_PHRASE`, over the regions without it.

    Raises:
        NotComputed: Every region has that phrase.
    """
    if not context.name.startswith(WITHOUT):
        return [exact_match(rows)]
    phrase = context.name.removeprefix(WITHOUT).replace("_", " ")
    return [exact_match_without(rows, phrase, context.name)]


def compute_macro_recall(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Exact match averaged over distinct reference phrases."""
    return [macro_recall(rows)]


def exact_match(rows: Sequence[CaptionRow], key: str = "exact_match") -> Scored:
    """Share of captions equal to one of their references, but for case and runs of space.

    Raises:
        NotComputed: No rows.
    """
    return mean(key, [float(_is_right(row)) for row in rows], rows)


def exact_match_without(rows: Sequence[CaptionRow], phrase: str, key: str = "") -> Scored:
    """Exact match over the regions that have no reference equal to `phrase`.

    A phrase that names half the regions (such as `person`) makes exact match easy. Where no region
    has it, a note says so and names the nearest phrase.

    Raises:
        NotComputed: Every region has that reference.
    """
    left_out = canonical(phrase)
    others = [row for row in rows if left_out not in map(canonical, row.references)]
    if not others:
        raise NotComputed(f"every region has the reference {phrase!r}")
    key = key or _without(left_out)
    scored = exact_match(others, key)
    if len(others) < len(rows):
        return scored
    known = {canonical(reference) for row in rows for reference in row.references}
    near = near_name(left_out, known)
    note = f"{key}: no region has the reference {phrase!r}, so it is exact_match of all regions"
    return replace(scored, notes=(note + (f"; did you mean {_without(near)}?" if near else ""),))


def _without(phrase: str) -> str:
    return WITHOUT + phrase.replace(" ", "_")


def macro_recall(rows: Sequence[CaptionRow]) -> Scored:
    """Mean over distinct reference phrases of the share of their regions that are right.

    A region with several references counts for each of its phrases, and is right if its caption
    equals any of them. The regions' values are the weighted hits whose mean is the macro recall
    (a region weighs more the rarer its phrase), so a bootstrap over them keeps the weights fixed.

    Raises:
        NotComputed: No rows.
    """
    phrases = [sorted({canonical(reference) for reference in row.references}) for row in rows]
    regions_of = Counter(phrase for group in phrases for phrase in group)
    scale = len(rows) / max(1, len(regions_of))
    values = [
        scale * _is_right(row) * sum(1 / regions_of[phrase] for phrase in group)
        for row, group in zip(rows, phrases, strict=True)
    ]
    return mean("macro_recall", values, rows)


def _is_right(row: CaptionRow) -> bool:
    caption = canonical(row.caption)
    return any(caption == canonical(reference) for reference in row.references)
