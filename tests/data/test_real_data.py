"""The readers on excerpts of the real files; counts are those of the files' own description."""

import json
import pickle
import shutil
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sca_bench.boxes import tight_box
from sca_bench.data.load import load_split
from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.pipeline.jitter import has_area, jitter_boxes, jitter_image, plan_jitter
from sca_bench.data.pipeline.sampling import SeekableSampler
from sca_bench.errors import InputError
from sca_bench.formats.rle import read_mask
from sca_bench.settings import (
    CocoInstancesSplit,
    CocoPanopticSplit,
    MixtureSplit,
    Objects365Split,
    RefCocoSplit,
    V3DetSplit,
    VisualGenomeSplit,
)
from sca_bench.settings.splits import INDEX_FOLDER


def visual_genome(folder, version, **changes):
    vg = folder / "vg_real_5images"
    settings = {
        "dataset": "visual_genome",
        "images": "no_such_folder",
        "regions": str(vg / f"region_descriptions.v{version}.json"),
        "image_data": str(vg / "image_data.json"),
    }
    return load_split(VisualGenomeSplit(**(settings | changes)))


def mask_of(region_set, region):
    record = region_set.images[region.image_id]
    return read_mask(region.segmentation, record.height, record.width)


def coco(folder, kind, **changes):
    mini = folder / "coco_mini_permissive"
    settings = {
        "dataset": f"coco_{kind}",
        "images": str(mini / "images"),
        "annotations": str(mini / f"{kind}.json"),
    }
    split = {"instances": CocoInstancesSplit, "panoptic": CocoPanopticSplit}[kind]
    return load_split(split(**(settings | changes)))


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
        mask_box = tight_box(mask_of(region_set, region))
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
        assert tight_box(mask_of(region_set, region)) == region.box_xyxy
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


def test_instances_as_objects365_and_v3det(real_data):
    """COCO's own file read as the data sets that share its layout."""
    mini = real_data / "coco_mini_permissive"
    expected = coco(real_data, "instances")
    for kind, form in (("objects365", Objects365Split), ("v3det", V3DetSplit)):
        split = form(
            dataset=kind,
            images=str(mini / "images"),
            annotations=str(mini / "instances.json"),
            task="recognition",
        )
        region_set = load_split(split)
        assert region_set.digest() == expected.digest()
        assert region_set.task_of(region_set.image_id(0)) == "recognition"


