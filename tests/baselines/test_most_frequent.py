"""The most frequent caption: counted, ties by the alphabet, the same for every region."""

import pytest
import torch

from baselines.most_frequent.captioner import MostFrequentCaption
from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        # Neither the rarest, nor the first of the alphabet, nor the first or last to come.
        (["red bus", "a cat", "red bus", "tree", "red bus", "tree", "zebra"], "red bus"),
        (["zebra", "tree", "zebra", "a cat", "tree"], "tree"),  # two of each: by the alphabet
        (["tree"], "tree"),
    ],
)
def test_every_region_gets_the_caption_that_training_has_most_of(captions, said):
    captioner = MostFrequentCaption()
    captioner.fit(captions)
    batch = RegionBatch(
        image_ids=["i"],
        region_ids=["r0", "r1"],
        region_mask_BR=torch.ones(1, 2, dtype=torch.bool),
        boxes_xyxy_input_BR4=torch.tensor([[[0.0, 0, 9, 9], [0, 0, 5, 5]]]),
        pixel_values_B3HW=torch.zeros(1, 3, 8, 8),
        input_sizes_hw=[(8, 8)],
    )
    found = captioner.generate(batch, Decoding(1, 3))
    assert [(one.region_id, one.caption) for one in found] == [("r0", said), ("r1", said)]


def test_two_spellings_in_unicode_are_one_caption():
    captioner = MostFrequentCaption()
    captioner.fit(["a dog", "a dog", "caf\u00e9", "cafe\u0301", "cafe\u0301"])
    assert captioner.caption == "caf\u00e9"
