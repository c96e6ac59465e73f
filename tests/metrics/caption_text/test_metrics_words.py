"""Words, whole captions and slots at their edges: nothing, one, ties, case, other letters."""

import pytest

from sca_bench.errors import NotComputed
from sca_bench.metrics.caption_text.diversity import (
    SPECS,
    caption_length,
    distinct,
    distinct_captions,
    vocabulary_size,
    words,
)
from sca_bench.metrics.caption_text.slots import slot_accuracy
from sca_bench.metrics.caption_text.wholes import mean
from sca_bench.metrics.protocol import Context
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.shared import Shared


def rows_of(*captions):
    return [CaptionRow(str(n), "i", caption, ("x",)) for n, caption in enumerate(captions)]


@pytest.fixture
def context():
    def named(name):
        return Context(name=name, shared=Shared(), images=None, memory={})

    return named


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("", []),
        (" ,. _ !", []),
        ("A Red-Dog's ball", ["a", "red", "dog's", "ball"]),
        ("a_b 3 cars", ["a", "b", "3", "cars"]),
        ("it\u2019s 'quoted'", ["it\u2019s", "quoted"]),
        ("CAFE\u0301", ["caf\u00e9"]),
    ],
)
def test_words(caption, found):
    assert words(caption) == found


def test_lengths_diversity_and_vocabulary_by_hand(context):
    rows = rows_of("a red dog", "A red  DOG", "", "a cat")
    (length,) = caption_length(rows, context("caption_length"))
    assert (length.value, list(length.per_region)) == (2.0, [3.0, 3.0, 0.0, 2.0])
    assert distinct(rows, context("distinct_1"))[0].value == 4 / 8
    assert distinct(rows, context("distinct_2"))[0].value == 3 / 5
    assert distinct_captions(rows, context("distinct_captions"))[0].value == 3 / 4
    assert vocabulary_size(rows, context("vocabulary_size"))[0].value == 4.0


@pytest.mark.parametrize(
    ("name", "captions", "said"),
    [
        ("distinct_1", ["", "!"], "no caption has 1 words or more"),
        ("distinct_2", ["dog", "cat"], "no caption has 2 words or more"),
    ],
)
def test_a_share_of_nothing_is_not_computed(context, name, captions, said):
    with pytest.raises(NotComputed, match=said):
        distinct(rows_of(*captions), context(name))


def test_what_a_report_is_told_of_them():
    specs = {spec.name: spec for spec in SPECS}
    assert list(specs) == [
        "caption_length",
        "distinct_1",
        "distinct_2",
        "distinct_captions",
        "vocabulary_size",
    ]
    for name, spec in specs.items():
        counted = name in ("caption_length", "vocabulary_size")
        assert (spec.report_scale, spec.unit) == ((1.0, "words") if counted else (100.0, ""))
        assert spec.level == ("region" if name == "caption_length" else "corpus")
        assert spec.higher_is_better is None
        assert spec.is_own
        assert spec.package == ""
        function = "distinct" if name in ("distinct_1", "distinct_2") else name
        assert spec.compute == f"sca_bench.metrics.caption_text.diversity:{function}"


def test_a_mean_needs_a_region():
    assert mean("key", [0.0, 1.0, 1.0, 1.0], rows_of(*"abcd")).value == 0.75
    with pytest.raises(NotComputed, match="key: there are no regions"):
        mean("key", [], [])


def slotted(number, image, caption, **slots):
    return CaptionRow(str(number), image, caption, ("x",), slots)


def test_slots_by_number_of_objects_by_hand():
    """Image one holds two regions, image two one that carries slots and two that carry none."""
    rows = [
        slotted(0, "one", "a small red circle", size="small", colour="red", shape="circle"),
        slotted(1, "one", "a large blue square", size="large", colour="red", shape="square"),
        slotted(2, "two", "a green circle", colour="green", shape="square"),
        CaptionRow("3", "two", "a green circle", ("x",)),
        CaptionRow("4", "two", "a green circle", ("x",)),
    ]
    found = {one.key: (one.value, len(one.rows)) for one in slot_accuracy(rows)}
    assert found["slots"] == (pytest.approx((1 + 2 / 3 + 1 / 2) / 3), 3)
    assert found["slot/colour"] == (pytest.approx(2 / 3), 3)
    assert found["slot_by_objects/2/colour"] == (0.5, 2)
    assert found["slot_by_objects/3/colour"] == (1.0, 1)
    assert found["slot_by_objects/2/mean_of_slots"] == (pytest.approx(5 / 6), 2)
    assert found["slot_by_objects/3/mean_of_slots"] == (0.5, 1)
    assert found["slot/size"] == (1.0, 2)
    assert "slot_by_objects/3/size" not in found
    assert "slot_by_objects/1/colour" not in found


def test_slots_need_rows_that_carry_known_ones():
    with pytest.raises(NotComputed, match="no row carries slots"):
        slot_accuracy(rows_of("a red circle"))
    with pytest.raises(NotComputed, match="region 0: unknown slot 'color'; did you mean colour"):
        slot_accuracy([slotted(0, "one", "a red circle", color="red")])
