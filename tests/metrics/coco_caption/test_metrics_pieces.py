"""The pieces of CIDEr-D, BLEU, ROUGE-L and METEOR, each by hand or against a few plain lines."""

import math
from collections import Counter

import numpy as np
import pytest

from sca_bench.metrics.coco_caption import cider, meteor_formula, rouge
from sca_bench.metrics.coco_caption.bleu import bleu_scores
from sca_bench.metrics.coco_caption.ngrams import (
    NgramTable,
    Vocabulary,
    count_captions,
    count_references,
    encode,
    is_plain,
    spread,
    total,
)


def encoded(captions, vocabulary=None, separator=None, grow=True):
    known = Vocabulary() if vocabulary is None else vocabulary
    return encode(captions, known, separator, grow)


# --- n-grams ----------------------------------------------------------------------------------


def test_words_are_numbered_as_they_come():
    vocabulary = Vocabulary()
    found = encoded(["a b a", "", "c"], vocabulary)
    assert found.words.tolist() == [0, 1, 0, 2]
    assert found.starts.tolist() == [0, 3, 3, 4]
    assert found.lengths.tolist() == [3, 0, 1]
    assert vocabulary == {"a": 0, "b": 1, "c": 2}
    assert found.words.dtype == found.starts.dtype == np.int64


def test_new_words_of_captions_get_numbers_of_their_own_above_all_known_ones():
    vocabulary = Vocabulary({"a": 0, "b": 1})
    found = encoded(["x a y", "y b x"], vocabulary, grow=False)
    x, a, y, again_y, b, again_x = found.words.tolist()
    assert (a, b) == (0, 1)
    assert (x, y) == (again_x, again_y)
    assert x != y
    assert min(x, y) >= 1 << 30
    assert vocabulary == {"a": 0, "b": 1}
    assert encoded(["a b"], vocabulary, grow=False).words.tolist() == [0, 1]
    assert encoded(["x b"], vocabulary, grow=False).words.tolist() == [1 << 30, 1]  # without an a


def test_an_empty_caption_is_no_word_or_one_empty_word():
    assert encoded(["", "a"]).lengths.tolist() == [0, 1]
    assert encoded(["", "a"], separator=" ").lengths.tolist() == [1, 1]
    assert encoded([]).starts.tolist() == [0]


@pytest.mark.parametrize(
    ("captions", "plain"),
    [
        (["a"], True),
        (["a b", "c"], True),
        (["a b", "c d e", "f"], True),
        (["a  b"], False),
        ([" a"], False),
        (["a "], False),
        (["a", " b"], False),
        (["a ", "b"], False),
        ([""], False),
        (["a", ""], False),
        (["", "a"], False),
        (["a", "", "b"], False),
        (["a\tb"], False),
        (["a\u00a0b"], False),
        (["a\nb"], False),
        (["a\nb", "c"], False),
    ],
)
def test_plain_captions_are_cut_up_alike_at_any_space(captions, plain):
    assert is_plain(captions) == plain
    if plain:
        assert all(caption.split() == caption.split(" ") for caption in captions)


def test_groups_are_laid_out_in_the_order_chosen():
    starts = np.array([0, 2, 2, 5])
    owner, place = spread(starts, np.array([2, 0, 1, 2]))
    assert owner.tolist() == [0, 0, 0, 1, 1, 3, 3, 3]
    assert place.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    owner, place = spread(starts, np.array([], dtype=np.int64))
    assert (owner.size, place.size) == (0, 0)


def test_totals_of_owners():
    owners, values = np.array([2, 0, 2]), np.array([1.5, 1.0, 2.0])
    assert total(owners, values, 4).tolist() == [1.0, 0.0, 3.5, 0.0]
    assert total(owners[:0], values[:0], 2).tolist() == [0.0, 0.0]


def test_words_that_no_reference_has_are_numbered_behind_the_others():
    unknown = 1 << 30
    keys = np.array([3, unknown, 0, unknown + 2])
    assert NgramTable(None, 5).numbers(keys).tolist() == [3, 5, 0, 7]
    table = NgramTable(np.array([10, 20, 30]), 3)
    assert table.numbers(np.array([20, 25, 30, 5, 99, 25])).tolist() == [1, 4, 2, 3, 5, 4]
    assert NgramTable(np.array([], dtype=np.int64), 0).numbers(np.array([7, 4, 7])).tolist() == [
        1,
        0,
        1,
    ]


def counts_of(counted, caption):
    own = slice(counted.starts[caption], counted.starts[caption + 1])
    return sorted(counted.counts[own].tolist())


