"""ROUGE-L of many captions at once: longest common subsequences, a machine word per pair."""

from __future__ import annotations

from typing import cast

import numpy as np

from sca_bench.metrics.coco_caption.ngrams import Encoded, Floats, Ints, spread

BETA = 1.2
_WORD_BITS = 64
_CELLS = 1 << 20  # Padded words held at once, 8 bytes each.


def rouge_l(precision: Floats, recall: Floats) -> Floats:
    """Return ROUGE-L from the highest precision and the highest recall over references.

    The two may come from different references, as in pycocoevalcap.

    Source: Lin, ROUGE, ACL workshop 2004.
    """
    below = recall + BETA**2 * precision
    above = (1 + BETA**2) * precision * recall
    return np.divide(above, below, out=np.zeros_like(above), where=above != 0)


def common_lengths(a: Encoded, a_of: Ints, b: Encoded, b_of: Ints) -> Ints:
    """Return the length of the longest common subsequence of each pair.

    Args:
        a: Captions in numbers.
        a_of: (pairs,) which of `a`.
        b: Captions in the same numbers.
        b_of: (pairs,) which of `b`.

    Source: Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    a_lengths, b_lengths = a.lengths[a_of], b.lengths[b_of]
    shorter, longer = np.minimum(a_lengths, b_lengths), np.maximum(a_lengths, b_lengths)
    lengths = np.zeros(len(a_of), dtype=np.int64)
    for pair in np.flatnonzero(shorter > _WORD_BITS):
        lengths[pair] = _long(_words(a, a_of[pair]), _words(b, b_of[pair]))
    pairs = np.flatnonzero(shorter <= _WORD_BITS)
    pairs = pairs[np.argsort(-longer[pairs], kind="stable")]  # The first of a block is the widest.
    while len(pairs):
        block, pairs = np.split(pairs, [max(1, _CELLS // max(int(longer[pairs[0]]), _WORD_BITS))])
        for left, left_of, right, right_of in ((a, a_of, b, b_of), (b, b_of, a, a_of)):
            mine = block[a_lengths[block] <= b_lengths[block]] if left is a else block
            if len(mine):
                short, long = _padded(left, left_of[mine], -1), _padded(right, right_of[mine], -2)
                lengths[mine] = _block(short, long)
            block = block[a_lengths[block] > b_lengths[block]]
    return lengths


def _block(short: Ints, long: Ints) -> Ints:
    """Return common lengths of padded rows: a bit of a word per place of the short side.

    A cleared bit is a place where the length grows by one; each word of the long side moves them.
    """
    num_pairs, width = short.shape
    bits = np.full(num_pairs, np.iinfo(np.uint64).max, dtype="<u8")
    equal = np.zeros((num_pairs, _WORD_BITS // 8), dtype=np.uint8)
    for column in range(long.shape[1]):
        packed = np.packbits(short == long[:, column, None], axis=1, bitorder="little")
        equal[:, : packed.shape[1]] = packed
        here = bits & equal.view("<u8")[:, 0]
        bits = (bits + here) | (bits - here)
    by_byte = bits.view(np.uint8).reshape(num_pairs, _WORD_BITS // 8)
    cleared = np.unpackbits(~by_byte, axis=1, bitorder="little")
    return cast(Ints, cleared[:, :width].sum(axis=1, dtype=np.int64))


def _long(a: list[int], b: list[int]) -> int:
    """Return the common length of one pair of any size, in one big integer."""
    masks: dict[int, int] = {}
    for position, word in enumerate(a):
        masks[word] = masks.get(word, 0) | 1 << position
    full = (1 << len(a)) - 1
    bits = full
    for word in b:
        here = bits & masks.get(word, 0)
        bits = ((bits + here) | (bits - here)) & full
    return len(a) - bits.bit_count()


def _words(encoded: Encoded, caption: int) -> list[int]:
    return list(map(int, encoded.words[encoded.starts[caption] : encoded.starts[caption + 1]]))


def _padded(encoded: Encoded, of: Ints, padding: int) -> Ints:
    owner, word_index = spread(encoded.starts, of)
    lengths = encoded.lengths[of]
    padded = np.full((len(of), max(int(lengths.max()), 1)), padding, dtype=np.int64)
    padded[owner, word_index - np.repeat(encoded.starts[of], lengths)] = encoded.words[word_index]
    return padded
