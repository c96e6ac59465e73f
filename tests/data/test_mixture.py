"""Several data sets as one: ids, tasks, images and training draws."""

import pickle
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sca_bench.data.load import load_split
from sca_bench.data.mixture import mix
from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.pipeline.sampling import Draw, SeekableSampler
from sca_bench.data.region_set import Part
from sca_bench.settings import MixtureSplit

SCENES = {"dataset": "scenes", "num_images": 3}


@pytest.fixture
def mixed(instances):
    """Scenes 3 parts to 1, twice over, and a COCO file of another task."""
    coco = instances.split().model_copy(update={"task": "recognition"})
    parts = (
        {"weight": 3, "split": {**SCENES, "first_seed": 0}},
        {"weight": 1, "split": coco},
        {"weight": 1, "split": {**SCENES, "first_seed": 50, "captions": "shape"}},
    )
    return load_split(MixtureSplit(dataset="mixture", parts=parts))


def test_ids_begin_with_the_name_of_their_part(mixed):
    assert [part.name for part in mixed.parts] == ["scenes", "coco_instances", "scenes-2"]
    assert list(mixed.images)[:4] == [
        "scenes/scene_0",
        "scenes/scene_1",
        "scenes/scene_2",
        "coco_instances/7",
    ]
    assert mixed.images["coco_instances/7"].image_id == "coco_instances/7"
    regions = list(mixed.regions)
    assert len({r.region_id for r in regions}) == len(regions) == len(mixed.regions)
    assert [mixed.regions[k] for k in range(len(regions))] == regions
    assert mixed.regions[2:4] == tuple(regions[2:4])
    assert mixed.regions[-1] == regions[-1]
    by_image = [r for image_id in mixed.images for r in mixed.regions_of(image_id)]
    assert by_image == regions
    ids = [mixed.image_id(k) for k in range(len(mixed.images))]
    assert ids == list(mixed.images)


def test_an_unknown_image_or_place_is_no_image(mixed):
    for image_id in ("scene_0", "scenes/scene_9", "nothing/7"):
        with pytest.raises(KeyError):
            mixed.images[image_id]
        with pytest.raises(KeyError):
            mixed.regions_of(image_id)
    with pytest.raises(IndexError):
        mixed.image_id(len(mixed.images))
    with pytest.raises(IndexError):
        mixed.regions[len(mixed.regions)]


def test_counts_carry_the_name_of_their_part(mixed):
    assert mixed.dropped == {"coco_instances, crowd": 1}
    assert "3 x scenes 0-2 + 1 x coco_instances" in mixed.summary()


def test_every_part_keeps_its_task_and_its_pixels(mixed, instances, make_photo):
    pixels = make_photo(instances.images / "7.png", 8, 6)
    np.testing.assert_array_equal(mixed.load_image("coco_instances/7"), pixels)
    dataset = RegionDataset(mixed, image_size=16)
    batch = collate([dataset[Draw(0, 0)], dataset[Draw(3, 0)]])
    assert batch.tasks == ["caption", "recognition"]
    assert batch.region_tasks()[-1] == "recognition"
    assert batch.captions[-1] == "person"


def test_a_mixture_travels_to_loader_workers(mixed):
    again = pickle.loads(pickle.dumps(mixed))
    assert again.digest() == mixed.digest()
    assert again.load_image("scenes-2/scene_50").shape == (96, 96, 3)


def test_parts_need_different_names(mixed):
    with pytest.raises(ValueError, match="different names"):
        mix((mixed.parts[0], mixed.parts[0]))
    with pytest.raises(ValueError, match="different names"):
        mix((Part("a/b", 1.0, mixed.parts[0].region_set),))


PARTS = [(40, 10.0), (25, 1.0), (7, 4.0)]
TOTAL = 72


def sampler(start=0, seed=3, parts=PARTS, total=TOTAL):
    return SeekableSampler(total, seed, start=start, parts=parts)


def part_of(draw):
    return 0 if draw.index < 40 else 1 if draw.index < 65 else 2


def test_parts_come_in_the_proportion_of_their_weights():
    counts = Counter(map(part_of, islice(sampler(), 30_000)))
    for part, share in enumerate((10 / 15, 1 / 15, 4 / 15)):
        spread = 4 * (30_000 * share * (1 - share)) ** 0.5
        assert abs(counts[part] - 30_000 * share) < spread


def test_every_image_of_a_part_comes_once_in_its_own_epoch():
    draws = list(islice(sampler(), 5_000))
    assert [d.number for d in draws] == list(range(5_000))
    for part, (size, _) in enumerate(PARTS):
        own = [d.index for d in draws if part_of(d) == part]
        epochs = [own[k : k + size] for k in range(0, len(own) - size, size)]
        assert len(epochs) > 5
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [0, 1, 39, 500, 4_999, 65_535, 65_536, 65_600])
def test_seeking_equals_replaying(start):
    whole = islice(sampler(), start, start + 300)
    assert list(islice(sampler(start), 300)) == list(whole)


def test_a_single_part_is_the_plain_sampler():
    one = islice(SeekableSampler(40, 3, start=17, parts=[(40, 2.5)]), 200)
    assert list(one) == list(islice(SeekableSampler(40, 3, start=17), 200))


def test_the_first_part_goes_through_its_images_as_if_alone():
    own = [d.index for d in islice(sampler(), 2_000) if part_of(d) == 0]
    alone = [d.index for d in islice(SeekableSampler(40, 3), len(own))]
    assert own == alone


def test_seeds_pick_other_parts():
    one, other = (list(map(part_of, islice(sampler(seed=s), 100))) for s in (1, 2))
    assert one != other


@pytest.mark.parametrize(
    "parts", [[], [(72, 0.0)], [(72, -1.0)], [(0, 1.0), (72, 1.0)], [(70, 1.0)]]
)
def test_impossible_parts_are_refused(parts):
    with pytest.raises(ValueError, match="must be positive and add up to 72"):
        sampler(parts=parts)
