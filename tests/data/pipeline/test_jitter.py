"""Large-scale jitter: sizes, boxes, pixels, and what a data set does with it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sca_bench.batch import RawPixels
from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import JITTERED, PLAIN, RegionDataset, ViewDataset
from sca_bench.data.pipeline.jitter import has_area, jitter_boxes, jitter_image, plan_jitter
from sca_bench.data.pipeline.preprocess import preprocess
from sca_bench.data.pipeline.published_pixels import published_pixels
from sca_bench.data.pipeline.sampling import Draw, SeekableSampler
from sca_bench.data.pipeline.training_draw import ATTEMPTS, TrainingDraw, draw_numbers
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import AugmentationSettings
from sca_bench.specs.encoders import IMAGENET
from sca_bench.types import ImageRecord, Region

SIDE = 64


def plan(hw=(30, 60), scale=1.0, offset=0.0, mirrored=False, as_published=False):
    return plan_jitter(hw, SIDE, scale, offset, mirrored=mirrored, as_published=as_published)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def threads():
    """Set the number of torch's threads; the old one comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("hw", "scale", "offset", "resized", "cut"),
    [
        ((30, 60), 1.0, 0.5, (32, 64), (0, 0)),
        ((30, 60), 2.0, 0.5, (64, 128), (0, 32)),
        ((30, 60), 2.0, 0.0, (64, 128), (0, 0)),
        ((60, 30), 2.0, 1.0, (128, 64), (64, 0)),
        ((30, 60), 0.5, 1.0, (16, 32), (0, 0)),
        ((50, 50), 1.5, 0.3, (96, 96), (10, 10)),
        ((1, 500), 0.1, 0.3, (1, 6), (0, 0)),
    ],
)
def test_sizes_and_offsets(hw, scale, offset, resized, cut):
    jitter = plan(hw, scale, offset)
    assert (jitter.resized_hw, jitter.offset_yx) == (resized, cut)


@pytest.mark.parametrize(
    ("jitter", "box", "expected"),
    [
        (plan((32, 64)), (8, 4, 16, 12), (8, 4, 16, 12)),
        (plan((32, 64), mirrored=True), (8, 4, 16, 12), (48, 4, 56, 12)),
        (plan((32, 64), 2.0, 0.5), (20, 4, 30, 12), (8, 8, 28, 24)),
        (plan((32, 64), 2.0, 0.5), (0, 4, 20, 12), (0, 8, 8, 24)),
        (plan((32, 64), 2.0, 0.5), (0, 4, 16, 12), (0, 8, 0, 24)),
        (plan((32, 64), 2.0, 0.5), (50, 4, 64, 12), (64, 8, 64, 24)),
        (plan((30, 50)), (1.5, 1, 3, 3), (1.92, 1.266667, 3.84, 3.8)),
        (plan((30, 50), as_published=True), (1.5, 1, 3, 3), (1, 1, 3, 3)),
        (plan((30, 50), mirrored=True, as_published=True), (1, 1, 3, 3), (60, 1, 62, 3)),
    ],
)
def test_boxes_follow_the_image_and_are_cut_at_the_square(jitter, box, expected):
    assert jitter_boxes([box], jitter)[0].tolist() == pytest.approx(expected)


def test_boxes_without_area_are_told():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [3, 3, 5, 3], [0, 0, 1e-6, 1], [0, 0, 1e-4, 1]])
    assert has_area(boxes).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("as_published", "padding"), [(False, (124, 116, 104)), (True, (123, 116, 103))]
)
def test_padding_is_the_mean_colour(as_published, padding):
    square = jitter_image(picture(30, 60), plan(scale=0.5, as_published=as_published))
    assert square.shape == (SIDE, SIDE, 3)
    assert (square[16:] == padding).all()
    assert (square[:, 32:] == padding).all()
    np.testing.assert_allclose(padding, IMAGENET.mean, atol=0.7)


def test_without_a_change_of_size_pixels_stay():
    image = picture(64, 64)
    np.testing.assert_array_equal(jitter_image(image, plan((64, 64))), image)
    mirrored = jitter_image(image, plan((64, 64), mirrored=True))
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    published = jitter_image(image, plan((64, 64), as_published=True)).astype(int)
    assert set(np.unique(image - published)) == {0, 1}  # truncation loses some


def test_pixels_are_rounded_or_truncated():
    image = picture(40, 64, seed=5)
    jitter = plan((40, 64), 1.3, 0.4)
    exact = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].double(), jitter.resized_hw, mode="bilinear"
    )[0].permute(1, 2, 0)
    top, left = jitter.offset_yx
    exact = exact[top : top + SIDE, left : left + SIDE].numpy()
    rows = len(exact)
    assert np.abs(jitter_image(image, jitter)[:rows] - exact).max() < 0.5 + 1e-5
    published = jitter_image(image, plan((40, 64), 1.3, 0.4, as_published=True))[:rows]
    assert (np.floor(exact + 1e-6) - published).max() <= 1
    assert (published <= exact + 1e-6).all()


