"""The grammar of the rendered world's captions: writing them, and reading right and wrong ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sca_bench import scene_grammar

ANY_SLOTS = st.fixed_dictionaries(
    {slot: st.sampled_from(words) for slot, words in scene_grammar.WORDS.items()}
)


@given(ANY_SLOTS)
def test_a_caption_reads_back_as_its_slots(slots):
    caption = scene_grammar.make_caption(slots)
    assert scene_grammar.parse(caption) == scene_grammar.with_composite(slots)
    assert set(caption.split()) <= set(scene_grammar.VOCABULARY)


@given(st.lists(st.sampled_from((*scene_grammar.VOCABULARY, "cat", "", "of,")), max_size=14))
def test_any_words_can_be_read(words):
    found = scene_grammar.parse(" ".join(words))
    assert set(found) <= set(scene_grammar.SLOTS)
    for slot, value in found.items():
        if slot != scene_grammar.NEIGHBOUR:
            assert value in scene_grammar.WORDS[slot]


def test_the_example():
    slots = {
        "size": "small",
        "texture": "striped",
        "colour": "red",
        "shape": "cross",
        "relation": "left of",
        "neighbour_colour": "blue",
        "neighbour_shape": "circle",
    }
    caption = "a small striped red cross left of a blue circle"
    assert scene_grammar.make_caption(slots) == caption
    assert scene_grammar.parse(caption) == slots | {"neighbour": "blue circle"}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("", {}),
        ("a man is standing", {}),
        ("a red", {"colour": "red"}),
        ("Small Red Cross.", {"size": "small", "colour": "red", "shape": "cross"}),
        # Without a relation, what follows the first shape is the neighbour.
        (
            "a red cross a blue circle",
            {
                "colour": "red",
                "shape": "cross",
                "neighbour_colour": "blue",
                "neighbour_shape": "circle",
                "neighbour": "blue circle",
            },
        ),
        # Half a neighbour is no neighbour.
        (
            "a cross above a circle",
            {"shape": "cross", "relation": "above", "neighbour_shape": "circle"},
        ),
        ("above a blue", {"relation": "above", "neighbour_colour": "blue"}),
        # The first word of a kind counts, and a neighbour has no size or texture.
        ("a red green cross", {"colour": "red", "shape": "cross"}),
        (
            "a cross below a large dotted red red blue square",
            {
                "shape": "cross",
                "relation": "below",
                "neighbour_colour": "red",
                "neighbour_shape": "square",
                "neighbour": "red square",
            },
        ),
    ],
)
def test_wrong_captions_fill_what_they_say(caption, expected):
    assert scene_grammar.parse(caption) == expected


@pytest.mark.parametrize("bad", [{}, {"colour": "pink"}])
def test_a_caption_needs_every_slot(bad):
    good = {slot: words[0] for slot, words in scene_grammar.WORDS.items()}
    with pytest.raises(ValueError, match="slot"):
        scene_grammar.make_caption((good | bad) if bad else {})
