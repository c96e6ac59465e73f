"""References indexed once, against which any number of systems' captions are scored.

Scores are those of pycocoevalcap's Cider (CIDEr-D), Bleu and Rouge, computed for all captions at
once; `sca_bench.metrics.coco_caption.reference_scorers` calls the originals.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import bleu, cider, rouge
from sca_bench.metrics.coco_caption.ngrams import (
    MOST_WORDS,
    Counted,
    Encoded,
    Floats,
    Ints,
    NgramTable,
    Vocabulary,
    count_captions,
    count_references,
    encode,
    is_plain,
    spread,
    total,
)
from sca_bench.metrics.coco_caption.row_cache import RowMemo

# Captions against their references that are kept: 100 bytes and a key each, about 100 MiB.
_KEPT_PAIRS = 400_000
_BLOCK = 16_384  # Pairs computed at once: keeps the memory of a large set near 100 MiB.
_CIDER, _BLEU, _ROUGE = 0, slice(1, 1 + bleu.STATISTICS), 1 + bleu.STATISTICS


@dataclass(frozen=True, slots=True)
class TextScores:
    """What was counted of one caption per region; all arrays are in the order of the regions.

    Attributes:
        cider_d: (regions,), 0-10.
        bleu: (regions, 10), statistics for `sca_bench.metrics.coco_caption.bleu.bleu_scores`.
        rouge_l: (regions,), 0-1.
    """

    cider_d: Floats
    bleu: Floats
    rouge_l: Floats


@dataclass(frozen=True, slots=True)
class _Level:
    """The references' n-grams of one length."""

    table: NgramTable
    counted: Counted
    keys: Ints  # caption * table.size + n-gram, sorted
    idf: Floats
    norms: Floats

    def find(self, captions: Ints, grams: Ints) -> Ints:
        """Return how often each caption has each n-gram."""
        if not len(self.keys):
            return np.zeros(len(grams), dtype=np.int64)
        wanted = captions * self.table.size + grams
        indices = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        is_known = (self.keys[indices] == wanted) & (grams < self.table.size)
        return np.where(is_known, self.counted.counts[indices], 0)


