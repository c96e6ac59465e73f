import numpy as np
import pytest
from pycocotools import mask as coco

from sca_bench.rle import decode_mask, encode_mask, mask_runs


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
        ("é", "ascii"),
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
