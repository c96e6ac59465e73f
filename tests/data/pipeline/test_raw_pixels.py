"""Pixels travel as whole numbers, and are normalised to the bit as they were before."""

import numpy as np
import pytest
import torch

from sca_bench.batch import RawPixels
from sca_bench.data.pipeline.collate import ImageSample, collate
from sca_bench.data.pipeline.jitter import jitter_image, plan_jitter
from sca_bench.data.pipeline.preprocess import blank_pixels, raw_pixels, resize_longest_side
from sca_bench.data.readers.scenes import render_scene
from sca_bench.specs.encoders import IMAGENET, PixelStats

SIDE = 96
STATS = {"imagenet": IMAGENET, "own": PixelStats((100.0, 20.5, 200.0), (50.0, 25.0, 41.7))}
SIZES_HW = [(61, 40), (40, 61), (96, 96), (96, 50), (333, 500), (1, 7), (95, 96), (2000, 3)]


def as_it_was(image_HW3, side, pixels):
    """The formula that made floats in the loader (`normalise_and_pad`, up to version 0.1)."""
    image_hw3 = resize_longest_side(image_HW3, side)
    height, width = image_hw3.shape[:2]
    pixels_3hw = torch.from_numpy(np.array(image_hw3)).permute(2, 0, 1).to(torch.float32)
    mean_311 = torch.tensor(pixels.mean).view(3, 1, 1)
    std_311 = torch.tensor(pixels.std).view(3, 1, 1)
    padded_3SS = torch.zeros(3, side, side)
    padded_3SS[:, :height, :width] = (pixels_3hw - mean_311) / std_311
    return padded_3SS


def moved(pictures):
    """What a model gets of images that a loader has put together."""
    samples = [
        ImageSample(str(n), (f"r{n}",), ("x",), (4, 4), raw_pixels=picture)
        for n, picture in enumerate(pictures)
    ]
    batch = collate(samples)
    assert batch.pixel_values_B3HW is None
    batch = batch.to("cpu")
    assert batch.raw_pixels is None
    return batch.pixel_values_B3HW


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("stats", STATS)
def test_a_batch_has_the_bits_of_before(stats):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*hw, 3), dtype=np.uint8) for hw in SIZES_HW]
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    images += [every_value, render_scene(5).image]
    pixels = STATS[stats]
    found = moved([raw_pixels(image, SIDE, pixels) for image in images])
    assert_same_bits(found, torch.stack([as_it_was(image, SIDE, pixels) for image in images]))


@pytest.mark.parametrize("as_published", [False, True])
def test_jittered_images_have_the_bits_of_before(as_published):
    rng = np.random.default_rng(4)
    for scale in (0.3, 1.0, 1.7):
        image_HW3 = rng.integers(0, 256, (70, 110, 3), dtype=np.uint8)
        jitter = plan_jitter(
            (70, 110), SIDE, scale, 0.4, mirrored=scale > 1, as_published=as_published
        )
        square = jitter_image(image_HW3, jitter)
        assert square.dtype == np.uint8
        expected = as_it_was(square, SIDE, IMAGENET)[None]
        assert_same_bits(moved([raw_pixels(square, SIDE)]), expected)


def test_real_photos_have_the_bits_of_before(real_data):
    from PIL import Image

    paths = sorted((real_data / "coco_mini_permissive" / "images").glob("*.jpg"))[::34]
    images = [np.array(Image.open(path).convert("RGB")) for path in paths]
    found = moved([raw_pixels(image, 1024) for image in images])
    assert_same_bits(found, torch.stack([as_it_was(image, 1024, IMAGENET) for image in images]))


def test_nothing_outside_of_an_image_counts():
    """Not even what stands there, which nobody has to clear."""
    image_HW3 = np.full((10, 20, 3), 255, dtype=np.uint8)
    clean = raw_pixels(image_HW3, 40)
    dirty = RawPixels(clean.values_B3SS.clone(), clean.shown_hw, clean.mean, clean.std)
    dirty.values_B3SS[:, :, 20:] = 7
    assert_same_bits(dirty.normalised(), clean.normalised())
    assert_same_bits(moved([clean, blank_pixels(40)])[1], torch.zeros(3, 40, 40))


def test_an_image_travels_in_a_quarter_of_the_bytes():
    picture = raw_pixels(np.zeros((30, 40, 3), dtype=np.uint8), 1024)
    before = picture.normalised().nbytes
    assert (picture.values_B3SS.nbytes, before) == (3 * 2**20, 12 * 2**20)


def test_images_of_two_kinds_are_not_put_together():
    image_HW3 = np.zeros((4, 4, 3), dtype=np.uint8)
    pictures = [raw_pixels(image_HW3, 8, stats) for stats in STATS.values()]
    for wrong in (pictures, [pictures[0], None]):
        with pytest.raises(ValueError, match="must all have pixels of one kind, or none"):
            moved(wrong)
