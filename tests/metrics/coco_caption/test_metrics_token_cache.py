"""Tokens from the cache equal those of all captions in one go."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sca_bench.metrics.coco_caption import token_cache as module
from sca_bench.metrics.coco_caption.java import find_java
from sca_bench.metrics.coco_caption.ptb_tokenizer import ptb_tokenize
from sca_bench.metrics.coco_caption.token_cache import TokenCache

ODD = [
    *("", " ", "a dog", "A dog.", "a\u2028b", "a\r\nb", "tab\there", "a\x00b", "\ud800 lone", "😀"),
    *(
        "a ||| b",
        "|||",
        "'quoted'",
        '"double"',
        "``x''",
        "it's",
        "dogs'",
        "...",
        "?!",
        "(a)",
        "<br>",
    ),
    *("the U.S.", "at 5 p.m.", "e.g.", "Mr.", "a, etc.", "1/2", "$5", "555-1234", "a & b", "é日本"),
]
# The tokenizer keeps or drops these dots by what the next line begins with.
OPEN = ["letter a.", "B.", "b. c.", "see fig.", "No.", "nos.", "pp.", "art.", "the '90sno.", "L.A."]
NEXT = ["A dog", "5 dogs", "a dog", "<b>", "", "'s", "1/2"]


def test_equal_to_one_go_in_any_order(java):
    cache, rng = TokenCache(), random.Random(0)
    captions = [*ODD, *OPEN * 6, *NEXT * 6]
    for _ in range(4):
        rng.shuffle(captions)
        half = len(captions) // 2
        whole = ptb_tokenize(java, captions)
        assert cache.tokenize(java, captions) == [whole]
        parts = [captions[:half], captions[half:]]
        assert cache.tokenize(java, *parts) == [ptb_tokenize(java, part) for part in parts]
    for caption in OPEN[:4]:
        for end in ([], [""], ["", " "]):
            captions = [*end, caption, *end]
            assert cache.tokenize(java, captions) == [ptb_tokenize(java, captions)]


@pytest.mark.parametrize("caption", ["letter a.", "see fig.", "no.", "'90sno."])
def test_the_next_caption_decides_on_some_dots(caption, java):
    """Why a caption is not always its own key; pycocoevalcap's scores depend on this as well."""
    found = {ptb_tokenize(java, [caption, after])[0] for after in NEXT}
    assert len(found) == 2


CHARACTERS = st.one_of(
    st.sampled_from(list("aAbB12 .,;:!?'\"`-()[]{}<>&/\\|@#$%*_é日😀\u200b\ufeff\xad\u2028\r\x0b")),
    st.sampled_from(["U.S.", "Inc.", "...", "can't", "|||", "1/2", "<br>", "fig.", " no.", " x."]),
    st.characters(),
)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(CHARACTERS, max_size=8).map("".join), min_size=150, max_size=300),
    st.randoms(use_true_random=False),
)
def test_random_text_in_two_orders(java, captions, rng):
    cache = TokenCache()
    for _ in range(2):
        captions = [*captions, *rng.choices(NEXT, k=30)]
        rng.shuffle(captions)
        assert cache.tokenize(java, captions) == [ptb_tokenize(java, captions)]


def test_coco(example_rows, java):
    captions = [text for row in example_rows for text in (*row.references, row.caption)]
    assert TokenCache().tokenize(java, captions) == [ptb_tokenize(java, captions)]


def test_only_new_captions_are_sent(monkeypatch):
    sent = []
    monkeypatch.setattr(
        module,
        "ptb_tokenize",
        lambda java, lines, _: sent.append(lines) or [t.upper() for t in lines],
    )
    cache = TokenCache(most=3)
    assert cache.tokenize(find_java(), ["a", "b", "a"], ["b", "c"]) == [["A", "B", "A"], ["B", "C"]]
    assert cache.tokenize(find_java(), ["c", "a\u2028b"]) == [["C", "A B"]]
    assert cache.tokenize(find_java(), ["a b", "a\tb"]) == [["A B", "A B"]]
    assert sent[:3] == [["a", "b", "c"], ["a b"], []]
    assert len(cache) == 3
    assert cache.tokenize(find_java(), ["a", "b", "c", "d", "e"]) == [["A", "B", "C", "D", "E"]]
    assert len(cache) == 3
