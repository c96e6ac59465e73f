"""Marking words of captions: right or wrong where regions have slots, and what two differ in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from sca_bench.formats.texts import nfc

Grade = Literal["", "right", "wrong"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption, or some that are marked alike.

    Attributes:
        text: The word.
        grade: Whether it is right; empty for words that fill no slot.
        differs: Whether the caption beside it lacks it.
    """

    text: str
    grade: Grade = ""
    differs: bool = False

    @property
    def marks(self) -> str:
        """Its marks as a page names them."""
        return " ".join(filter(None, (self.grade, "differs" if self.differs else "")))


def joined(words: Iterable[Word]) -> list[Word]:
    """Return words with neighbours of the same marks in one."""
    runs = groupby(words, key=lambda word: (word.grade, word.differs))
    return [Word(" ".join(word.text for word in run), *marks) for marks, run in runs]


def compare_words(one: Sequence[Word], other: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """Mark the words of two captions that the other lacks in that place, by the fewest edits."""
    kept = _aligned(*([_plain(word.text) for word in words] for words in (one, other)))
    left, right = (
        [replace(word, differs=not same) for word, same in zip(words, alike, strict=True)]
        for words, alike in zip((one, other), kept, strict=True)
    )
    return left, right


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
    aligned, _ = _aligned([_plain(w) for w in words], _words(reference))
    return [
        Word(text, ("right" if hit else "wrong") if _plain(text) in vocabulary else "")
        for text, hit in zip(words, aligned, strict=True)
    ]


def _plain(word: str) -> str:
    return nfc(word).strip(".,;:!?\"'").lower()


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]


def _aligned(one: Sequence[str], other: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Return for each word of two texts whether a shortest edit script keeps it."""
    rows, columns = len(one) + 1, len(other) + 1
    cost = [[i + j if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            change = cost[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            cost[i][j] = min(change, cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    kept = [False] * len(one), [False] * len(other)
    i, j = len(one), len(other)
    while i and j:
        same = one[i - 1] == other[j - 1]
        if cost[i][j] == cost[i - 1][j - 1] + (not same):
            kept[0][i - 1] = kept[1][j - 1] = same
            i, j = i - 1, j - 1
        elif cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return kept
