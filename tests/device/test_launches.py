"""A small step launches what was recorded; `count_launches.py` counts at the paper's size."""

import json

import pytest

from device.count_launches import BARS, MAIN, RECORDED, count_small, faults

KEPT = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("counting")
def test_a_small_step_launches_what_was_recorded():
    """More launches are a slower step; `count_launches.py --renew` records what is meant."""
    assert count_small() == KEPT["small"]


def test_what_was_recorded_at_the_papers_size_keeps_to_the_bars():
    assert faults(KEPT["now"], KEPT) == []


def test_a_count_that_is_not_the_recorded_one_is_named():
    moved = json.loads(json.dumps(KEPT["now"]))
    moved[MAIN]["launches"] = KEPT["before"][MAIN]["launches"]
    said = faults(moved, KEPT)
    assert len(said) == 2
    assert said[0].startswith(f"{MAIN}: launches ")
    assert said[1].endswith(f"at most {BARS['launches']} are wanted")


def test_the_code_before_was_counted_as_the_sheet_of_arithmetic_did():
    """4,563 launches and 491 GB were counted by other code, with attention's result copied once."""
    before = KEPT["before"][MAIN]
    assert before["launches"] == pytest.approx(4_563, rel=0.05)
    assert before["gb"] == pytest.approx(491, rel=0.05)
