import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sca_bench.batch import RawPixels
from sca_bench.boxes import mirror_boxes
from sca_bench.data.pipeline.collate import ImageSample, collate
from sca_bench.data.pipeline.dataset import FLIPPED, PLAIN, RegionDataset, ViewDataset
from sca_bench.data.pipeline.preprocess import preprocess
from sca_bench.data.pipeline.sampling import Draw, EvalSampler, SeekableSampler
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import AugmentationSettings
from sca_bench.types import ImageRecord, Region

SIZE = 32
MIRROR = AugmentationSettings(flip="unsided")
SIZES_HW = {"a": (20, 40), "b": (30, 24), "c": (64, 64)}


def paint(record):
    """A picture that differs in every pixel, so that a wrong flip or image cannot go unseen."""
    seed = ord(record.image_id)
    shape = (record.height, record.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def region(image_id, number, text=None, more=()):
    box = (float(number), 1.0, number + 5.0, 4.0 + number)
    text = text or f"{image_id}{number}"
    return Region(f"{image_id}{number}", image_id, box, (text, *more))


@pytest.fixture
def region_set():
    images = {k: ImageRecord(k, width, height) for k, (height, width) in SIZES_HW.items()}
    regions = (
        [region("a", k) for k in range(5)]
        + [region("b", 0, "dog LEFT of a cat"), region("b", 1, "the rightmost cup")]
        + [region("c", 0, "one", ("two", "three")), region("c", 1), region("c", 2, "left shoe")]
    )
    return RegionSet("toy", images, tuple(regions), loader=paint)


@pytest.fixture
def make(region_set):
    def build(**changes):
        return RegionDataset(region_set, **({"image_size": SIZE, "seed": 1} | changes))

    return build


def same(one, other):
    assert one.__dict__.keys() == other.__dict__.keys()
    for key, value in one.__dict__.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other.__dict__[key]), key
        elif isinstance(value, RawPixels):
            same(value, other.__dict__[key])
        else:
            assert value == other.__dict__[key], key


TRAIN = {"training": True, "regions_per_image": 2, "augmentation": MIRROR, "prompt": "box_point"}


def test_evaluation_takes_all_regions_in_order_with_their_first_reference(make):
    sample = make(regions_per_image=1, augmentation=MIRROR)[Draw(2, 9)]
    assert sample.region_ids == ("c0", "c1", "c2")
    assert sample.captions == ("one", "c1", "left shoe")
    assert not sample.flipped
    same(sample, make(regions_per_image=1, seed=7)[Draw(2, 0)])


def test_boxes_points_and_pixels_are_in_the_input_frame(make, region_set):
    sample = make(prompt="box_point")[Draw(0, 0)]
    assert sample.input_size_hw == (16, 32)
    assert sample.boxes_xyxy_input_R4[1].tolist() == pytest.approx([0.8, 0.8, 4.8, 4.0])
    assert sample.points_xy_input_RP2[1].tolist() == [pytest.approx([2.8, 2.4])]
    assert torch.equal(sample.pixels_3SS, preprocess(region_set.load_image("a"), SIZE))


def test_training_keeps_a_random_part_of_the_regions(make):
    dataset = make(**TRAIN)
    kept = [dataset[Draw(0, number)].region_ids for number in range(60)]
    assert {len(ids) for ids in kept} == {2}
    assert all(len(set(ids)) == 2 for ids in kept)
    assert {i for ids in kept for i in ids} == {f"a{k}" for k in range(5)}
    assert len({ids[0] for ids in kept}) == 5
    assert len(make(**TRAIN | {"regions_per_image": None})[Draw(0, 0)].region_ids) == 5


def test_training_picks_among_the_references(make):
    dataset = make(training=True)
    texts = set()
    for number in range(40):
        sample = dataset[Draw(2, number)]
        texts.add(sample.captions[sample.region_ids.index("c0")])
    assert texts == {"one", "two", "three"}


def test_a_draw_is_a_function_of_seed_and_number(make):
    for number in range(8):
        same(make(**TRAIN)[Draw(0, number)], make(**TRAIN)[Draw(0, number)])
    ids = [make(**TRAIN)[Draw(0, n)].region_ids for n in range(8)]
    assert ids != [make(**TRAIN, seed=2)[Draw(0, n)].region_ids for n in range(8)]
    assert len(set(ids)) > 1


def test_loader_workers_change_nothing(make):
    def batches(workers):
        draws = [d for d, _ in zip(SeekableSampler(3, seed=4), range(8), strict=False)]
        loader = DataLoader(
            make(**TRAIN), batch_size=2, sampler=draws, collate_fn=collate, num_workers=workers
        )
        return list(loader)

    for one, other in zip(batches(0), batches(2), strict=True):
        same(one, other)