class ReferenceIndex:
    """The references of a set of regions: words, n-grams, document frequencies and norms.

    A caption that was scored against a group of references is not scored again, in whatever region
    or call it comes up; the newest 400,000 are kept.

    Args:
        references: Tokenised references of each region, at least one each; one document per
            region, also where an image has many.

    Raises:
        ValueError: A region has no reference.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if not all(references):
            raise ValueError("a region has no references")
        numbers: dict[tuple[str, ...], int] = {}
        groups = [numbers.setdefault(tuple(group), len(numbers)) for group in references]
        self._group_of: list[int] = groups
        captions: dict[str, int] = {}
        members = [captions.setdefault(text, len(captions)) for group in numbers for text in group]
        self._sizes = np.fromiter(map(len, numbers), np.int64, len(numbers))
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        self._members = np.array(members, dtype=np.int64)
        self._words = self._lines = Vocabulary()
        self._encoded = self._spaced = encode(captions, self._words, None, grow=True)
        if not is_plain(captions):
            self._lines = Vocabulary()
            self._spaced = encode(captions, self._lines, " ", grow=True)
        weights = np.bincount(np.array(groups, dtype=np.int64), minlength=len(numbers))
        counted = count_references(self._encoded, len(self._words))
        self._levels = [self._level(*pair, weights) for pair in counted]
        self._memo = RowMemo(2 + bleu.STATISTICS, _KEPT_PAIRS)

    @property
    def has_words(self) -> bool:
        """Whether any reference holds a word."""
        return bool(self._words)

    def scores(self, captions: Sequence[str]) -> TextScores:
        """Score one tokenised caption per region.

        Raises:
            ValueError: There are more or fewer captions than regions.
        """
        if len(captions) != len(self._group_of):
            raise ValueError(f"{len(self._group_of)} reference groups, {len(captions)} captions")
        keys: list[Hashable] = list(zip(self._group_of, captions, strict=True))

        def compute(indices: list[int]) -> Floats:
            chosen = [indices[at : at + _BLOCK] for at in range(0, len(indices), _BLOCK)]
            parts = [
                self._block(
                    np.array([self._group_of[index] for index in block], dtype=np.int64),
                    [captions[index] for index in block],
                )
                for block in chosen
            ]
            return np.concatenate(parts)

        rows = self._memo.rows(keys, compute)
        return TextScores(rows[:, _CIDER], rows[:, _BLEU], rows[:, _ROUGE])

    def cider_d(self, captions: Sequence[str]) -> tuple[float, Floats]:
        """Return CIDEr-D (n 1-4, sigma 6), document frequencies from the references, 0-10.

        Returns:
            The mean over regions and the regions' values; all 0 with a single region.

        Raises:
            NotComputed: No reference holds a word, so there is no document frequency.

        Source: Vedantam et al., CIDEr, CVPR 2015.
        """
        if not self.has_words:
            raise NotComputed("CIDEr-D: no reference holds a word after tokenisation")
        values = self.scores(captions).cider_d
        return float(values.mean()), values

    def bleu(self, captions: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """Return BLEU-1 to BLEU-4, closest reference length.

        Returns:
            (4,) corpus values; (regions, 4) sentence values, whose mean is not the corpus value;
            (regions, 10) statistics, whose sum gives the corpus values.
        """
        statistics = self.scores(captions).bleu
        return bleu.bleu_scores(statistics.sum(axis=0)), bleu.bleu_scores(statistics), statistics

    def rouge_l(self, captions: Sequence[str]) -> tuple[float, Floats]:
        """Return ROUGE-L (beta 1.2): the mean over regions and the regions' values."""
        values = self.scores(captions).rouge_l
        return float(values.mean()), values

    def _level(self, table: NgramTable, counted: Counted, weights: Ints) -> _Level:
        """Add document frequencies: regions, not captions, that have an n-gram."""
        size, num_captions = table.size, len(self._encoded.lengths)
        owners, indices = spread(counted.starts, self._members)
        groups = np.repeat(np.arange(len(self._sizes)), self._sizes)[owners]
        documents = np.sort(groups * size + counted.grams[indices])
        first = np.ones(len(documents), dtype=bool)
        first[1:] = documents[1:] != documents[:-1]
        of, grams = np.divmod(documents[first], max(size, 1))
        frequencies = total(grams, weights[of].astype(np.float64), size)
        idf = cider.inverse_frequencies(frequencies.astype(np.int64), len(self._group_of))
        norms = cider.norms(counted, counted.counts * idf[counted.grams])
        keys = np.repeat(np.arange(num_captions), np.diff(counted.starts)) * size + counted.grams
        return _Level(table, counted, keys, idf, norms)

    def _block(self, groups: Ints, captions: list[str]) -> Floats:
        """Score captions, each against one group of references: (captions, 12)."""
        rows = np.zeros((len(groups), 2 + bleu.STATISTICS))
        distinct: dict[str, int] = {}
        of = np.array([distinct.setdefault(text, len(distinct)) for text in captions])
        encoded = encode(distinct, self._words, None, grow=False)
        statistics = rows[:, _BLEU]
        lengths = encoded.lengths[of]
        statistics[:, 0] = lengths
        statistics[:, 1] = self._closest_lengths(groups, lengths)
        tables = [level.table for level in self._levels]
        for n, (level, counted) in enumerate(
            zip(self._levels, count_captions(encoded, tables), strict=True), start=1
        ):
            statistics[:, 1 + n] = np.maximum(0, lengths - n + 1)
            similarity, correct = self._overlap(level, counted, groups, of, lengths)
            statistics[:, 1 + MOST_WORDS + n] = correct
            rows[:, _CIDER] += similarity
        rows[:, _CIDER] *= cider.SCALE / MOST_WORDS / self._sizes[groups]
        if self._lines is not self._words or not is_plain(distinct):
            encoded = encode(distinct, self._lines, " ", grow=False)
        rows[:, _ROUGE] = self._rouge(groups, encoded, of)
        return rows

    def _references(self, groups: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Yield (which captions, reference) for every group's first reference, second, ..."""
        for number in range(int(self._sizes[groups].max())):
            chosen = np.flatnonzero(self._sizes[groups] > number)
            yield chosen, self._members[self._starts[groups[chosen]] + number]

    def _closest_lengths(self, groups: Ints, lengths: Ints) -> Ints:
        """Return the reference length closest to the caption's, the shorter one of two."""
        closest = np.full(len(groups), -1, dtype=np.int64)
        for chosen, references in self._references(groups):
            new, old, own = self._encoded.lengths[references], closest[chosen], lengths[chosen]
            nearer = abs(new - own) < abs(old - own)
            shorter = (abs(new - own) == abs(old - own)) & (new < old)
            closest[chosen] = np.where((old < 0) | nearer | shorter, new, old)
        return closest

    def _overlap(
        self, level: _Level, counted: Counted, groups: Ints, of: Ints, lengths: Ints
    ) -> tuple[Floats, Floats]:
        """Return CIDEr-D's similarity, summed over references, and BLEU's matches."""
        # An n-gram that no reference has weighs most.
        unknown = np.full(1, np.log(np.float64(len(self._group_of))))
        all_idf: Floats = np.concatenate([level.idf, unknown])
        idf = all_idf[np.minimum(counted.grams, level.table.size)]
        caption_norms = cider.norms(counted, counted.counts * idf)
        owners, indices = spread(counted.starts, of)
        grams, counts, weights = counted.grams[indices], counted.counts[indices], idf[indices]
        most = np.zeros(len(owners), dtype=np.int64)
        similarity = np.zeros(len(groups))
        for chosen, references in self._references(groups):
            reference_of = np.full(len(groups), -1, dtype=np.int64)
            reference_of[chosen] = references
            here = np.flatnonzero(reference_of[owners] >= 0)
            other = level.find(reference_of[owners[here]], grams[here])
            most[here] = np.maximum(most[here], other)
            weight = weights[here]
            products = np.minimum(counts[here] * weight, other * weight) * (other * weight)
            summed = total(owners[here], products, len(groups))[chosen]
            cosines = cider.cosine(summed, caption_norms[of[chosen]], level.norms[references])
            bigrams = np.maximum(0, lengths[chosen] - 1)
            difference = bigrams - np.maximum(0, self._encoded.lengths[references] - 1)
            similarity[chosen] += cosines * cider.length_penalty(difference)
        matches = np.minimum(most, counts).astype(np.float64)
        return similarity, total(owners, matches, len(groups))

    def _rouge(self, groups: Ints, spaced: Encoded, of: Ints) -> Floats:
        precision, recall = np.zeros(len(groups)), np.zeros(len(groups))
        for chosen, references in self._references(groups):
            common = rouge.common_lengths(spaced, of[chosen], self._spaced, references)
            share = common / spaced.lengths[of[chosen]]
            precision[chosen] = np.maximum(precision[chosen], share)
            share = common / self._spaced.lengths[references]
            recall[chosen] = np.maximum(recall[chosen], share)
        return rouge.rouge_l(precision, recall)
