"""The readers on excerpts of the real files; counts are those of the files' own description."""

from collections import Counter

import pytest

from sca_bench.boxes import tight_box
from sca_bench.data.load import load_split
from sca_bench.data.masks import decode_mask
from sca_bench.errors import InputError
from sca_bench.settings import CocoInstancesSplit, CocoPanopticSplit, VisualGenomeSplit

WHERE = "suite.yaml"


def visual_genome(folder, version, **changes):
    vg = folder / "vg_real_5images"
    settings = {
        "dataset": "visual_genome",
        "images": "no_such_folder",
        "regions": str(vg / f"region_descriptions.v{version}.json"),
        "image_data": str(vg / "image_data.json"),
    }
    return load_split(VisualGenomeSplit(**(settings | changes)), WHERE)


def coco(folder, kind, **changes):
    mini = folder / "coco_mini_permissive"
    settings = {
        "dataset": f"coco_{kind}",
        "images": str(mini / "images"),
        "annotations": str(mini / f"{kind}.json"),
    }
    split = {"instances": CocoInstancesSplit, "panoptic": CocoPanopticSplit}[kind]
    return load_split(split(**(settings | changes)), WHERE)


@pytest.mark.parametrize(("version", "count"), [("1.0", 1288), ("1.2", 1278)])
def test_visual_genome(real_data, version, count):
    region_set = visual_genome(real_data, version)
    assert len(region_set.regions) == count
    assert list(region_set.images) == ["1", "2", "3", "4", "5"]
    assert region_set.dropped == {}
    first = region_set.regions[0]
    assert (first.region_id, first.references) == ("1382", ("the clock is green in colour",))
    assert first.box_xyxy == (421, 57, 503, 196)
    assert region_set.images["1"].path.endswith("VG_100K_2/1.jpg")
    with pytest.raises(InputError, match=r"no such folder \(5 of 5 images are missing"):
        region_set.check_images()


def test_visual_genome_counts_what_it_drops(real_data):
    region_set = visual_genome(real_data, "1.2", min_side_px=32, split="VG_100K_2")
    assert list(region_set.images) == ["1"]
    assert len(region_set.regions) + sum(region_set.dropped.values()) == 1278


def test_densecap_split(real_data):
    """The excerpt's five images are in none of the densecap lists; that is an error, and named."""
    file = str(real_data / "vg_splits" / "densecap_splits.json")
    with pytest.raises(InputError, match="none of its 77398 image ids occurs"):
        visual_genome(real_data, "1.2", image_ids=file, split="train")
    with pytest.raises(InputError, match="none of its 5000 image ids occurs"):
        visual_genome(real_data, "1.2", image_ids=file, split="test")


def test_coco_instances(real_data):
    region_set = coco(real_data, "instances")
    assert len(region_set.regions) == 711 - 9
    assert region_set.dropped == {"crowd": 9}
    assert len(region_set.images) + sum(region_set.images_left_out.values()) == 83
    assert len({r.references for r in region_set.regions}) == 62
    region_set.check_images()
    for image_id in list(region_set.images)[::20]:
        record = region_set.images[image_id]
        assert region_set.load_image(image_id).shape == (record.height, record.width, 3)
    for region in region_set.regions[::50]:
        mask_box = tight_box(decode_mask(region.mask_rle))
        assert mask_box == pytest.approx(region.box_xyxy, abs=2)


def test_coco_instances_by_source(real_data):
    train = coco(real_data, "instances", split="train2017")
    val = coco(real_data, "instances", split="val2017")
    assert len(train.regions) + len(val.regions) == 702
    assert train.images_left_out["not of train2017"] == 44
    assert val.images_left_out["not of val2017"] == 39
    assert not set(train.images) & set(val.images)


def test_coco_panoptic(real_data):
    pngs = str(real_data / "coco_mini_permissive" / "panoptic")
    region_set = coco(real_data, "panoptic", panoptic=pngs, max_images=8)
    areas = Counter(r.image_id for r in region_set.regions)
    assert len(areas) == len(region_set.images) == 8
    for region in region_set.regions[::5]:
        assert tight_box(decode_mask(region.mask_rle)) == region.box_xyxy
    whole = coco(real_data, "panoptic")
    assert len(whole.images) == 53
    assert len(whole.regions) == 548 - 3
    assert whole.dropped == {"crowd": 3}
    assert not any("-" in r.references[0] for r in whole.regions)


def test_derived_regions_in_visual_genome_form(real_data):
    mini = real_data / "coco_mini_permissive"
    files = {
        "images": str(mini / "images"),
        "regions": str(mini / "region_descriptions.derived.json"),
        "image_data": str(mini / "image_data.derived.json"),
    }
    region_set = visual_genome(real_data, "1.2", **files)
    region_set.check_images()
    assert len(region_set.regions) == 1242
    assert len({r.references for r in region_set.regions}) == 119
    both_sides = visual_genome(real_data, "1.2", **files, min_side_px=32)
    assert len(both_sides.regions) == 716  # 848 have an area above 32 x 32 px