def test_a_flip_mirrors_pixels_boxes_and_points(make, region_set):
    dataset = make(prompt="box_point")
    plain, flipped = dataset.view(0, PLAIN), dataset.view(0, FLIPPED)
    mirrored = np.ascontiguousarray(region_set.load_image("a")[:, ::-1])
    assert torch.equal(flipped.pixels_3SS, preprocess(mirrored, SIZE))
    assert not torch.equal(flipped.pixels_3SS, plain.pixels_3SS)
    width = plain.input_size_hw[1]
    expected = mirror_boxes(plain.boxes_xyxy_input_R4.numpy(), width)
    np.testing.assert_allclose(flipped.boxes_xyxy_input_R4, expected, atol=1e-5)
    np.testing.assert_allclose(
        flipped.points_xy_input_RP2[..., 0], width - plain.points_xy_input_RP2[..., 0], atol=1e-5
    )
    assert torch.equal(flipped.points_xy_input_RP2[..., 1], plain.points_xy_input_RP2[..., 1])
    assert flipped.captions == plain.captions


def test_about_half_of_the_free_draws_are_flipped_and_no_sided_one(make):
    dataset = make(**TRAIN, with_pixels=False)
    flips = [dataset[Draw(0, number)].flipped for number in range(200)]
    assert 70 < sum(flips) < 130
    assert not any(dataset[Draw(1, number)].flipped for number in range(50))
    draws = [dataset[Draw(2, number)] for number in range(100)]
    assert any(draw.flipped for draw in draws)
    assert not any(draw.flipped for draw in draws if "c2" in draw.region_ids)
    assert not any(make(training=True)[Draw(0, n)].flipped for n in range(20))


@pytest.mark.parametrize(
    ("text", "may_flip"),
    [
        ("dog LEFT of a cat", False),
        ("the rightmost cup", False),
        ("a left-hand turn", False),
        ("leftover pizza", True),
        ("bright sky", True),
    ],
)
def test_the_words_left_and_right_forbid_a_flip(text, may_flip):
    images = {"a": ImageRecord("a", 9, 9)}
    region_set = RegionSet("toy", images, (region("a", 0, "a cup", ("a mug", text)),))
    dataset = RegionDataset(
        region_set, image_size=8, training=True, augmentation=MIRROR, with_pixels=False
    )
    assert dataset.views_of(0) == ((PLAIN, FLIPPED) if may_flip else (PLAIN,))
    assert any(dataset[Draw(0, number)].flipped for number in range(30)) == may_flip


def test_views_are_exactly_those_that_draws_can_yield(make):
    for kept in (1, 2, 3, None):
        dataset = make(**TRAIN | {"regions_per_image": kept, "with_pixels": False})
        for index in range(3):
            seen = {dataset[Draw(index, number)].view for number in range(60)}
            assert seen == set(dataset.views_of(index)), (kept, index)


def test_every_view_is_enumerated_with_all_regions(make):
    dataset = make(**TRAIN)
    keys = [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1)]
    assert ViewDataset(dataset).keys == keys
    batches = [collate([sample]) for sample in map(ViewDataset(dataset).__getitem__, range(5))]
    assert [(b.image_ids[0], b.views[0]) for b in batches] == keys
    assert batches[1].region_ids == [f"a{k}" for k in range(5)]
    same(batches[1], collate([dataset.view(0, FLIPPED)]))
    assert [view for _, view in ViewDataset(make(augmentation=MIRROR)).keys] == [0, 0, 0]
    loader = DataLoader(ViewDataset(dataset), batch_size=None, num_workers=1)
    assert [(s.image_id, s.view) for s in loader] == keys


def test_permuted_captions_are_a_fixed_permutation_and_change_nothing_else(make, region_set):
    plain, control = make(**TRAIN), make(**TRAIN, permute_captions=True)
    dealt = [control.references_of(r) for r in region_set.regions]
    true = [r.references for r in region_set.regions]
    assert sorted(dealt) == sorted(true)
    assert dealt != true
    assert dealt == [
        make(**TRAIN, permute_captions=True).references_of(r) for r in region_set.regions
    ]
    other = make(**TRAIN | {"permute_captions": True, "seed": 9})
    assert dealt != [other.references_of(r) for r in region_set.regions]
    for number in range(30):
        one, two = plain[Draw(number % 3, number)], control[Draw(number % 3, number)]
        assert (one.region_ids, one.view) == (two.region_ids, two.view)
        assert torch.equal(one.pixels_3SS, two.pixels_3SS)
    assert plain.views_of(1) == control.views_of(1)


def test_permuted_captions_leave_evaluation_alone(make):
    same(make(permute_captions=True)[Draw(0, 0)], make()[Draw(0, 0)])


def test_blank_images_leave_nothing_but_the_boxes(make):
    plain, blank = make()[Draw(0, 0)], make(blank_images=True)[Draw(0, 0)]
    assert torch.equal(plain.boxes_xyxy_input_R4, blank.boxes_xyxy_input_R4)
    assert plain.captions == blank.captions
    assert blank.pixels_3SS.shape == plain.pixels_3SS.shape
    assert plain.pixels_3SS.any()
    assert not blank.pixels_3SS.any()


