"""Grading the words of a caption as right or wrong, for data sets whose regions have slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sca_bench.formats.texts import nfc

Grade = Literal["", "right", "wrong"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption; `grade` is empty for words that fill no slot."""

    text: str
    grade: Grade = ""


def slot_vocabulary(slots: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Return every word that some region's slots hold."""
    return frozenset(w for each in slots for value in each.values() for w in _words(value))


def grade_words(caption: str, reference: str, vocabulary: frozenset[str]) -> list[Word]:
    """Grade the slot words of a caption by aligning it with its reference.

    The alignment takes the fewest edits, so a word is right only where the reference has it in
    the same part: in `a blue cross left of a red square` against `a red cross left of a blue
    square` both colours are wrong.

    Args:
        caption: What the model said.
        reference: The reference that the region's slots were read from.
        vocabulary: Words that count as slot words (`slot_vocabulary`); others stay ungraded.
    """
    words = caption.split()
    aligned = _matches([_plain(w) for w in words], _words(reference))
    return [
        Word(text, ("right" if hit else "wrong") if _plain(text) in vocabulary else "")
        for text, hit in zip(words, aligned, strict=True)
    ]


def _plain(word: str) -> str:
    return nfc(word).strip(".,;:!?\"'").lower()


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]


def _matches(caption: Sequence[str], truth: Sequence[str]) -> list[bool]:
    """Return for each said word whether a shortest edit script keeps it."""
    rows, columns = len(caption) + 1, len(truth) + 1
    cost = [[i + j if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            change = cost[i - 1][j - 1] + (caption[i - 1] != truth[j - 1])
            cost[i][j] = min(change, cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    matched = [False] * len(caption)
    i, j = len(caption), len(truth)
    while i and j:
        same = caption[i - 1] == truth[j - 1]
        if cost[i][j] == cost[i - 1][j - 1] + (not same):
            matched[i - 1] = same
            i, j = i - 1, j - 1
        elif cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return matched
