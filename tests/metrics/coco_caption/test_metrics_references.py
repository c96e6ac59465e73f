"""CIDEr-D, BLEU and ROUGE-L of all captions at once against pycocoevalcap's own classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption import references as module
from sca_bench.metrics.coco_caption.ptb_tokenizer import ptb_tokenize, ptb_tokenize_groups
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.coco_caption.row_cache import RowMemo

# Few words, so that n-grams meet; some that no reference has; white space that `split` cuts at.
WORDS = st.sampled_from(["a", "b", "ab", "dog", "|||", "é", "日本"])
STRANGE = st.sampled_from(["a", "b", "qqq", "zz", "", "\t", "a\u2003b", "\x1f", "a\nb"])
REFERENCES = st.lists(WORDS, max_size=9).map(" ".join)
CAPTIONS = st.lists(WORDS | STRANGE, max_size=9).map(" ".join)
CORPORA = st.lists(
    st.tuples(CAPTIONS, st.lists(REFERENCES | CAPTIONS, min_size=1, max_size=4)),
    min_size=1,
    max_size=8,
)


def compare(references, captions, index=None):
    index = index or ReferenceIndex(references)
    try:
        value, per_region = reference_scorers.cider_d(references, captions)
    except NotComputed:
        with pytest.raises(NotComputed, match="no reference holds a word"):
            index.cider_d(captions)
    else:
        found, found_per_region = index.cider_d(captions)
        assert found == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(found_per_region, per_region, rtol=0, atol=1e-9)
    values, per_region = reference_scorers.bleu(references, captions)
    found, found_per_region, statistics = index.bleu(captions)
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found_per_region.T, per_region, rtol=0, atol=1e-9)
    assert statistics.shape == (len(captions), 10)
    value, per_region = reference_scorers.rouge_l(references, captions)
    found, found_per_region = index.rouge_l(captions)
    assert found == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(found_per_region, per_region, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rows", ["example_rows", "further_rows"])
def test_coco(rows, request, java):
    rows = request.getfixturevalue(rows)
    references = ptb_tokenize_groups(java, [row.references for row in rows])
    captions = ptb_tokenize(java, [row.caption for row in rows])
    index = ReferenceIndex(references)
    compare(references, captions, index)
    compare(references, captions[::-1], index)


DEGENERATE = {
    "empty caption": (["a dog", "a cat"], ["", "a cat"]),
    "empty references": (["", ""], ["a", ""]),
    "everything empty": ([""], [""]),
    "one region": (["a red dog"], ["a red dog"]),
    "same references": (["a dog"] * 3, ["a dog", "a", "dogs"]),
    "unknown words": (["a dog", "b"], ["qqq zz qqq qqq", "zz zz"]),
    "control characters": (["a\x00b dog", "a\x1cb"], ["a\x00b", "a b\x1cc"]),
    "separators": (["a ||| dog", "|||"], ["||| dog", "a |||"]),
    "punctuation": ([", . !", "a ;"], [", .", ";"]),
    "repeated words": (["a a a b", "dog"], ["a a a a a", "dog dog dog dog"]),
    "very long": (["a b c " * 900, "dog " * 70], ["c b a " * 800, "dog cat " * 65]),
    "long beside short": (["a " * 64 + "b", "a b"], ["b " + "a " * 63, "a b " * 500]),
    "spaces": (["a  b ", " "], [" a", "  "]),
    "line separators": (["a\u2028b", "a b"], ["a b", "a\u2028b"]),
}


@pytest.mark.usefixtures("corpora")
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate(name):
    references, captions = DEGENERATE[name]
    compare([[text] for text in references], captions)
    groups = [[text, "", "a dog", text] for text in references]
    groups[0] = groups[0][:2]
    compare(groups, captions)


@pytest.mark.parametrize("seed", range(6))
def test_small_corpora(seed):
    """Twelve regions with one to three references; repeated words, unknown words, one word."""
    rng = np.random.default_rng(seed)
    words = [f"w{n}" for n in range(6)]

    def text(vocabulary):
        return " ".join(rng.choice(vocabulary, rng.integers(1, 9)))

    references = [[text(words) for _ in range(rng.integers(1, 4))] for _ in range(12)]
    captions = [text([*words, "new", "newer"]) for _ in range(11)]
    compare(references, [references[0][-1], *captions])


@pytest.mark.usefixtures("corpora")
@settings(max_examples=400, deadline=None)
@given(CORPORA)
def test_random_corpora(corpus):
    compare([group for _, group in corpus], [caption for caption, _ in corpus])


@pytest.mark.usefixtures("corpora")
@settings(max_examples=60, deadline=None)
@given(CORPORA, st.data())
def test_second_system_on_the_same_index(corpus, data):
    references = [group for _, group in corpus]
    index = ReferenceIndex(references)
    compare(references, [caption for caption, _ in corpus], index)
    others = data.draw(st.permutations([caption for caption, _ in corpus]))
    compare(references, others, index)


@pytest.mark.usefixtures("corpora")
@settings(max_examples=60, deadline=None)
@given(CORPORA)
def test_blocks_and_memory_move_nothing(corpus):
    references, captions = [group for _, group in corpus], [caption for caption, _ in corpus]
    whole = ReferenceIndex(references).scores(captions)
    index = ReferenceIndex(references)
    index._memo = RowMemo(12, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 1)
        parts = index.scores(captions)
        again = index.scores(captions)
    for name in ("cider_d", "bleu", "rouge_l"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(getattr(parts, name), expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(getattr(again, name), getattr(parts, name))


def test_what_was_scored_is_not_scored_again(monkeypatch):
    seen, block = [], ReferenceIndex._block
    monkeypatch.setattr(
        ReferenceIndex, "_block", lambda self, g, c: seen.extend(c) or block(self, g, c)
    )
    references = [["a dog"], ["two cats", "cats"], ["a dog"]]
    index = ReferenceIndex(references)
    index.scores(["a dog", "a dog", "a dog"])
    assert seen == ["a dog", "a dog"], "regions 1 and 3 have the same references"
    index.scores(["a dog", "cats", "dogs"])
    index.bleu(["dogs", "a dog", "dogs"])
    assert seen[2:] == ["cats", "dogs"]


@pytest.mark.parametrize(
    ("references", "caption", "length"),
    [
        (["", "a"], "", 0),
        (["a", ""], "", 0),
        (["", "a b c"], "a", 0),
        (["a b", "a b c d"], "a b c", 2),  # of two as near the shorter
        (["a b c d", "a b"], "a b c", 2),
        (["a b c d", "a"], "a b c", 4),
        (["a b c d e", "a b c"], "a b c", 3),
    ],
)
def test_the_length_of_the_closest_reference(references, caption, length):
    _, _, statistics = ReferenceIndex([references, ["x"]]).bleu([caption, "x"])
    assert statistics[0, :2].tolist() == [len(caption.split()), length]


def test_faults():
    with pytest.raises(ValueError, match="no references"):
        ReferenceIndex([["a"], []])
    with pytest.raises(ValueError, match="2 reference groups, 1 captions"):
        ReferenceIndex([["a"], ["b"]]).scores(["a"])
