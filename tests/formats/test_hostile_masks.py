"""Masks that would take all memory, all time, or a crash of pycocotools: a reason each."""

import json
import time

import pytest

from sca_bench.formats.rle import read_mask

SQUARE = [5, 5, 30, 5, 30, 20, 5, 20]
TURNS = [value for _ in range(30_000) for value in (0, 0, 59, 39)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[1e9, 5, 30, 5, 30, 20]], "1000000000.0 is more than an image away"),
        ([[5, -1e9, 30, 5, 30, 20]], "more than an image away"),
        ([[10**400, 5, 30, 5, 30, 20]], "more than an image away"),
        ([[float("nan"), 5, 30, 5, 30, 20]], "finite numbers, found NaN"),
        ([[5, float("-inf"), 30, 5, 30, 20]], "finite numbers, found -Infinity"),
        ([[5, 5, 30, 5]], "at least 6 numbers, found 4"),
        ([[5, 5, 30, 5, 30, 20, 1]], "an even number"),
        ([["5", 5, 30, 5, 30, 20]], 'finite numbers, found "5"'),
        ([[True, 5, 30, 5, 30, 20]], "finite numbers, found true"),
        ([[[5, 5]] * 6], r"finite numbers, found \[5, 5\]"),
        ([SQUARE] * 10_001, "it holds 10,001 polygons, at most 10,000 are read"),
        ([TURNS], r"edges of \d,\d+,\d+ pixels in all, at most 2,000,000 are read"),
        ({"size": [40, 60], "counts": "0" * 2**25}, "run lengths of 33,554,432 characters"),
        ({"size": [40, 60], "counts": "\ud800é"}, "no run lengths"),
        ({"size": [40, 60], "counts": [2401]}, "2401 is no run length of 40 x 60"),
        ({"size": [40, 60], "counts": [10**30]}, "is no run length"),
        ({"size": [40, 60], "counts": [2399]}, "runs of 2399 pixels"),
        ({"size": [4_000_000, 60], "counts": [240_000_000]}, "its size is"),
        ({"size": [40], "counts": "0"}, "its size is"),
        ({"size": "40 60", "counts": "0"}, "its size is"),
        ({}, "its size is"),
        ("x", "expected polygons or run lengths"),
    ],
)
def test_a_mask_that_is_none_has_a_reason(given, said):
    start = time.monotonic()
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read_mask(json.dumps(given), 40, 60)
    assert time.monotonic() - start < 2


def test_a_mask_larger_than_any_picture_takes_no_memory():
    side = 1_000_000
    for given in ({"size": [side, side], "counts": [side * side]}, [SQUARE]):
        with pytest.raises(ValueError, match="a mask of 1000000 x 1000000, at most 178,956,970"):
            read_mask(json.dumps(given), side, side)


def test_deep_text_has_a_reason():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_mask("[" * 100_000, 40, 60)


def test_a_polygon_that_reaches_out_a_little_is_what_it_was():
    inside = read_mask(json.dumps([[10, 10, 60, 10, 60, 40, 10, 40]]), 40, 60)
    outside = read_mask(json.dumps([[10, 10, 61.5, 10, 61.5, 41.5, 10, 41.5]]), 40, 60)
    assert inside.sum() == outside.sum() == 30 * 50