@pytest.mark.parametrize(
    "captions",
    [
        ["a b a b a", "b a", "", "a"],
        ["c a b a b", "x y x y x y", "a"],
        ["", ""],
        ["a b c d e f", "f e d c b a"],
    ],
)
def test_ngrams_are_counted_as_a_counter_counts_them(captions):
    references = ["a b a b c", "b", "", "c d"]
    vocabulary = Vocabulary()
    tables = count_references(encoded(references, vocabulary), len(vocabulary))
    assert len(tables) == 4

    def ngrams(text, n):
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    known = [{g for text in references for g in ngrams(text, n)} for n in (1, 2, 3, 4)]
    of_captions = count_captions(
        encoded(captions, vocabulary, grow=False), [table for table, _ in tables]
    )
    for n, (table, of_references) in enumerate(tables, 1):
        assert table.size == len(known[n - 1])
        for number, text in enumerate(references):
            assert counts_of(of_references, number) == sorted(ngrams(text, n).values())
        numbers: dict[tuple[str, ...], int] = {}
        for counted, texts in ((of_references, references), (of_captions[n - 1], captions)):
            for number, text in enumerate(texts):
                assert counts_of(counted, number) == sorted(ngrams(text, n).values())
                own = slice(counted.starts[number], counted.starts[number + 1])
                inside = [gram in known[n - 1] for gram in ngrams(text, n)]
                assert sum(counted.grams[own] < table.size) == sum(inside)
                if len(ngrams(text, n)) == 1:  # an n-gram has one number everywhere
                    (gram,) = ngrams(text, n)
                    assert numbers.setdefault(gram, counted.grams[own][0]) == counted.grams[own][0]


# --- ROUGE-L ----------------------------------------------------------------------------------


def common(a, b):
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


LENGTHS = (0, 1, 2, 7, 8, 9, 63, 64, 65, 66, 130)


@pytest.mark.parametrize("words", [2, 9, 400])
def test_common_lengths_of_captions_of_any_length(words, monkeypatch):
    """Around a machine word's 64 places, with words that only one side has."""
    rng = np.random.default_rng(words)
    a, b = (
        [[f"w{k}" for k in rng.integers(shift, words + shift, n)] for n in LENGTHS]
        for shift in (0, 1)
    )
    vocabulary = Vocabulary()
    left, right = (encoded(map(" ".join, side), vocabulary) for side in (a, b))
    a_of, b_of = map(np.ravel, np.indices((len(a), len(b))))
    expected = [common(a[i], b[j]) for i, j in zip(a_of, b_of, strict=True)]
    assert rouge.common_lengths(left, a_of, right, b_of).tolist() == expected
    monkeypatch.setattr(rouge, "_CELLS", 1)
    assert rouge.common_lengths(left, a_of, right, b_of).tolist() == expected
    order = rng.permutation(len(expected))
    shuffled = rouge.common_lengths(left, a_of[order], right, b_of[order])
    assert shuffled.tolist() == [expected[i] for i in order]
    assert rouge.common_lengths(left, a_of[:0], right, b_of[:0]).tolist() == []


def test_rouge_l_by_hand():
    """(1 + 1.44) P R / (R + 1.44 P); nothing in common is zero."""
    found = rouge.rouge_l(np.array([1.0, 0.5, 0.0, 0.25]), np.array([1.0, 0.25, 0.0, 1.0]))
    assert found.tolist() == pytest.approx([1.0, 0.305 / 0.97, 0.0, 0.61 / 1.36])


# --- CIDEr-D ----------------------------------------------------------------------------------


def test_rare_words_weigh_most_and_those_of_every_region_nothing():
    weights = cider.inverse_frequencies(np.array([0, 1, 2, 4]), 4)
    assert weights.tolist() == pytest.approx([math.log(4), math.log(4), math.log(2), 0.0])
    assert weights[3] == 0.0
    assert cider.inverse_frequencies(np.array([1]), 1).tolist() == [0.0]


def test_the_penalty_for_another_length():
    found = cider.length_penalty(np.array([0, 1, -1, 6, -12]))
    expected = [1.0, math.exp(-1 / 72), math.exp(-1 / 72), math.exp(-0.5), math.exp(-2)]
    assert found.tolist() == pytest.approx(expected)


def test_a_norm_of_zero_divides_nothing():
    products, one = np.array([6.0, 0.0, 0.0]), np.array([2.0, 0.0, 1.0])
    assert cider.cosine(products, one, np.array([3.0, 1.0, 0.0])).tolist() == [1.0, 0.0, 0.0]


