import json

import numpy as np
import pytest
from pycocotools import mask as coco

from sca_bench.formats.rle import decode_mask, encode_mask, mask_runs, read_mask


def test_masks_are_written_and_read_as_coco_does():
    draw = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 0.9, 1.0) * 8:
        height, width = draw.integers(1, 60, 2)
        mask = draw.random((height, width)) < share
        rle = encode_mask(mask)
        packed = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert rle == {"size": [height, width], "counts": packed["counts"].decode()}
        assert np.array_equal(decode_mask(rle), mask)


def test_runs_by_hand():
    """Columns 0 0 1, 1 1 0, 0 0 0: runs of two, three and four."""
    mask = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    assert mask_runs(encode_mask(mask)).tolist() == [2, 3, 4]


def test_large_masks_have_numbers_of_several_digits():
    mask = np.zeros((1000, 2000), dtype=bool)
    mask[10:900, 1000:] = True
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ("", "no run lengths"),
        ("!!", "no run lengths"),
        ("é", "no run lengths"),
        ("PPPo", "no run lengths"),  # the last number does not end
        ("0" * 400, "for a mask of 5 x 7"),
        ("P" * 13 + "0", "of 14 digits"),
        ("55", "runs of 10 pixels for a mask of 5 x 7"),
        ("Ub2", "for a mask of 5 x 7"),
        ("S1N", "for a mask of 5 x 7"),  # a run below zero
    ],
)
def test_damaged_runs(counts, said):
    with pytest.raises(ValueError, match=said):
        decode_mask({"size": [5, 7], "counts": counts})


def test_a_torn_mask_is_damaged_wherever_it_is_torn():
    mask = np.random.default_rng(3).random((20, 30)) < 0.4
    rle = encode_mask(mask)
    for length in range(len(rle["counts"])):
        with pytest.raises(ValueError, match=r"runs of|no run lengths"):
            decode_mask(rle | {"counts": rle["counts"][:length]})


def test_a_size_of_whole_floats_is_read():
    rle = {"size": [2.0, 3.0], "counts": [1, 2, 3]}
    assert read_mask(json.dumps(rle), 2, 3).tolist() == [[False, True, False], [True, False, False]]


# --- what annotation files give ---------------------------------------------------------------

HEIGHT, WIDTH = 6, 8
COLUMN = np.zeros((HEIGHT, WIDTH), dtype=bool)
COLUMN[:3, 0] = True
SQUARE = np.zeros((HEIGHT, WIDTH), dtype=bool)
SQUARE[2:5, 1:4] = True
RIGHT = {
    "runs": ({"size": [6, 8], "counts": [0, 3, 45]}, COLUMN),
    "runs with empty ones": ({"size": [6, 8], "counts": [0, 1, 0, 2, 45, 0]}, COLUMN),
    "text": (encode_mask(COLUMN), COLUMN),
    "polygon": ([[1, 2, 4, 2, 4, 5, 1, 5]], SQUARE),
    "polygon and nothing": ([[], [1.0, 2, 4, 2, 4, 5, 1, 5]], SQUARE),
    "two polygons": ([[1, 2, 4, 2, 4, 5, 1, 5], [0, 0, 1, 0, 1, 3, 0, 3]], SQUARE | COLUMN),
    "polygon over the border": ([[-5, -5, 1, -5, 1, 3, -5, 3]], COLUMN),
}


@pytest.mark.parametrize("form", RIGHT)
def test_every_form_of_a_mask_is_read(form):
    given, expected = RIGHT[form]
    np.testing.assert_array_equal(read_mask(json.dumps(given), HEIGHT, WIDTH), expected)


BROKEN = {
    "torn text": ({"size": [6, 8], "counts": "03"}, "runs of 3 pixels for a mask of 6 x 8"),
    "text too long": ({"size": [6, 8], "counts": "0P2"}, "runs of 64 pixels"),
    "text of other letters": ({"size": [6, 8], "counts": "a mask"}, "no run lengths: 'a mask'"),
    "runs too few": ({"size": [6, 8], "counts": [0, 3]}, "runs of 3 pixels for a mask of 6 x 8"),
    "runs too many": ({"size": [6, 8], "counts": [0, 48, 1]}, "runs of 49 pixels"),
    "a run below zero": ({"size": [6, 8], "counts": [50, -2]}, "50 is no run length"),
    "a run of text": ({"size": [6, 8], "counts": [0, "48"]}, '"48" is no run length'),
    "half a run": ({"size": [6, 8], "counts": [0.5, 47.5]}, "0.5 is no run length"),
    "a truth value": ({"size": [6, 8], "counts": [True, 47]}, "true is no run length"),
    "a run of many digits": ({"size": [6, 8], "counts": [10**40, 48]}, "is no run length"),
    "no runs": ({"size": [6, 8], "counts": []}, "runs of 0 pixels"),
    "no counts": ({"size": [6, 8]}, "expected run lengths in counts, found null"),
    "no size": ({"counts": [48]}, r"its size is null, but the image is \[6, 8\]"),
    "sides the wrong way": ({"size": [8, 6], "counts": [48]}, r"its size is \[8, 6\], but"),
    "a box": ([[1, 2, 3, 4]], "an even number of at least 6 numbers, found 4"),
    "an odd polygon": ([[1] * 7], "at least 6 numbers, found 7"),
    "numbers without a list": ([1, 2, 4, 2, 4, 5], "expected a polygon .*, found 1"),
    "a polygon of text": ([[1, 2, 4, "2", 4, 5]], 'finite numbers, found "2"'),
    "no number": ([[1, 2, 4, float("nan"), 4, 5]], "finite numbers, found NaN"),
    "no end": ([[1, 2, 4, float("inf"), 4, 5]], "finite numbers, found Infinity"),
    "far away": ([[1, 2, 1e9, 2, 4, 5]], "outside its image: 1000000000.0 is more than an image"),
    "far up": ([[1, 2, 3, -7, 4, 5]], "outside its image: -7"),
    "many digits": ([[1, 2, 10**40, 2, 4, 5]], "outside its image"),
    "a text": ("none", 'expected polygons or run lengths, found "none"'),
}


@pytest.mark.parametrize("form", BROKEN)
def test_what_is_no_mask_says_why(form):
    given, said = BROKEN[form]
    with pytest.raises(ValueError, match=said):
        read_mask(json.dumps(given), HEIGHT, WIDTH)
