"""What stands for a region: boxes, centres, and points that chance and the region's id decide."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sca_bench.data.load import load_split
from sca_bench.data.pipeline.collate import ImageSample, collate
from sca_bench.data.pipeline.dataset import FLIPPED, PLAIN, RegionDataset
from sca_bench.data.pipeline.prompts import WITH_BOX, WITH_POINT, mask_points, uniform_pair
from sca_bench.data.pipeline.sampling import Draw
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.formats.rle import encode_mask, read_mask
from sca_bench.settings import AugmentationSettings, ScenesSplit
from sca_bench.types import ImageRecord, Region

PROMPTS = sorted({*WITH_BOX, *WITH_POINT})


@pytest.fixture(scope="module")
def scenes():
    return load_split(ScenesSplit(dataset="scenes", num_images=6, first_seed=3))


def points(region_set, prompt, seed=0, **changes):
    """Region id -> point in model-input pixels (the scenes are shown in their own size)."""
    dataset = RegionDataset(
        region_set, image_size=96, prompt=prompt, prompt_seed=seed, with_pixels=False, **changes
    )
    found = {}
    for index in range(len(dataset)):
        sample = dataset[Draw(index, index)]
        rows = sample.points_xy_input_RP2[:, 0].tolist()
        found |= dict(zip(sample.region_ids, rows, strict=True))
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_each_prompt_gives_its_tensors(scenes, prompt):
    dataset = RegionDataset(scenes, image_size=96, prompt=prompt, prompt_seed=5, with_pixels=False)
    batch = collate([dataset[Draw(0, 0)], dataset[Draw(1, 0)]])
    assert (batch.boxes_xyxy_input_BR4 is not None) == (prompt in WITH_BOX)
    assert (batch.points_xy_input_BRP2 is not None) == (prompt in WITH_POINT)
    assert batch.mask_point_seed == (5 if prompt == "sam_mask_point" else None)
    if prompt in WITH_POINT:
        assert batch.points_xy_input_BRP2.shape[2:] == (1, 2)


def test_random_points_lie_in_their_boxes_and_fill_them(scenes):
    shares = []
    for seed in range(40):
        found = points(scenes, "random_point", seed)
        for region in scenes.regions:
            left, top, right, bottom = region.box_xyxy
            x, y = found[region.region_id]
            shares.append(((x - left) / (right - left), (y - top) / (bottom - top)))
    shares = np.array(shares)
    assert shares.min() >= 0
    assert shares.max() < 1
    counts = np.histogram2d(*shares.T, bins=2, range=[[0, 1], [0, 1]])[0]
    assert counts.min() > 0.8 * len(shares) / 4


def test_mask_points_lie_in_their_masks_and_fill_them(scenes):
    region = scenes.regions[0]
    mask = read_mask(region.segmentation, 96, 96)
    hit = np.zeros_like(mask, dtype=int)
    for seed in range(3_000):
        ((x, y),) = mask_points([region], (96, 96), seed).tolist()
        assert (x % 1, y % 1) == (0.5, 0.5)
        hit[int(y), int(x)] += 1
    assert not hit[~mask].any()
    assert (hit[mask] > 0).mean() > 0.9 or mask.sum() > 1_000
    assert hit.max() < 40


@pytest.mark.parametrize("prompt", ["random_point", "mask_point"])
def test_a_random_point_depends_on_seed_and_region_alone(scenes, prompt):
    whole = points(scenes, prompt)
    assert points(scenes, prompt, 1) != whole
    few = list(scenes.images)[3:1:-1]
    regions = tuple(r for image_id in few for r in reversed(scenes.regions_of(image_id)))
    part = RegionSet("part", {i: scenes.images[i] for i in few}, regions)
    found = points(part, prompt)
    assert found == {region_id: whole[region_id] for region_id in found}
    assert len(found) < len(whole)


def test_regions_of_one_box_have_different_points(scenes):
    region = scenes.regions[0]
    twins = tuple(replace(region, region_id=f"twin{k}") for k in range(5))
    images = {region.image_id: scenes.images[region.image_id]}
    found = points(RegionSet("twins", images, twins), "random_point")
    assert len({tuple(point) for point in found.values()}) == 5


def test_the_numbers_of_a_region_never_change_unnoticed():
    assert uniform_pair(0, "scene_3_0") == pytest.approx((0.5326641, 0.0238539), abs=1e-7)
    assert uniform_pair(0, "scene_3_0") != uniform_pair(0, "scene_3_1")
    assert uniform_pair(1, "2") != uniform_pair(12, "")
    pairs = np.array([uniform_pair(0, str(k)) for k in range(4_000)])
    assert np.abs(pairs.mean(0) - 0.5).max() < 0.03


@pytest.mark.parametrize("prompt", ["point", "random_point", "mask_point"])
def test_a_mirrored_view_mirrors_the_points(scenes, prompt):
    dataset = RegionDataset(
        scenes,
        image_size=96,
        prompt=prompt,
        training=True,
        augmentation=AugmentationSettings(flip="always"),
        with_pixels=False,
    )
    plain, flipped = dataset.view(0, PLAIN), dataset.view(0, FLIPPED)
    expected = plain.points_xy_input_RP2.clone()
    expected[..., 0] = 96 - expected[..., 0]
    torch.testing.assert_close(flipped.points_xy_input_RP2, expected, atol=1e-4, rtol=0)


def test_mask_points_scale_with_the_image():
    mask = np.zeros((20, 40), dtype=bool)
    mask[10, 30] = True
    region = Region(
        "r", "a", (30.0, 10.0, 31.0, 11.0), ("x",), segmentation=json.dumps(encode_mask(mask))
    )
    region_set = RegionSet("one", {"a": ImageRecord("a", 40, 20)}, (region,))
    dataset = RegionDataset(region_set, image_size=80, prompt="mask_point", with_pixels=False)
    assert dataset[Draw(0, 0)].points_xy_input_RP2.tolist() == [[[61.0, 21.0]]]


def test_without_masks_the_data_set_and_the_way_out_are_named(instances):
    region_set = load_split(instances.split())
    line = (
        r"coco_instances instances.json: eval.prompt: mask_point needs a mask of every region; "
        r"region \d+ has none; use random_point, or data with masks: "
    )
    with pytest.raises(InputError, match=line) as caught:
        RegionDataset(region_set, image_size=8, prompt="mask_point")
    assert "\n" not in str(caught.value)


def test_an_empty_mask_is_named(scenes):
    empty = json.dumps(encode_mask(np.zeros((96, 96), dtype=bool)))
    first, *others = scenes.regions
    region_set = replace(scenes, regions=(replace(first, segmentation=empty), *others))
    line = "mask_point needs a mask of every region; that of region scene_3_0 has no pixel"
    with pytest.raises(InputError, match=line):
        RegionDataset(region_set, image_size=8, prompt="mask_point")


def test_points_in_masks_are_not_jittered(scenes):
    with pytest.raises(ValueError, match="cannot be combined"):
        RegionDataset(
            scenes,
            image_size=96,
            prompt="mask_point",
            training=True,
            augmentation=AugmentationSettings(lsj_scale=(0.5, 1.0)),
        )


def test_collate_refuses_two_seeds():
    samples = [
        ImageSample("a", ("1",), ("x",), (4, 4), boxes_xyxy_input_R4=torch.zeros(1, 4)),
        ImageSample(
            "b",
            ("2",),
            ("x",),
            (4, 4),
            boxes_xyxy_input_R4=torch.zeros(1, 4),
            mask_point_seed=3,
        ),
    ]
    with pytest.raises(ValueError, match="the same mask_point_seed"):
        collate(samples)