@pytest.mark.parametrize("as_published", [False, True])
def test_pixels_do_not_depend_on_the_number_of_threads(threads, as_published):
    rng = np.random.default_rng(0)
    for seed in range(40):
        height, width = rng.integers(2, 150, 2).tolist()
        jitter = plan((height, width), rng.uniform(0.1, 2), rng.random(), as_published=as_published)
        squares = []
        for count in (1, 2):
            threads(count)
            squares.append(jitter_image(picture(height, width, seed), jitter))
        np.testing.assert_array_equal(*squares)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="torch's kernels without vectors do not fuse, so they are not the original's",
)
@pytest.mark.parametrize(
    ("hw", "resized"),
    [
        ((97, 150), (121, 187)),
        ((140, 101), (116, 84)),
        ((59, 42), (195, 139)),
        ((145, 107), (17, 13)),
        ((33, 5), (173, 26)),
        ((64, 64), (64, 64)),
    ],
)
def test_published_pixels_are_those_of_torch_with_several_threads(threads, hw, resized):
    """The kernels that the original's recorded outputs were made with; all values are compared."""
    image = picture(*hw, seed=3)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    threads(2)
    normal = torch.from_numpy((image / 255 - mean) / std).permute(2, 0, 1)[None]
    scaled = F.interpolate(normal, resized, mode="bilinear", align_corners=False)[0]
    expected = ((scaled.permute(1, 2, 0).numpy() * std + mean) * 255).astype(np.uint8)
    threads(1)
    whole = slice(0, resized[0]), slice(0, resized[1])
    np.testing.assert_array_equal(published_pixels(image, resized, *whole), expected)


def paint(record):
    return picture(record.height, record.width, ord(record.image_id))


@pytest.fixture
def region_set():
    """Image a: ten small boxes in a grid, one of them sided; b: a speck in the corner."""
    images = {"a": ImageRecord("a", 60, 30), "b": ImageRecord("b", 40, 40)}
    regions = [
        Region(f"a{k}", "a", (6.0 * k, 2.0 * k, 6.0 * k + 5, 2.0 * k + 4), (f"box {k}", "box"))
        for k in range(9)
    ]
    regions.append(Region("a9", "a", (55.0, 25.0, 60.0, 30.0), ("left shoe",)))
    regions.append(Region("b0", "b", (38.5, 38.5, 40.0, 40.0), ("speck",)))
    return RegionSet("toy", images, tuple(regions), loader=paint)


@pytest.fixture
def make(region_set):
    def build(scale=(0.1, 2.0), flip="never", published=False, **changes):
        augmentation = AugmentationSettings(flip=flip, lsj_scale=scale, lsj_as_published=published)
        settings = {"image_size": SIDE, "training": True, "regions_per_image": 4, "seed": 1}
        return RegionDataset(region_set, augmentation=augmentation, **(settings | changes))

    return build


def same(one, other):
    for key, value in one.__dict__.items():
        equal = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        if isinstance(value, RawPixels):
            same(value, other.__dict__[key])
        else:
            assert equal(value, other.__dict__[key]), key


def test_a_jittered_draw_is_a_function_of_seed_and_number(make):
    for number in range(6):
        same(make()[Draw(0, number)], make()[Draw(0, number)])
    boxes = [make()[Draw(0, n)].boxes_xyxy_input_R4 for n in range(6)]
    assert len({tuple(box.flatten().tolist()) for box in boxes}) == 6
    assert make()[Draw(0, 0)].region_ids != make(seed=2)[Draw(0, 0)].region_ids


def test_loader_workers_change_no_jitter(make):
    for published in (False, True):
        found = []
        for workers in (0, 2):
            draws = [d for d, _ in zip(SeekableSampler(2, seed=4), range(8), strict=False)]
            loader = DataLoader(
                make(published=published, flip="unsided"),
                batch_size=2,
                sampler=draws,
                collate_fn=collate,
                num_workers=workers,
            )
            found.append(list(loader))
        for one, other in zip(*found, strict=True):
            assert torch.equal(one.raw_pixels.values_B3SS, other.raw_pixels.values_B3SS)
            assert torch.equal(one.boxes_xyxy_input_BR4, other.boxes_xyxy_input_BR4)
            assert one.captions == other.captions


def test_pixels_and_boxes_are_those_of_the_jitter(make, region_set):
    drawn = TrainingDraw(False, tuple(range(10)), (0.9,) * 10, ((0.5, 0.25),))
    sample = make((1.0, 2.0)).sample(0, drawn)
    jitter = plan_jitter((30, 60), SIDE, 1.5, 0.25, mirrored=False, as_published=False)
    square = jitter_image(region_set.load_image("a"), jitter)
    assert torch.equal(sample.pixels_3SS, preprocess(square, SIDE))
    assert sample.input_size_hw == (SIDE, SIDE)
    assert sample.view == JITTERED
    assert not sample.flipped
    kept = [r for r in region_set.regions_of("a") if r.region_id in sample.region_ids]
    expected = jitter_boxes([r.box_xyxy for r in kept], jitter)
    np.testing.assert_allclose(sample.boxes_xyxy_input_R4, expected, rtol=1e-6)
    assert set(sample.captions) <= {"box", "left shoe"}