def test_originals_are_the_stored_images_in_the_view_of_the_boxes(make, region_set):
    stored = torch.from_numpy(region_set.load_image("a"))
    plain = make(with_originals=True)[Draw(0, 0)]
    assert plain.original_HW3.dtype == torch.uint8
    assert torch.equal(plain.original_HW3, stored)
    train = make(with_originals=True, **TRAIN)
    assert torch.equal(train.view(0, FLIPPED).original_HW3, stored.flip(1))
    assert make()[Draw(0, 0)].original_HW3 is None
    alone = make(with_originals=True, with_pixels=False)[Draw(0, 0)]
    assert alone.pixels_3SS is None
    batch = collate([plain, make(with_originals=True)[Draw(1, 1)]])
    assert [tuple(i.shape) for i in batch.original_images] == [(20, 40, 3), (30, 24, 3)]
    boxes = [r.box_xyxy for image in "ab" for r in region_set.regions_of(image)]
    torch.testing.assert_close(batch.original_boxes(), torch.tensor(boxes), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="must all have original images"):
        collate([plain, make()[Draw(1, 1)]])


def test_blank_originals_say_nothing_but_their_size(make):
    found = [make(blank_images=True, with_originals=True)[Draw(k, 0)].original_HW3 for k in (0, 1)]
    assert [tuple(image.shape) for image in found] == [(20, 40, 3), (30, 24, 3)]
    for image in found:
        assert image.unique(dim=0).unique(dim=1).flatten().tolist() == [124, 116, 104]


def test_jittered_originals_are_what_is_preprocessed(make):
    jitter = AugmentationSettings(lsj_scale=(0.5, 1.5))
    dataset = make(training=True, augmentation=jitter, with_originals=True)
    for number in range(4):
        sample = dataset[Draw(2, number)]
        assert torch.equal(preprocess(sample.original_HW3.numpy(), SIZE), sample.pixels_3SS)


def test_stored_views_alone(make):
    jitter = AugmentationSettings(lsj_scale=(0.5, 1.5))
    for augmentation in (MIRROR, jitter):
        dataset = make(training=True, augmentation=augmentation)
        views = ViewDataset(dataset, stored_only=True)
        assert views.keys == [("a", PLAIN), ("b", PLAIN), ("c", PLAIN)]
        same(views[0], make()[Draw(0, 0)])


def test_without_pixels_no_image_is_loaded(region_set):
    def refuse(record):
        raise AssertionError(record)

    no_images = RegionSet("toy", region_set.images, region_set.regions, loader=refuse)
    dataset = RegionDataset(no_images, image_size=SIZE, seed=1, with_pixels=False, **TRAIN)
    full = RegionDataset(region_set, image_size=SIZE, seed=1, **TRAIN)
    for number in range(6):
        one, two = dataset[Draw(0, number)], full[Draw(0, number)]
        assert one.pixels_3SS is None
        assert one.region_ids == two.region_ids
        assert torch.equal(one.boxes_xyxy_input_R4, two.boxes_xyxy_input_R4)
        assert one.view == two.view


@pytest.mark.parametrize(
    ("prompt", "boxes", "points"), [("box", 1, 0), ("point", 0, 1), ("box_point", 1, 1)]
)
def test_collate_pads_regions(make, prompt, boxes, points):
    dataset = make(prompt=prompt)
    samples = [dataset[draw] for draw in EvalSampler(3)]
    batch = collate(samples)
    assert batch.region_mask_BR.tolist() == [
        [True] * 5,
        [True] * 2 + [False] * 3,
        [True] * 3 + [False] * 2,
    ]
    assert batch.region_ids == [*(f"a{k}" for k in range(5)), "b0", "b1", "c0", "c1", "c2"]
    assert len(batch.captions) == batch.num_regions == 10
    assert batch.image_ids == ["a", "b", "c"]
    assert batch.views == [0, 0, 0]
    assert batch.region_tasks() == ["caption"] * 10
    assert batch.input_sizes_hw == [(16, 32), (32, 26), (32, 32)]
    assert batch.to("cpu").pixel_values_B3HW.shape == (3, 3, SIZE, SIZE)
    assert (batch.boxes_xyxy_input_BR4 is not None) == bool(boxes)
    assert (batch.points_xy_input_BRP2 is not None) == bool(points)
    if boxes:
        assert torch.equal(batch.boxes_xyxy_input_BR4[1, :2], samples[1].boxes_xyxy_input_R4)
        assert (batch.boxes_xyxy_input_BR4[~batch.region_mask_BR] == 0).all()
    if points:
        assert batch.points_xy_input_BRP2.shape == (3, 5, 1, 2)
        assert batch.point_labels_BRP.shape == (3, 5, 1)
        assert (batch.point_labels_BRP[batch.region_mask_BR] == 1).all()
        assert (batch.point_labels_BRP[~batch.region_mask_BR] == -1).all()


def test_collate_refuses_mixtures_and_nothing():
    one = ImageSample("a", ("1",), ("x",), (4, 4), boxes_xyxy_input_R4=torch.zeros(1, 4))
    other = ImageSample("b", ("2",), ("x",), (4, 4), points_xy_input_RP2=torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="must all have"):
        collate([one, other])
    with pytest.raises(ValueError, match="at least one sample"):
        collate([])