def test_norms_of_captions_by_hand():
    vocabulary = Vocabulary()
    _, counted = count_references(encoded(["a b", "", "c"], vocabulary), 3)[0]
    found = cider.norms(counted, np.array([3.0, 4.0, 2.0]))
    assert found.tolist() == pytest.approx([5.0, 0.0, 2.0])


# --- BLEU -------------------------------------------------------------------------------------


def test_bleu_by_hand():
    """Six words of eight: precisions 3/6, 2/5, 1/4, 1/3; brevity exp(1 - 8/6)."""
    statistics = np.array([6.0, 8, 6, 5, 4, 3, 3, 2, 1, 1])
    precisions = np.cumprod([3 / 6, 2 / 5, 1 / 4, 1 / 3])
    brevity = math.exp(1 - 8 / 6)
    expected = [p ** (1 / n) * brevity for n, p in enumerate(precisions, 1)]
    assert bleu_scores(statistics).tolist() == pytest.approx(expected, rel=1e-6)
    longer = np.array([8.0, 6, 8, 7, 6, 5, 8, 7, 6, 5])  # no penalty for more words
    assert bleu_scores(longer).tolist() == pytest.approx([1.0] * 4, rel=1e-6)
    assert bleu_scores(np.stack([[statistics, longer]])).shape == (1, 2, 4)


# --- METEOR -----------------------------------------------------------------------------------


def statistics_of(words, function, content_hits, function_hits, chunks, matched):
    """The jar's 23 numbers, of one module's matches at a time."""
    row = np.zeros(23)
    row[0:4] = (*words, *function)
    for module, hits in content_hits.items():
        row[4 + 4 * module : 6 + 4 * module] = hits
    for module, hits in function_hits.items():
        row[6 + 4 * module : 8 + 4 * module] = hits
    row[20], row[21:23] = chunks, matched
    return row


def test_meteor_by_hand():
    """Five and six words, of which two and two are function words; exact and stem matches."""
    row = statistics_of((5, 6), (2, 2), {0: (1, 1), 1: (1, 1)}, {0: (1, 1)}, 2, (3, 3))
    length = (0.75 * 3 + 0.25 * 2, 0.75 * 4 + 0.25 * 2)
    matches = 0.75 * (1.0 * 1 + 0.6 * 1) + 0.25 * 1.0 * 1
    precision, recall = matches / length[0], matches / length[1]
    f_mean = 1 / (0.15 / precision + 0.85 / recall)
    expected = f_mean * (1 - 0.6 * (2 / 3) ** 0.2)
    assert float(meteor_formula.meteor_scores(row)) == pytest.approx(expected, rel=1e-12)
    assert meteor_formula.meteor_scores(np.stack([row, row])).tolist() == pytest.approx(
        [expected] * 2
    )


@pytest.mark.parametrize(("module", "weight"), [(0, 1.0), (1, 0.6), (2, 0.8), (3, 0.6)])
@pytest.mark.parametrize(("kind", "share"), [("content", 0.75), ("function", 0.25)])
def test_the_weight_of_each_kind_of_match(module, weight, kind, share):
    """Ten words a side, all of one kind, one match of one kind of module, no chunk."""
    hits = {module: (1, 1)}
    content, function = (hits, {}) if kind == "content" else ({}, hits)
    words = (10, 10) if kind == "function" else (0, 0)
    row = statistics_of((10, 10), words, content, function, 0, (1, 1))
    assert float(meteor_formula.meteor_scores(row)) == pytest.approx(weight * share / (10 * share))


def test_nothing_matched_is_zero_and_nothing_at_all_too():
    none = statistics_of((3, 4), (1, 1), {}, {}, 0, (0, 0))
    assert meteor_formula.meteor_scores(np.stack([none, np.zeros(23)])).tolist() == [0.0, 0.0]


def test_a_region_in_one_piece_has_no_chunk():
    whole = statistics_of((3, 3), (1, 1), {0: (2, 2)}, {0: (1, 1)}, 1, (3, 3))
    two = statistics_of((3, 3), (1, 1), {0: (2, 2)}, {0: (1, 1)}, 2, (3, 3))
    more = statistics_of((3, 4), (1, 1), {0: (2, 2)}, {0: (1, 1)}, 1, (3, 3))
    given = np.stack([whole, two, more])
    found = meteor_formula.summable(given)
    assert found[:, 20].tolist() == [0.0, 2.0, 1.0]
    assert given[0, 20] == 1.0  # what was given is left as it is
    assert np.array_equal(np.delete(found, 20, axis=1), np.delete(given, 20, axis=1))
    assert float(meteor_formula.meteor_scores(found)[0]) == pytest.approx(1.0)
