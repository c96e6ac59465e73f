"""Equal images are embedded once; different ones each."""

import torch

from sca_bench.batch import RegionBatch
from sca_bench.models.region_encoder import RegionEncoder
from sca_bench.models.sam import build_sam


class CountingEncoder:
    """The mean of each patch, and a note of every image that came."""

    image_size = 96

    def __init__(self):
        self.num_images = 0

    def __call__(self, pixel_values_B3HW):
        self.num_images += len(pixel_values_B3HW)
        patches = torch.nn.functional.avg_pool2d(pixel_values_B3HW, 8)
        return patches.repeat(1, 32, 1, 1)


def batch_of(pixels_B3HW):
    boxes = torch.tensor([10.0, 10.0, 50.0, 60.0]).expand(len(pixels_B3HW), 2, 4).clone()
    boxes[:, 1, 2] = 80.0
    count = len(pixels_B3HW)
    return RegionBatch(
        image_ids=[str(i) for i in range(count)],
        region_ids=[str(i) for i in range(2 * count)],
        region_mask_BR=torch.ones(count, 2, dtype=torch.bool),
        boxes_xyxy_input_BR4=boxes,
        pixel_values_B3HW=pixels_B3HW,
    )


def build():
    encoder = CountingEncoder()
    return RegionEncoder(build_sam("tiny", image_encoder=encoder)), encoder


def test_blank_images_cost_one_pass_in_all_batches():
    region_encoder, encoder = build()
    features = [region_encoder(batch_of(torch.zeros(n, 3, 96, 96))) for n in (3, 1, 2)]
    assert encoder.num_images == 1
    alone, _ = build()
    for count, found in zip((3, 1, 2), features, strict=True):
        expected = alone(batch_of(torch.zeros(count, 3, 96, 96)))
        assert torch.equal(found.tokens_NTC, expected.tokens_NTC)
        assert torch.equal(found.image_tokens_NSC, expected.image_tokens_NSC)
        assert not torch.equal(found.tokens_NTC[0], found.tokens_NTC[1])  # the boxes differ


def test_what_is_remembered_is_never_mistaken_for_another_image():
    region_encoder, encoder = build()
    pixels = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    whole = region_encoder(batch_of(pixels))
    assert encoder.num_images == 3
    for number in (0, 1, 1, 0):
        alone = region_encoder(batch_of(pixels[number : number + 1]))
        expected = whole.image_tokens_NSC[2 * number : 2 * number + 2]
        torch.testing.assert_close(alone.image_tokens_NSC, expected)
    assert encoder.num_images == 6  # the repeated one in the middle was not embedded again
