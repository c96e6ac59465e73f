import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from sca_bench.boxes import resized_hw, scale_boxes
from sca_bench.data.pipeline.preprocess import (
    blank_pixels,
    preprocess,
    resize_longest_side,
)
from sca_bench.specs.encoders import IMAGENET


def sam_preprocess(image_HW3, image_size):
    """Segment Anything's own path: resize as uint8, then `Sam.preprocess`."""
    defaults = inspect.signature(Sam.__init__).parameters
    sam = SimpleNamespace(
        pixel_mean=torch.tensor(defaults["pixel_mean"].default).view(-1, 1, 1),
        pixel_std=torch.tensor(defaults["pixel_std"].default).view(-1, 1, 1),
        image_encoder=SimpleNamespace(img_size=image_size),
    )
    resized = ResizeLongestSide(image_size).apply_image(image_HW3)
    return Sam.preprocess(sam, torch.as_tensor(resized).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("height", "width", "image_size"),
    [(61, 40, 96), (40, 61, 96), (96, 96, 96), (96, 50, 96), (333, 500, 96), (427, 640, 256)],
)
def test_equals_segment_anything(height, width, image_size):
    rng = np.random.default_rng(height)
    image_HW3 = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = preprocess(image_HW3, image_size)
    assert ours.shape == (3, image_size, image_size)
    assert torch.equal(ours, sam_preprocess(image_HW3, image_size))


@pytest.mark.parametrize("image_size", [224, 640, 1024])
def test_equals_segment_anything_on_real_photos(real_data, image_size):
    photos = sorted((real_data / "coco_mini_permissive" / "images").glob("*.jpg"))[::34]
    assert len(photos) == 4
    for path in photos:
        image_HW3 = np.array(Image.open(path).convert("RGB"))
        assert torch.equal(preprocess(image_HW3, image_size), sam_preprocess(image_HW3, image_size))


@pytest.mark.parametrize(("height", "width"), [(61, 40), (427, 640), (96, 96)])
def test_boxes_scale_as_segment_anything_scales_them(height, width):
    boxes_xyxy_N4 = np.array([[1.0, 2.0, 30.0, 40.0], [0.0, 0.0, width, height]])
    ours = scale_boxes(boxes_xyxy_N4, (height, width), resized_hw(height, width, 96))
    theirs = ResizeLongestSide(96).apply_boxes(boxes_xyxy_N4, (height, width))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_an_image_of_the_right_size_is_not_resampled():
    image_HW3 = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_longest_side(image_HW3, 96), image_HW3)


def test_padding_is_zero_below_and_to_the_right():
    pixels = preprocess(np.full((10, 20, 3), 255, dtype=np.uint8), 40)
    assert (pixels[:, :20, :40] > 0).all()
    assert (pixels[:, 20:] == 0).all()


def test_the_blank_input_is_what_the_mean_colour_becomes():
    blank = blank_pixels(8).normalised()[0]
    assert blank.shape == (3, 8, 8)
    assert blank.dtype == torch.float32
    mean_HW3 = np.full((8, 8, 3), np.rint(IMAGENET.mean), dtype=np.uint8)
    assert torch.allclose(blank, preprocess(mean_HW3, 8), atol=0.5 / min(IMAGENET.std))
    assert not blank.any()
