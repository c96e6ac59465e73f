"""Ids, texts, names and masks of annotation files mean one thing, in every reader."""

import json
import pickle

import numpy as np
import pytest

from sca_bench.data.load import load_split
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.errors import InputError
from sca_bench.settings import RefCocoSplit

# --- ids --------------------------------------------------------------------------------------


def as_texts(record, *keys):
    record |= {key: str(record[key]) for key in keys if key in record}


def as_floats(record, *keys):
    record |= {key: float(record[key]) for key in keys if key in record}


@pytest.mark.parametrize("change", [as_texts, as_floats])
@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_coco_ids_of_another_type_are_the_same_ids(instances, change, part):
    expected = load_split(instances.split())
    for record in instances.content[part]:
        change(record, "id", "image_id", "category_id")
    found = load_split(instances.split())
    assert (found.images, found.regions) == (expected.images, expected.regions)


@pytest.mark.parametrize("change", [as_texts, as_floats])
def test_panoptic_ids_of_another_type_are_the_same_ids(panoptic, change):
    expected = load_split(panoptic.split())
    for record in panoptic.segments:
        change(record, "id", "category_id")
    assert load_split(panoptic.split()).regions == expected.regions


@pytest.mark.parametrize("change", [as_texts, as_floats])
def test_visual_genome_ids_of_another_type_are_the_same_ids(vg, change):
    expected = load_split(vg.split())
    for record in vg.image_data:
        change(record, "image_id")
    change(vg.regions[0]["regions"][0], "region_id", "image_id")
    assert load_split(vg.split()).regions == expected.regions


@pytest.mark.parametrize("part", ["images", "categories", "annotations"])
@pytest.mark.parametrize("kind", [str, float])
def test_ids_that_become_equal_are_refused(instances, part, kind):
    first = instances.content[part][0]
    instances.content[part].append(first | {"id": kind(first["id"])})
    with pytest.raises(InputError, match=rf"{part}\[\d\].*{first['id']}.* occurs twice"):
        load_split(instances.split())


@pytest.mark.parametrize("wrong", [True, None, 1.5, "", [1]])
def test_what_is_no_id_is_refused(instances, wrong):
    instances.content["annotations"][0]["category_id"] = wrong
    line = r"annotations\[0\].category_id: expected an id, found "
    with pytest.raises(InputError, match=line):
        load_split(instances.split())


def test_a_list_of_images_may_write_ids_as_texts(instances, write_json, tmp_path):
    ids = write_json(tmp_path / "ids.json", ["7", 8.0])
    assert list(load_split(instances.split(image_ids=ids)).images) == ["7", "8"]


# --- texts ------------------------------------------------------------------------------------

HALF = "\ud83d a cat"
LINE = r"holds \\ud83d, half of a character \({owner}\); write the whole character"


def test_half_a_character_in_coco(instances):
    instances.content["categories"][1]["name"] = HALF
    line = r"instances.json: categories\[1\].name: " + LINE.format(owner="id 2")
    with pytest.raises(InputError, match=line):
        load_split(instances.split())


def test_half_a_character_in_visual_genome(vg):
    vg.regions[1]["regions"][0]["phrase"] = HALF
    line = r"\[1\].regions\[0\].phrase: " + LINE.format(owner="region_id 21")
    with pytest.raises(InputError, match=line):
        load_split(vg.split())


def test_half_a_character_in_a_list_of_ids(instances, write_json, tmp_path):
    ids = write_json(tmp_path / "ids.json", ["7", HALF])
    with pytest.raises(InputError, match=r"ids.json: \[1\]: holds \\ud83d, half of a character"):
        load_split(instances.split(image_ids=ids))


@pytest.mark.parametrize("protocol", range(6))
def test_half_a_character_in_a_pickle(instances, tmp_path, protocol):
    sentences = [{"sent": "a dog"}, {"sent": HALF}]
    refs = [{"ref_id": 5, "ann_id": 70, "image_id": 7, "split": "train", "sentences": sentences}]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))
    instances.split()  # writes instances.json
    split = RefCocoSplit(
        dataset="refcoco",
        refs=str(tmp_path / "refs(unc).p"),
        instances=str(tmp_path / "instances.json"),
        images=str(tmp_path),
    )
    line = r"\[0\].sentences\[1\].sent: " + LINE.format(owner="ref_id 5")
    with pytest.raises(InputError, match=line):
        load_split(split)


