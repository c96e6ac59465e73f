"""How long captions are and how much they differ from each other; references do not count.

A captioner that says the same of every region may score well and still be of no use; these numbers
show it. Words are what `words` cuts: lower case, punctuation left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sca_bench.errors import NotComputed
from sca_bench.formats.texts import nfc
from sca_bench.metrics.caption_text.wholes import CASE
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # noqa: RUF001 - an apostrophe joins


def _spec(name: str, summary: str, **facts: Any) -> MetricSpec:
    """Return a metric of which neither more nor less is better."""
    words = "NFC, lower case, runs of letters, digits and apostrophes"
    usual = {"scorer": f"sca_bench {name}", "tokenizer": words, "level": "corpus"}
    usual |= {"compute": f"{__name__}:{name}"}
    more: dict[str, Any] = {**usual, **facts}
    return MetricSpec(name, summary, name, package="", higher_is_better=None, **more)


SPECS = (
    _spec(
        "caption_length",
        "Mean number of words in a caption; words",
        report_scale=1.0,
        unit="words",
        level="region",
    ),
    _spec(
        "distinct_1",
        "Distinct words / all words of all captions; 0-1",
        compute=f"{__name__}:distinct",
        scorer="sca_bench distinct (n=1, over all captions)",
        label="Distinct-1",
    ),
    _spec(
        "distinct_2",
        "Distinct pairs of words / all pairs of all captions; 0-1",
        compute=f"{__name__}:distinct",
        scorer="sca_bench distinct (n=2, over all captions)",
        label="Distinct-2",
    ),
    _spec(
        "distinct_captions",
        "Number of different captions / number of captions; 0-1",
        tokenizer=CASE,
    ),
    _spec(
        "vocabulary_size",
        "Number of different words in all captions; words",
        report_scale=1.0,
        unit="words",
    ),
)


def words(caption: str) -> list[str]:
    """Return the words of a caption: NFC, lower case, runs of letters, digits, apostrophes."""
    return _WORD.findall(nfc(caption).lower())


def caption_length(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Mean number of words of a caption; an empty caption has none."""
    lengths = [float(len(words(row.caption))) for row in rows]
    return [Scored(context.name, sum(lengths) / len(lengths), lengths, rows)]


def distinct(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Different n-grams / all n-grams of all captions together: `distinct_1`, `distinct_2`.

    It falls with the number of captions, so only systems on the same regions compare. A single
    region has no such value.

    Raises:
        NotComputed: No caption has n words.

    Source:
        Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models,
        NAACL 2016.
    """
    pairs = context.name.endswith("_2")
    grams: list[tuple[str, ...]] = []
    for row in rows:
        caption_words = words(row.caption)
        grams += pairwise(caption_words) if pairs else [(word,) for word in caption_words]
    if not grams:
        raise NotComputed(f"no caption has {2 if pairs else 1} words or more")
    return [Scored(context.name, len(set(grams)) / len(grams), [], rows)]


def distinct_captions(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Different captions / captions; case and runs of space make none different."""
    captions = {canonical(row.caption) for row in rows}
    return [Scored(context.name, len(captions) / len(rows), [], rows)]


def vocabulary_size(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Number of different words in all captions."""
    vocabulary = {word for row in rows for word in words(row.caption)}
    return [Scored(context.name, float(len(vocabulary)), [], rows)]
