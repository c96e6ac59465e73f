"""N-grams of many captions as integers, counted by sorting.

A caption's words become integers, and an n-gram's integer comes from that of its first n - 1 words
and its last word; so two n-grams are equal exactly where their integers are, no hash involved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_WORDS = 4
# An n-gram's key holds its last word in the low bits; words no reference has begin half way up.
_WORD_BITS = 31
_OTHER_SPACE = re.compile(r"[^\S \n]")
_UNKNOWN = 1 << (_WORD_BITS - 1)


class Vocabulary(dict[str, int]):
    """Words by number; a word asked for by `[]` is numbered if it is new."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True, slots=True)
class Encoded:
    """Captions as numbers.

    Attributes:
        words: Word numbers of all captions, one after another.
        starts: (captions + 1,); caption c's words stand at `starts[c]` to `starts[c + 1]`.
    """

    words: Ints
    starts: Ints

    @property
    def lengths(self) -> Ints:
        """Words of each caption."""
        return np.diff(self.starts)


def encode(
    captions: Iterable[str], vocabulary: Vocabulary, separator: str | None, grow: bool
) -> Encoded:
    """Return captions as numbers.

    Args:
        captions: Tokenised captions.
        vocabulary: The words known; with `grow`, new ones are added.
        separator: What `str.split` cuts at: None (any run of white space, as for n-grams) or a
            space (as for ROUGE-L, where an empty caption is one empty word).
        grow: False gives new words numbers that hold for this call only, above all others.
    """
    lines = [caption.split(separator) for caption in captions]
    starts = np.zeros(len(lines) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=starts[1:])
    if grow:
        numbers = [vocabulary[word] for line in lines for word in line]
    else:
        get, new = vocabulary.get, Vocabulary()
        numbers = [get(word, -1) for line in lines for word in line]
        if -1 in numbers:
            flat = (word for line in lines for word in line)
            pairs = zip(numbers, flat, strict=True)
            numbers = [n if n >= 0 else _UNKNOWN + new[word] for n, word in pairs]
    return Encoded(np.array(numbers, dtype=np.int64), starts)


def is_plain(captions: Collection[str]) -> bool:
    """Say whether captions are cut up alike at any run of white space and at single spaces.

    That is so where single spaces between words are all there is, and no caption is empty.
    """
    text = "\n".join(captions)
    edges = f"\n{text}\n"
    odd = any(pair in edges for pair in ("  ", "\n ", " \n", "\n\n"))
    return not odd and text.count("\n") == len(captions) - 1 and not _OTHER_SPACE.search(text)


def spread(starts: Ints, of: Ints) -> tuple[Ints, Ints]:
    """Lay out the entries of chosen groups one after another.

    Args:
        starts: (groups + 1,); group g's entries stand at `starts[g]` to `starts[g + 1]`.
        of: Chosen groups, in any order, repeated ones among them.

    Returns:
        For each entry laid out, which choice it belongs to, and its place.
    """
    lengths = starts[of + 1] - starts[of]
    owner = np.repeat(np.arange(len(of)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(lengths.sum()) + np.repeat(starts[of] - before, lengths)


def total(owners: Ints, values: Floats, size: int) -> Floats:
    """Return the sum of each owner's values, (size,)."""
    return np.bincount(owners, weights=values, minlength=size).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Counted:
    """The n-grams of one length of many captions, each with its count.

    Attributes:
        starts: (captions + 1,); caption c's n-grams stand at `starts[c]` to `starts[c + 1]`.
        grams: Number of each n-gram, ascending within a caption.
        counts: How often the caption has it.
    """

    starts: Ints
    grams: Ints
    counts: Ints


@dataclass(frozen=True, slots=True)
class NgramTable:
    """The n-grams of one length that the references hold.

    Attributes:
        keys: Sorted keys; an n-gram's number is its place. None for n = 1: words are numbered.
        size: Number of n-grams.
    """

    keys: Ints | None
    size: int

    def numbers(self, keys: Ints) -> Ints:
        """Return n-gram numbers; those of n-grams that no reference holds begin at `size`."""
        if self.keys is None:
            return np.where(keys >= _UNKNOWN, keys - _UNKNOWN + self.size, keys)
        if not self.size:
            return np.unique(keys, return_inverse=True)[1].astype(np.int64)
        numbers = np.searchsorted(self.keys, keys)
        unknown = self.keys[np.minimum(numbers, self.size - 1)] != keys
        if unknown.any():
            numbers[unknown] = self.size + np.unique(keys[unknown], return_inverse=True)[1]
        return numbers


def count_references(encoded: Encoded, num_words: int) -> list[tuple[NgramTable, Counted]]:
    """Number and count the references' n-grams, n = 1 to 4."""
    numbers = encoded.words.copy()
    counted = []
    for n in range(1, MOST_WORDS + 1):
        positions, owners = _ngram_positions(encoded, n)
        if n == 1:
            table = NgramTable(None, num_words)
        else:
            keys, numbers[positions] = np.unique(
                _keys(encoded, numbers, positions, n), return_inverse=True
            )
            table = NgramTable(keys, len(keys))
        counted.append(
            (table, _count(owners, numbers[positions], table.size, len(encoded.lengths)))
        )
    return counted


def count_captions(encoded: Encoded, tables: Iterable[NgramTable]) -> list[Counted]:
    """Count the n-grams of captions, n = 1 to 4, in the references' numbers."""
    numbers = encoded.words.copy()
    counted = []
    for n, table in enumerate(tables, start=1):
        positions, owners = _ngram_positions(encoded, n)
        keys = numbers[positions] if n == 1 else _keys(encoded, numbers, positions, n)
        numbers[positions] = table.numbers(keys)
        size = int(numbers[positions].max(initial=0)) + 1
        counted.append(_count(owners, numbers[positions], size, len(encoded.lengths)))
    return counted


def _ngram_positions(encoded: Encoded, n: int) -> tuple[Ints, Ints]:
    """Return where an n-gram begins, and the caption it is in."""
    owners = np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
    positions = np.flatnonzero(encoded.starts[owners + 1] - np.arange(len(owners)) >= n)
    return positions, owners[positions]


def _keys(encoded: Encoded, numbers: Ints, positions: Ints, n: int) -> Ints:
    return (numbers[positions] << _WORD_BITS) | encoded.words[positions + n - 1]


def _count(owners: Ints, grams: Ints, size: int, num_captions: int) -> Counted:
    keys, counts = np.unique(owners * size + grams, return_counts=True)
    starts = np.searchsorted(keys, np.arange(num_captions + 1) * size)
    return Counted(starts, keys % max(size, 1), counts)