def test_lost_regions_give_their_place_to_later_ones(make, region_set):
    order = (9, 8, 7, 0, 1, 2, 3, 4, 5, 6)
    drawn = TrainingDraw(False, order, (0.0,) * 10, ((1.0, 0.0),))
    sample = make((2.0, 2.0)).sample(0, drawn)  # only the left half of the image is left
    assert sample.region_ids == ("a0", "a1", "a2", "a3")
    assert sample.captions == ("box 0", "box 1", "box 2", "box 3")
    assert (sample.boxes_xyxy_input_R4[:, 2:] > sample.boxes_xyxy_input_R4[:, :2]).all()


def test_a_cut_that_loses_every_region_is_drawn_again(make):
    drawn = TrainingDraw(False, (0,), (0.0,), ((1.0, 0.0), (1.0, 1.0)))
    sample = make((2.0, 2.0)).sample(1, drawn)
    assert sample.region_ids == ("b0",)
    assert sample.view == JITTERED
    assert sample.boxes_xyxy_input_R4[0].tolist() == pytest.approx([59.2, 59.2, 64.0, 64.0])


def test_where_every_cut_loses_all_the_image_is_shown_whole(make):
    dataset = make((2.0, 2.0))
    drawn = TrainingDraw(False, (0,), (0.0,), ((1.0, 0.0),) * ATTEMPTS)
    sample = dataset.sample(1, drawn)
    same(sample, dataset.view(1, PLAIN))


def test_no_draw_is_ever_without_a_region(make):
    for published in (False, True):
        dataset = make((0.1, 4.0), published=published, with_pixels=False)
        for number in range(300):
            sample = dataset[Draw(number % 2, number)]
            assert sample.region_ids
            assert has_area(sample.boxes_xyxy_input_R4.double().numpy()).all()


def mirrored(dataset, index=0, count=200):
    """Draw numbers whose image is mirrored: the leftmost box lies right of the rightmost."""
    found = []
    for number in range(count):
        sample = dataset[Draw(index, number)]
        boxes = dict(zip(sample.region_ids, sample.boxes_xyxy_input_R4.tolist(), strict=True))
        ids = sorted(boxes)
        if len(ids) > 1 and boxes[ids[0]][0] > boxes[ids[-1]][0]:
            found.append(number)
    return found


@pytest.mark.parametrize(
    ("flip", "published", "low", "high"),
    [("never", False, 0, 0), ("always", False, 70, 130), ("never", True, 70, 130)],
)
def test_flips_follow_the_setting_and_as_published_the_coin(make, flip, published, low, high):
    dataset = make((0.5, 1.0), flip, published, with_pixels=False)
    assert low <= len(mirrored(dataset)) <= high


def test_unsided_never_mirrors_a_kept_left(make):
    dataset = make((0.5, 1.0), "unsided", with_pixels=False)
    numbers = mirrored(dataset)
    assert len(numbers) > 20
    assert not any("a9" in dataset[Draw(0, number)].region_ids for number in numbers)


def test_evaluation_is_never_jittered(make, region_set):
    plain = RegionDataset(region_set, image_size=SIDE)
    same(make(training=False)[Draw(0, 0)], plain[Draw(0, 0)])


def test_jitter_changes_nothing_that_is_drawn_before_it(make, region_set):
    plain = RegionDataset(region_set, image_size=SIDE, training=True, seed=1, regions_per_image=4)
    for number in range(10):
        jittered = make((1.0, 1.0), with_pixels=False)[Draw(0, number)]
        assert jittered.region_ids == plain[Draw(0, number)].region_ids
        assert jittered.captions == plain[Draw(0, number)].captions


def test_jittered_draws_cannot_be_listed_for_a_cache(make):
    with pytest.raises(ValueError, match="no views that could be listed"):
        ViewDataset(make())
    assert ViewDataset(make(training=False)).keys == [("a", 0), ("b", 0)]


def test_points_lie_in_the_boxes_that_are_left(make):
    dataset = make(prompt="point", with_pixels=False)
    boxes = make(with_pixels=False)
    for number in range(10):
        points = dataset[Draw(0, number)].points_xy_input_RP2[:, 0]
        left = boxes[Draw(0, number)].boxes_xyxy_input_R4
        torch.testing.assert_close(points, (left[:, :2] + left[:, 2:]) / 2)


def test_drawn_numbers_are_a_function_of_seed_and_number():
    one = draw_numbers(3, 8, 6)
    assert one == draw_numbers(3, 8, 6)
    assert one != draw_numbers(3, 9, 6)
    assert sorted(one.order) == list(range(6))
    assert len(one.choices) == 6
    assert len(one.cuts) == ATTEMPTS
    assert 80 < sum(draw_numbers(0, n, 3).coin for n in range(200)) < 120
