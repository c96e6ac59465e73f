import pytest

from sca_bench.engine.scoring import _name, expected_keys


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cider_d", "cider_d"),
        ("slots", "slots"),
        ("slots.colour", "slot/colour"),
        ("slots.neighbour_shape", "slot/neighbour_shape"),
        ("slots.colour.objects_3", "slot_by_objects/3/colour"),
        ("slots.objects_3", "slot_by_objects/3/mean_of_slots"),
    ],
)
def test_names_of_slot_values(key, name):
    assert _name(key) == name


def test_bleu_means_four_scores():
    assert expected_keys("bleu") == ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
    assert expected_keys("bleu_2") == ("bleu_2",)
