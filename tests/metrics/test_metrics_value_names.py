import pytest

from sca_bench.errors import InputError
from sca_bench.metrics.registry import get_metric, spec_of_value, values_of
from sca_bench.metrics.value_names import (
    SEEN,
    SLOT,
    SLOT_BY_OBJECTS,
    TRAIN,
    ValueName,
    signature_name,
)
from sca_bench.study.suite.suite import OTHER_PARTS

NAMES = {
    "cider_d": ValueName("cider_d"),
    "mine.precision": ValueName("mine.precision"),
    "slots": ValueName("slots"),
    "slot/neighbour_shape": ValueName("slots", "neighbour_shape"),
    "slot_by_objects/3/colour": ValueName("slots", "colour", 3),
    "slot_by_objects/12/mean_of_slots": ValueName("slots", "mean_of_slots", 12),
    "train/exact_match": ValueName("exact_match", part="train"),
    "one_per_image/slot/colour": ValueName("slots", "colour", part="one_per_image"),
    "part/slot_by_objects/2/colour": ValueName("slots", "colour", 2, "part"),
    "a/b/cider_d": ValueName("cider_d", part="a/b"),
    "slot/": ValueName("slot/"),
    "slot_by_objects/many/colour": ValueName("slot_by_objects/many/colour"),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_taken_apart_and_put_together_again(text):
    assert ValueName.parse(text) == NAMES[text]
    assert str(NAMES[text]) == text


def test_whole():
    assert str(ValueName.parse("seen/slot/colour").whole) == "slot/colour"


@pytest.mark.parametrize(
    ("name", "signed"),
    [
        ("cider_d", "cider_d"),
        ("slots", "slots"),
        ("slot/colour", "slots.colour"),
        ("slot/neighbour_shape", "slots.neighbour_shape"),
        ("slot_by_objects/3/colour", "slots.colour.objects_3"),
        ("slot_by_objects/3/mean_of_slots", "slots.objects_3"),
    ],
)
def test_signatures_spell_slots_as_the_first_release(name, signed):
    assert signature_name(name) == signed


def test_no_subset_can_be_called_what_names_begin_with():
    assert {TRAIN, SEEN, SLOT.strip("/"), SLOT_BY_OBJECTS.strip("/")} <= set(OTHER_PARTS)


@pytest.mark.parametrize("name", ["slot/colour", "seen/slot/colour", "slot_by_objects/2/colour"])
def test_slots_are_of_one_metric_and_none_themselves(name):
    assert spec_of_value(name) is get_metric("slots")
    with pytest.raises(InputError, match="is unknown"):
        get_metric(name)


def test_a_phrase_with_a_slash_is_still_a_phrase():
    assert get_metric("exact_match_without_his/her") is get_metric("exact_match")


def test_bleu_means_four_values():
    assert values_of("bleu") == ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
    assert values_of("bleu_2") == ("bleu_2",)