def test_bytes_that_are_half_a_character_are_no_utf_8(instances):
    split = instances.split()
    file = instances.folder / "instances.json"
    file.write_bytes(file.read_bytes().replace(b'"person"', b'"\xed\xa0\xbd"'))
    with pytest.raises(InputError, match=r"instances.json: line 1: byte 0xED is not UTF-8"):
        load_split(split)


def test_whole_characters_pass(instances):
    instances.content["categories"][1]["name"] = "\U0001f600 cat"
    texts = {r.references[0] for r in load_split(instances.split()).regions}
    assert "\U0001f600 cat" in texts


# --- names of files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("C:\\images\\7.jpg", "is a path of Windows; write it relative to its folder"),
        ("train2017\\7.jpg", r"is a path of Windows; .* such as 'train2017/7.jpg'"),
        ("http://images.cocodataset.org/val2017/7.jpg", r"is a URL; .* such as 'val2017/7.jpg'"),
        ("file:///data/7.jpg", "is a URL"),
        ("/home/me/7.jpg", "is a path of one machine"),
        ("../7.jpg", "is not the name of a file inside the images folder"),
    ],
)
def test_names_of_other_systems_are_one_line(instances, name, said):
    instances.content["images"][0]["file_name"] = name
    with pytest.raises(InputError, match=r"instances.json: images.0.file_name: .*" + said):
        load_split(instances.split())


def test_a_url_of_visual_genome_that_is_a_path(vg):
    vg.image_data[0]["url"] = "C:\\VG_100K\\1.jpg"
    with pytest.raises(InputError, match=r"image_data.json: 0.url: .* is a path of Windows"):
        load_split(vg.split())


# --- masks ------------------------------------------------------------------------------------

NO_MASK = [None, [], [[]], [[], []], {}]
BROKEN = {
    "torn": ({"size": [6, 8], "counts": "03"}, "runs of 3 pixels for a mask of 6 x 8"),
    "runs": ({"size": [6, 8], "counts": [0, 3]}, "runs of 3 pixels"),
    "turned": ({"size": [8, 6], "counts": [0, 48]}, r"its size is \[8, 6\]"),
    "box": ([[1, 2, 3, 4]], "a polygon needs an even number of at least 6"),
    "far": ([[0, 0, 1e12, 0, 1e12, 1e12]], "a polygon lies outside its image"),
    "text": ("none", "expected polygons or run lengths"),
}


def masked(instances, segmentation):
    for annotation in instances.content["annotations"]:
        size, counts = ([5, 5], [0, 25]) if annotation["image_id"] == 9 else ([6, 8], [0, 48])
        annotation["segmentation"] = {"size": size, "counts": counts}
    instances.content["annotations"][0]["segmentation"] = segmentation
    return load_split(instances.split())


@pytest.mark.parametrize("given", NO_MASK)
def test_nothing_is_no_mask(instances, given):
    region_set = masked(instances, given)
    assert region_set.regions_of("7")[0].segmentation == ""
    line = r"instances.json: eval.prompt: .* region 70 has none; use random_point, or data with"
    with pytest.raises(InputError, match=line):
        RegionDataset(region_set, image_size=8, prompt="mask_point")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_mask_is_refused_only_where_masks_are_needed(instances, case):
    given, said = BROKEN[case]
    region_set = masked(instances, given)
    assert len(region_set.regions) == 4
    RegionDataset(region_set, image_size=8, prompt="box")
    line = rf"instances.json: eval.prompt: .* that of region 70 is none: {said}.*; correct its"
    with pytest.raises(InputError, match=line) as caught:
        RegionDataset(region_set, image_size=8, prompt="mask_point")
    assert "\n" not in str(caught.value)


def test_masks_come_unread_through_an_index(instances):
    (instances.folder / "sca_bench_index").mkdir()
    masked(instances, BROKEN["torn"][0])
    again = load_split(instances.split())
    assert json.loads(again.regions_of("7")[0].segmentation) == BROKEN["torn"][0]
    with pytest.raises(InputError, match="that of region 70 is none: runs of 3 pixels"):
        RegionDataset(again, image_size=8, prompt="mask_point")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_panoptic_maps_of_other_values_are_refused(panoptic, kind):
    from PIL import Image

    Image.fromarray(np.zeros((4, 6), kind)).save(panoptic.pngs / "5.png")
    with pytest.raises(InputError, match=r"5.png: holds .* values, expected R, G and B of 8 bits"):
        load_split(panoptic.split())