def test_human_expressions_in_the_form_of_refcoco(real_data, tmp_path):
    """Real expressions with their boxes, put into RefCOCO's two files."""
    rows = json.loads((real_data / "refcocos" / "refcocos_test.json").read_text())
    assert len(rows) == 173
    rows = [row for row in rows if row["solution"] is not None]  # some refer to nothing
    names = list(dict.fromkeys(row["image"] for row in rows))
    sizes = {row["image"]: (row["width"], row["height"]) for row in rows}
    images = [
        {"id": k, "file_name": n, "width": sizes[n][0], "height": sizes[n][1]}
        for k, n in enumerate(names)
    ]
    annotations, refs = [], []
    for k, row in enumerate(rows):
        left, top, right, bottom = row["solution"]
        box = [left, top, right - left, bottom - top]
        image = names.index(row["image"])
        annotations.append({"id": k, "image_id": image, "category_id": 1, "bbox": box})
        sentences = [{"sent": row["normal_caption"], "sent_id": k}]
        refs.append(
            {"ref_id": k, "ann_id": k, "image_id": image, "split": "test", "sentences": sentences}
        )
    categories = [{"id": 1, "name": "object"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps(refs, 2))
    split = RefCocoSplit(
        dataset="refcoco",
        images="no_such_folder",
        refs=str(tmp_path / "refs(umd).p"),
        instances=str(tmp_path / "instances.json"),
        split="test",
        min_side_px=0,
    )
    region_set = load_split(split)
    assert len(region_set.regions) == len(rows) > 100
    assert region_set.dropped == {}
    texts = {region.references[0] for region in region_set.regions}
    assert texts == {" ".join(row["normal_caption"].split()) for row in rows}


@pytest.mark.parametrize("kind", ["instances", "panoptic", "visual_genome"])
def test_an_index_of_real_files_equals_them(real_data, tmp_path, kind):
    if kind == "visual_genome":
        for name in ("region_descriptions.v1.2.json", "image_data.json"):
            shutil.copy(real_data / "vg_real_5images" / name, tmp_path)
        split = VisualGenomeSplit(
            dataset=kind,
            images="no_such_folder",
            regions=str(tmp_path / "region_descriptions.v1.2.json"),
            image_data=str(tmp_path / "image_data.json"),
        )
    else:
        mini = real_data / "coco_mini_permissive"
        shutil.copy(mini / f"{kind}.json", tmp_path)
        form = {"instances": CocoInstancesSplit, "panoptic": CocoPanopticSplit}[kind]
        more = {"panoptic": str(mini / "panoptic")} if kind == "panoptic" else {}
        split = form(
            dataset=f"coco_{kind}",
            images=str(mini / "images"),
            annotations=str(tmp_path / f"{kind}.json"),
            **more,
        )
    direct = load_split(split)
    (tmp_path / INDEX_FOLDER).mkdir()
    for _ in range(2):
        stored = load_split(split)
        assert stored.stored_digest
        assert list(stored.regions) == list(direct.regions)
        assert dict(stored.images) == dict(direct.images)
        assert stored.summary() == direct.summary()


def test_a_mixture_of_real_files_is_drawn_in_its_proportion(real_data):
    mini = real_data / "coco_mini_permissive"
    parts = [
        {
            "weight": weight,
            "split": {
                "dataset": f"coco_{kind}",
                "images": str(mini / "images"),
                "annotations": str(mini / f"{kind}.json"),
                "task": task,
            },
        }
        for weight, kind, task in ((10, "instances", "recognition"), (1, "panoptic", "caption"))
    ]
    mixed = load_split(MixtureSplit(dataset="mixture", parts=parts))
    mixed.check_images()
    dataset = RegionDataset(mixed, image_size=64, training=True, regions_per_image=4)
    sizes = [(len(part.region_set.images), part.weight) for part in mixed.parts]
    draws = list(islice(SeekableSampler(len(dataset), 0, parts=sizes), 1_100))
    first = sum(draw.index < sizes[0][0] for draw in draws)
    assert 950 < first < 1_050
    batch = collate([dataset[draw] for draw in draws[:30]])
    tasks = {"coco_instances": "recognition", "coco_panoptic": "caption"}
    assert batch.tasks == [tasks[image_id.partition("/")[0]] for image_id in batch.image_ids]
    assert set(batch.tasks) == {"recognition", "caption"}


def test_jitter_keeps_real_masks_and_boxes_together(real_data):
    """A box after a cut is the tight box of the mask after the same cut."""
    region_set = coco(real_data, "instances", max_images=12)
    compared = 0
    for number, region in enumerate(region_set.regions[::3]):
        record = region_set.images[region.image_id]
        hw = (record.height, record.width)
        jitter = plan_jitter(
            hw, 256, 0.6 + 0.1 * (number % 12), 0.5, mirrored=bool(number % 2), as_published=False
        )
        mask_HW3 = np.repeat(mask_of(region_set, region)[..., None], 3, 2) * np.uint8(255)
        square = jitter_image(mask_HW3, jitter)[..., 0]
        rows, columns = (min(256, size) for size in jitter.resized_hw)
        shown = square[:rows, :columns] > 127
        box = jitter_boxes([region.box_xyxy], jitter)
        if not shown.any() or not has_area(box)[0]:
            continue
        assert tight_box(shown) == pytest.approx(box[0], abs=3)
        compared += 1
    assert compared > 20


def edited(folder, tmp_path, name, edit):
    """Copy a real file, edited; return its path."""
    (tmp_path / name).write_text(edit((folder / name).read_text()))
    return str(tmp_path / name)


def changed(text, change):
    content = json.loads(text)
    change(content)
    return json.dumps(content)


BROKEN_VG = {
    "cut off": (
        lambda text: text[: len(text) // 2],
        r"region_descriptions.v1.2.json: line 1 column \d+: is not JSON: .*cut off; fetch it again",
    ),
    "region twice": (
        lambda text: changed(text, lambda c: c[0]["regions"].append(c[0]["regions"][0])),
        r"\[0\].regions\[\d+\].region_id: \"1382\" occurs twice",
    ),
    "image twice": (
        lambda text: changed(text, lambda c: c.append(c[0])),
        r"\[5\].id: \"1\" occurs twice",
    ),
    "wrong image": (
        lambda text: changed(text, lambda c: c[0]["regions"][0].update(image_id=2)),
        r"\[0\].regions\[0\].image_id: is 2, but it stands under image 1",
    ),
    "unknown image": (
        lambda text: changed(text, lambda c: c[1].update(id=99)),
        r"\[1\].id: image 99 is not in .*image_data.json",
    ),
    "not a number": (
        lambda text: changed(text, lambda c: c[0]["regions"][0].update(width="82")),
        r"\[0\].regions\[0\].width: expected a number, found \"82\"",
    ),
}


@pytest.mark.parametrize("case", BROKEN_VG)
def test_broken_real_visual_genome_is_one_clear_line(real_data, tmp_path, case):
    edit, line = BROKEN_VG[case]
    name = "region_descriptions.v1.2.json"
    regions = edited(real_data / "vg_real_5images", tmp_path, name, edit)
    with pytest.raises(InputError, match=line) as caught:
        visual_genome(real_data, "1.2", regions=regions)
    assert "\n" not in str(caught.value)


def test_negative_boxes_of_real_visual_genome_are_counted(real_data, tmp_path):
    def edit(content):
        for region, sizes in zip(
            content[0]["regions"], ((-500, 20), (10, -3), (-5, 20)), strict=False
        ):
            region.update(x=sizes[0], width=sizes[1])

    name = "region_descriptions.v1.2.json"
    regions = edited(
        real_data / "vg_real_5images", tmp_path, name, lambda text: changed(text, edit)
    )
    region_set = visual_genome(real_data, "1.2", regions=regions)
    assert region_set.dropped == {"box wholly outside its image": 1, "box without area": 1}
    whole = visual_genome(real_data, "1.2")
    assert region_set.num_clipped == whole.num_clipped + 1
    assert len(region_set.regions) == len(whole.regions) - 2


def test_wrong_ids_of_the_real_split_file_are_one_clear_line(real_data, tmp_path):
    folder = real_data / "vg_splits"
    twice = edited(
        folder,
        tmp_path,
        "densecap_splits.json",
        lambda text: changed(text, lambda c: c["val"].append(c["val"][0])),
    )
    with pytest.raises(InputError, match=r"densecap_splits.json: val\[5000\]: .* occurs twice"):
        visual_genome(real_data, "1.2", image_ids=twice, split="val")
    with pytest.raises(InputError, match=r"vals: no such split; did you mean val\?"):
        visual_genome(
            real_data, "1.2", image_ids=str(folder / "densecap_splits.json"), split="vals"
        )
    cut = edited(folder, tmp_path, "densecap_splits.json", lambda text: text[:1000])
    with pytest.raises(InputError, match=r"densecap_splits.json: line 1 column \d+: is not JSON"):
        visual_genome(real_data, "1.2", image_ids=cut, split="val")


def test_a_missing_real_photo_is_one_clear_line(real_data, tmp_path):
    mini = real_data / "coco_mini_permissive"
    gone = next(iter(coco(real_data, "instances").images.values()))
    name = gone.path.rpartition("/")[2]
    for photo in (mini / "images").iterdir():
        if photo.name != name:
            (tmp_path / photo.name).symlink_to(photo)
    region_set = coco(real_data, "instances", images=str(tmp_path))
    assert [record.image_id for record in region_set.missing_images()] == [gone.image_id]
    with pytest.raises(InputError, match=rf"{name}: images: no such image file \(1 of"):
        region_set.check_images()
