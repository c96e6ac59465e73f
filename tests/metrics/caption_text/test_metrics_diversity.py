import pytest

from sca_bench.metrics.caption_text.diversity import words
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer

NAMES = ("caption_length", "distinct_1", "distinct_2", "distinct_captions", "vocabulary_size")


def _score(*captions):
    rows = [CaptionRow(str(n), "i", caption, ("x",)) for n, caption in enumerate(captions)]
    with Scorer() as scorer:
        return scorer.score(rows, NAMES)


@pytest.mark.parametrize(
    ("captions", "values"),
    [
        # 3 + 3 + 4 words, 6 different; pairs: a red, red dog (2 times), a blue, blue dog, s dog
        (("a red dog", "A  Red DOG", "a blue dog's dog"), (10 / 3, 5 / 10, 5 / 7, 2 / 3, 5)),
        (("the man",), (2, 1, 1, 1, 2)),
        (("the the the",), (3, 1 / 3, 1 / 2, 1, 1)),
        (("", "a b"), (1, 1, 1, 1, 2)),
    ],
)
def test_by_hand(captions, values):
    found = _score(*captions)
    assert [found.values[name] for name in NAMES] == pytest.approx(values)
    assert list(found.per_region) == ["caption_length"]


def test_words():
    assert words("A man's T-shirt, no. 7!") == ["a", "man's", "t", "shirt", "no", "7"]
    assert words("snake_case 'quoted' \u2014") == ["snake", "case", "quoted"]


def test_captions_without_words_have_no_diversity():
    found = _score("", "!?")
    assert found.values["caption_length"] == found.values["vocabulary_size"] == 0
    assert found.not_computed["distinct_1"] == "no caption has 1 words or more"
    assert found.not_computed["distinct_2"] == "no caption has 2 words or more"
    assert _score("a", "b").not_computed.keys() == {"distinct_2"}


def test_two_spellings_in_unicode_are_one_word():
    """Apart, an accent would end its word, and the same caption be counted twice."""
    composed, apart = "the caf\u00e9", "the cafe\u0301"
    assert words(composed) == words(apart) == ["the", "caf\u00e9"]
    rows = [CaptionRow(str(k), "i", text, ("x",)) for k, text in enumerate((composed, apart))]
    with Scorer() as scorer:
        found = scorer.score(rows, ["distinct_captions", "vocabulary_size", "distinct_1"]).values
    assert found == {"distinct_captions": 0.5, "vocabulary_size": 2.0, "distinct_1": 0.5}
