"""Pixels of an encoder with a mean and a deviation of its own, in every view of an image."""

import numpy as np
import pytest
import torch

from sca_bench.data.pipeline.dataset import FLIPPED, PLAIN, RegionDataset
from sca_bench.data.pipeline.sampling import Draw
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import AugmentationSettings
from sca_bench.specs.encoders import IMAGENET, PixelStats
from sca_bench.types import ImageRecord, Region

SIZE = 32
OWN = PixelStats((100.0, 20.0, 200.0), (50.0, 25.0, 40.0))
SMALL_CUTS = AugmentationSettings(lsj_scale=(0.3, 0.4))
IMAGE_HW3 = np.random.default_rng(0).integers(0, 256, (16, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def region_set():
    images = {"a": ImageRecord("a", SIZE, 16)}
    regions = (Region("a0", "a", (1.0, 1.0, 30.0, 15.0), ("one",)),)
    return RegionSet("toy", images, regions, loader=lambda record: IMAGE_HW3)


def normalised(image_HW3, stats):
    mean, std = (np.array(numbers) for numbers in stats)
    return torch.from_numpy(((image_HW3 - mean) / std).transpose(2, 0, 1)).float()


@pytest.mark.parametrize("stats", [IMAGENET, OWN])
def test_they_are_normalised_by_it_and_padded_with_zero(region_set, stats):
    dataset = RegionDataset(region_set, image_size=SIZE, pixels=stats)
    for view, image_HW3 in ((PLAIN, IMAGE_HW3), (FLIPPED, IMAGE_HW3[:, ::-1])):
        pixels_3SS = dataset.view(0, view).pixels_3SS
        torch.testing.assert_close(pixels_3SS[:, :16], normalised(image_HW3, stats))
        assert not pixels_3SS[:, 16:].any()


@pytest.mark.parametrize("as_published", [False, True])
def test_jitter_pads_with_its_mean(region_set, as_published):
    augmentation = SMALL_CUTS.model_copy(update={"lsj_as_published": as_published})
    dataset = RegionDataset(
        region_set,
        image_size=SIZE,
        pixels=OWN,
        training=True,
        augmentation=augmentation,
        with_originals=True,
    )
    sample = dataset[Draw(0, 0)]
    assert sample.original_HW3[-1, -1].tolist() == [100, 20, 200]
    assert not sample.pixels_3SS[:, -1, -1].any()
    torch.testing.assert_close(
        sample.pixels_3SS, normalised(sample.original_HW3.numpy(), OWN), atol=1e-5, rtol=0
    )


def test_blank_images_have_its_mean(region_set):
    dataset = RegionDataset(
        region_set, image_size=SIZE, pixels=OWN, blank_images=True, with_originals=True
    )
    sample = dataset.view(0, PLAIN)
    assert not sample.pixels_3SS.any()
    assert (sample.original_HW3 == torch.tensor([100, 20, 200])).all()
