"""The thin wrappers: hand-computed values, and the scorers' own classes on random text."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import reference_scorers

WORDS = st.sampled_from(["a", "red", "dog", "cat", "left", "of", "qqq"])
CAPTIONS = st.lists(WORDS, max_size=7).map(" ".join)
SYSTEMS = st.lists(st.tuples(CAPTIONS, st.lists(CAPTIONS, min_size=1, max_size=3)), min_size=1)


def test_bleu_by_hand():
    """`the the dog` against `the dog ran off`: 2 of 3 words, 1 of 2 pairs, brevity e^(1-4/3)."""
    values, per_region = reference_scorers.bleu([["the dog ran off"]], ["the the dog"])
    brevity = math.exp(1 - 4 / 3)
    assert values[0] == pytest.approx(brevity * 2 / 3, abs=1e-6)
    assert values[1] == pytest.approx(brevity * math.sqrt(2 / 3 * 1 / 2), abs=1e-6)
    assert values[2] == pytest.approx(0, abs=1e-4)
    assert [row[0] for row in per_region] == pytest.approx(values)


def test_rouge_by_hand():
    """Common subsequence `a dog`: precision 2/3, recall 2/4, beta 1.2."""
    value, per_region = reference_scorers.rouge_l([["a red dog ran"], ["x"]], ["a big dog", "y"])
    f = (1 + 1.44) * (2 / 3) * (1 / 2) / (1 / 2 + 1.44 * 2 / 3)
    assert per_region == pytest.approx([f, 0])
    assert value == pytest.approx(f / 2)


def test_cider_by_hand():
    """Two regions, idf log 2 for every n-gram: 10 for equal captions of four words, 0 for none."""
    references = [["a b c d"], ["e f g h"]]
    value, per_region = reference_scorers.cider_d(references, ["a b c d", "x y z w"])
    assert per_region == pytest.approx([10, 0])
    assert value == pytest.approx(5)
    # `a b` for `a b c d`: cosine 2/sqrt(2*4) and 1/sqrt(1*3), two bigrams shorter, sigma 6.
    _, (short, _) = reference_scorers.cider_d(references, ["a b", "x"])
    cosines = 2 / math.sqrt(8) + 1 / math.sqrt(3)
    assert short == pytest.approx(10 * cosines / 4 * math.exp(-(2**2) / (2 * 36)))


def test_cider_needs_a_word():
    with pytest.raises(NotComputed, match="no reference holds a word"):
        reference_scorers.cider_d([["", " "], [""]], ["a", "b"])


@settings(max_examples=60, deadline=None)
@given(SYSTEMS)
def test_equal_to_pycocoevalcap(pairs):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    # Ids that sort in another order than the regions stand in.
    groups = {-index: group for index, group in enumerate(references)}
    captions = {-index: [caption] for index, caption in enumerate(hypotheses)}
    assert reference_scorers.bleu(references, hypotheses) == Bleu(4).compute_score(
        groups, captions, verbose=0
    )
    value, per_region = Rouge().compute_score(groups, captions)
    assert reference_scorers.rouge_l(references, hypotheses) == (value, per_region.tolist())
    if any(reference for group in references for reference in group):
        value, per_region = Cider().compute_score(groups, captions)
        assert reference_scorers.cider_d(references, hypotheses) == (value, per_region.tolist())


@settings(max_examples=30, deadline=None)
@given(SYSTEMS.filter(lambda pairs: any(any(pair[1]) for pair in pairs)))
def test_reversed_rows_give_reversed_values(pairs):
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for scorer in (reference_scorers.cider_d, reference_scorers.rouge_l):
        value, per_region = scorer(references, hypotheses)
        backwards, backwards_per_region = scorer(references[::-1], hypotheses[::-1])
        assert backwards == pytest.approx(value, abs=1e-12)
        assert backwards_per_region[::-1] == pytest.approx(per_region, abs=1e-12)
