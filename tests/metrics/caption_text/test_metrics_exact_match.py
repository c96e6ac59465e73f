import unicodedata

import pytest

from sca_bench import scene_grammar
from sca_bench.errors import NotComputed
from sca_bench.metrics.caption_text.exact_match import (
    exact_match,
    exact_match_without,
    macro_recall,
)
from sca_bench.metrics.caption_text.slots import slot_accuracy
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.rows import CaptionRow

RIGHT = "a small striped red cross left of a blue circle"


def _row(region, image, caption, *references, slots=None):
    return CaptionRow(region, image, caption, references, slots or {})


def test_exact_match_forgives_case_and_space_only():
    rows = [
        _row("1", "i", " A  Dog\u2028", "a dog"),
        _row("2", "i", "a dog.", "a dog"),
        _row("3", "i", "cat", "dog", "CAT"),
        _row("4", "i", "", "x"),
    ]
    scored = exact_match(rows)
    assert scored.per_region == [1.0, 0.0, 1.0, 0.0]
    assert scored.value == 0.5


def test_exact_match_without_a_phrase():
    rows = [_row(str(n), "i", "person", "Person") for n in range(8)]
    rows += [_row("8", "i", "person", "red car"), _row("9", "i", "red car", "red car")]
    assert exact_match(rows).value == pytest.approx(0.9)
    scored = exact_match_without(rows, "person")
    assert (scored.key, scored.value, len(scored.rows)) == ("exact_match_without_person", 0.5, 2)
    with pytest.raises(NotComputed, match="every region"):
        exact_match_without(rows[:8], "PERSON")


@pytest.mark.parametrize(
    ("phrase", "near"),
    [
        ("perosn", "; did you mean exact_match_without_person?"),
        ("red cra", "; did you mean exact_match_without_red_car?"),
        ("zebra", ""),
    ],
)
def test_a_phrase_that_no_region_has_is_said(phrase, near):
    rows = [_row("1", "i", "person", "Person"), _row("2", "i", "cat", "red car")]
    scored = exact_match_without(rows, phrase)
    assert (scored.value, len(scored.rows)) == (0.5, 2)
    key = "exact_match_without_" + phrase.replace(" ", "_")
    note = f"{key}: no region has the reference {phrase!r}, so it is exact_match of all regions"
    assert scored.notes == (note + near,)
    assert exact_match_without(rows, "person").notes == ()


def test_macro_recall_weighs_phrases_alike():
    rows = [_row(str(n), "i", "person", "person") for n in range(8)]
    rows += [_row("8", "i", "person", "car"), _row("9", "i", "dog", "dog")]
    scored = macro_recall(rows)
    assert scored.value == pytest.approx((1 + 0 + 1) / 3)
    assert sum(scored.per_region) / 10 == pytest.approx(scored.value)
    assert scored.per_region[9] == pytest.approx(10 / 3)
    assert scored.per_region[0] == pytest.approx(10 / 24)


def test_macro_recall_with_several_references():
    """Phrases a (regions 1, 2), b (region 1); region 1 is right, region 2 is not."""
    rows = [_row("1", "i", "b", "a", "b"), _row("2", "i", "b", "a")]
    assert macro_recall(rows).value == pytest.approx((1 / 2 + 1 / 1) / 2)


def test_slots_by_hand():
    slots = scene_grammar.parse(RIGHT)
    half = "a large dotted red cross left of a blue square"  # 4 of 7; the neighbour is wrong
    rows = [
        _row("1", "two", RIGHT, RIGHT, slots=slots),
        _row("2", "two", half, RIGHT, slots=slots),
        _row("3", "three", "zzyzx", RIGHT, slots=slots),
        _row("4", "three", "", RIGHT, slots=slots),
        _row("5", "three", RIGHT.upper() + " .", RIGHT, slots=slots),
    ]
    scored = {one.key: one for one in slot_accuracy(rows)}
    assert scored["slots"].per_region == pytest.approx([1, 4 / 7, 0, 0, 1])
    assert scored["slots"].value == pytest.approx((1 + 4 / 7 + 0 + 0 + 1) / 5)
    assert scored["slot_by_objects/2/mean_of_slots"].value == pytest.approx((1 + 4 / 7) / 2)
    assert scored["slot_by_objects/3/mean_of_slots"].value == pytest.approx(1 / 3)
    assert scored["slot/colour"].per_region == [1, 1, 0, 0, 1]
    assert scored["slot/neighbour"].per_region == [1, 0, 0, 0, 1]
    assert scored["slot_by_objects/2/neighbour"].value == 0.5
    assert scored["slot_by_objects/3/relation"].value == pytest.approx(1 / 3)
    assert set(scored) == {
        key
        for slot in ("mean_of_slots", *scene_grammar.SLOTS)
        for key in (
            "slots" if slot == "mean_of_slots" else f"slot/{slot}",
            f"slot_by_objects/2/{slot}",
            f"slot_by_objects/3/{slot}",
        )
    }


def test_neighbour_is_added_where_a_row_names_its_parts_only():
    slots = {"neighbour_colour": "blue", "neighbour_shape": "circle"}
    scored = {
        one.key: one.value for one in slot_accuracy([_row("1", "i", RIGHT, "x", slots=slots)])
    }
    assert scored["slot/neighbour"] == 1.0


def test_rows_without_slots_do_not_count():
    rows = [_row("1", "i", RIGHT, RIGHT, slots={"colour": "red"}), _row("2", "i", "a", "a")]
    scored = {one.key: one for one in slot_accuracy(rows)}
    assert len(scored["slots"].rows) == 1
    assert "slot_by_objects/2/mean_of_slots" in scored, (
        "the image holds two regions, one of them without slots"
    )
    assert "slot/shape" not in scored
    with pytest.raises(NotComputed, match="no row carries slots"):
        slot_accuracy(rows[1:])


def test_unknown_slot():
    with pytest.raises(NotComputed, match="unknown slot 'color'; did you mean colour"):
        slot_accuracy([_row("1", "i", RIGHT, RIGHT, slots={"color": "red"})])


COMPOSED, APART = "un caf\u00e9 \u00c5", "un cafe\u0301 A\u030a"


def test_two_spellings_in_unicode_are_one_text():
    assert COMPOSED != APART
    rows = [_row("1", "i", APART, COMPOSED), _row("2", "j", COMPOSED.upper(), "x", APART)]
    assert exact_match(rows).per_region == [1.0, 1.0]
    assert macro_recall(rows).value == pytest.approx((1 + 1) / 2)
    others = [*rows, _row("3", "k", "a", "a")]
    assert len(exact_match_without(others, APART).rows) == 1


@pytest.mark.parametrize("text", ["\u1e9e", "\u0130x", "\u0345\u0301", "\uac01", "\u1100\u1161"])
def test_what_is_compared_has_one_form(text):
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    assert len({canonical(spelling) for spelling in spellings}) == 1
    assert canonical(canonical(text)) == canonical(text)
