import json

import numpy as np
import pytest

from sca_bench.boxes import tight_box
from sca_bench.data.load import load_split
from sca_bench.data.readers.coco_instances import instance_phrase
from sca_bench.data.readers.coco_panoptic import panoptic_phrase
from sca_bench.data.readers.selection import split_names
from sca_bench.errors import InputError, at
from sca_bench.formats.rle import encode_mask, read_mask

WHERE = "suite.yaml"


def read(files, **changes):
    with at(WHERE):
        return load_split(files.split(**changes))


def test_instances_keep_image_order_and_drop_crowds(instances):
    region_set = read(instances)
    assert [r.region_id for r in region_set.regions] == ["70", "80", "81", "90"]
    assert [r.references[0] for r in region_set.regions_of("8")] == ["Cabinet shelf", "person"]
    assert region_set.regions_of("9")[0].box_xyxy == (0.5, 0.5, 3.5, 3.75)
    assert region_set.dropped == {"crowd": 1}


def test_every_form_of_mask_is_read(instances):
    polygon, runs, absent, empty = read(instances).regions
    assert tight_box(read_mask(polygon.segmentation, 6, 8)) == polygon.box_xyxy
    expected = np.zeros((6, 8), dtype=bool)
    expected[:3, 0] = True
    np.testing.assert_array_equal(read_mask(runs.segmentation, 6, 8), expected)
    assert absent.segmentation == ""
    assert empty.segmentation == ""
    instances.content["annotations"][3]["segmentation"] = packed = encode_mask(expected)
    kept = read(instances).regions[1].segmentation
    assert json.loads(kept) == packed
    np.testing.assert_array_equal(read_mask(kept, 6, 8), expected)


def test_split_reads_the_folder_of_the_url(instances):
    region_set = read(instances, split="train2017")
    assert list(region_set.images) == ["7", "8"]
    assert region_set.dropped == {"crowd": 1, "in images not of train2017": 1}
    assert region_set.images_left_out == {"not of train2017": 1}
    with pytest.raises(InputError, match=r"suite.yaml: split: .*'vol2017'.*did you mean val2017\?"):
        read(instances, split="vol2017")


def test_a_record_that_states_its_split_is_believed(instances):
    instances.content["images"][0]["source_split"] = "val2017"
    assert list(read(instances, split="val2017").images) == ["7", "9"]
    assert list(read(instances, split="train2017").images) == ["8"]


def test_records_without_any_mark_cannot_be_split(instances):
    for image in instances.content["images"]:
        del image["coco_url"]
    with pytest.raises(InputError, match="carry neither source_split nor a folder"):
        read(instances, split="train2017")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"coco_url": "http://host/train2017/1.jpg", "file_name": "1.jpg"}, {"train2017"}),
        ({"file_name": "images/v1/patch8/x.jpg"}, {"images", "v1", "patch8"}),
        ({"url": "https://host/rak248/VG_100K/2.jpg"}, {"rak248", "VG_100K"}),
        ({"source_split": "dev", "coco_url": "http://host/train2017/1.jpg"}, {"dev"}),
        ({"file_name": "1.jpg"}, set()),
    ],
)
def test_marks(record, expected):
    assert split_names(record) == expected


def value_at(*keys):
    def value(files):
        found = files.content
        for key in keys:
            found = found[key]
        return found

    return value


def put(*keys, value):
    return lambda files: value_at(*keys[:-1])(files).__setitem__(keys[-1], value)


def cut(*keys):
    return lambda files: value_at(*keys[:-1])(files).pop(keys[-1])


SHARED = {
    "no annotations": (cut("annotations"), "annotations: the key is missing"),
    "no categories": (cut("categories"), "categories: the key is missing"),
    "images not a list": (put("images", value={}), r"images: expected a list, found \{\}"),
    "no width": (cut("images", 0, "width"), r"images\[0\].width: the key is missing"),
    "width as text": (
        put("images", 0, "width", value="8"),
        r"images\[0\].width: expected a positive integer, found \"8\"",
    ),
    "image twice": (
        lambda f: f.content["images"].append(f.content["images"][0]),
        r"images\[\d\].id: \"\d\" occurs twice",
    ),
    "unknown image": (
        put("annotations", 0, "image_id", value=99),
        r"annotations\[0\].image_id: image 99 is not among the images",
    ),
    "absolute name": (
        put("images", 0, "file_name", value="/etc/x.jpg"),
        "file_name: '/etc/x.jpg' is a path of one machine; write it relative to its folder",
    ),
    "annotation is a number": (
        put("annotations", 0, value=4),
        r"annotations\[0\]: expected an object, found 4",
    ),
    "top level": (
        lambda f: setattr(f, "content", []),
        r"top level: expected an object, found \[\]",
    ),
}

INSTANCES = {
    **SHARED,
    "category twice": (put("categories", 0, "id", value=2), r"categories\[1\]: id 2 occurs twice"),
    "no bbox": (cut("annotations", 0, "bbox"), r"annotations\[0\].bbox: the key is missing"),
    "short bbox": (
        put("annotations", 0, "bbox", value=[1, 2, 3]),
        r"annotations\[0\].bbox: expected 4 numbers, found \[1, 2, 3\]",
    ),
    "bbox of text": (
        put("annotations", 0, "bbox", 2, value="3"),
        r"annotations\[0\].bbox\[2\]: expected a number, found \"3\"",
    ),
    "bbox beyond numbers": (
        put("annotations", 0, "bbox", 2, value=10**400),
        r"annotations\[0\].bbox\[2\]: expected a number, found 1000",
    ),
    "annotation twice": (
        put("annotations", 3, "id", value=70),
        r"annotations\[3\].id: \"70\" occurs twice",
    ),
    "unknown category": (
        put("annotations", 0, "category_id", value=9),
        r"annotations\[0\].category_id: 9 is not among the 2 categories",
    ),
    "iscrowd": (
        put("annotations", 0, "iscrowd", value=2),
        r"annotations\[0\].iscrowd: expected 0 or 1, found 2",
    ),
}


@pytest.mark.parametrize("case", INSTANCES)
def test_malformed_instances_are_one_clear_line(instances, case):
    edit, message = INSTANCES[case]
    edit(instances)
    with pytest.raises(InputError, match="instances.json: .*" + message):
        read(instances)


PANOPTIC = {
    **SHARED,
    "category twice": (
        put("categories", 0, "id", value=199),
        r"categories\[1\]: id 199 occurs twice",
    ),
    "no segments": (
        cut("annotations", 0, "segments_info"),
        r"annotations\[0\].segments_info: the key is missing",
    ),
    "segment twice": (
        put("annotations", 0, "segments_info", 2, "id", value=3),
        r"segments_info\[2\].id: \"5_3\" occurs twice",
    ),
    "two annotations": (
        lambda f: f.content["annotations"].append(f.content["annotations"][0]),
        "image 5 has two annotations",
    ),
    "no pixel": (
        put("annotations", 0, "segments_info", 0, "id", value=4),
        r"segments_info\[0\].id: 4 has no pixel in 5.png",
    ),
    "bbox": (
        put("annotations", 0, "segments_info", 0, "bbox", value=None),
        r"segments_info\[0\].bbox: expected a list, found null",
    ),
}


@pytest.mark.parametrize("case", PANOPTIC)
def test_malformed_panoptic_is_one_clear_line(panoptic, case):
    edit, message = PANOPTIC[case]
    edit(panoptic)
    with pytest.raises(InputError, match="panoptic.json: .*" + message):
        read(panoptic)


def test_panoptic_segments_become_regions_with_masks(panoptic):
    region_set = read(panoptic)
    person, wall = region_set.regions
    assert (person.region_id, wall.region_id) == ("5_3", "5_70000")
    assert wall.references == ("wall",)
    assert region_set.dropped == {"crowd": 1}
    assert read_mask(person.segmentation, 4, 6).sum() == 8
    assert read_mask(wall.segmentation, 4, 6).sum() == 15
    assert tight_box(read_mask(wall.segmentation, 4, 6)) == wall.box_xyxy
    assert [r.segmentation for r in read(panoptic, panoptic=None).regions] == ["", ""]


def test_a_missing_png_or_folder_is_named(panoptic, make_photo):
    with pytest.raises(InputError, match="nowhere: panoptic: no such folder"):
        read(panoptic, panoptic="nowhere")
    make_photo(panoptic.pngs / "5.png", 3, 3)
    with pytest.raises(InputError, match=r"5.png: is 3 x 3 pixels, but its image is 6 x 4"):
        read(panoptic)
    (panoptic.pngs / "5.png").write_bytes(b"no png")
    with pytest.raises(InputError, match=r"5.png: cannot be decoded"):
        read(panoptic)
    (panoptic.pngs / "5.png").unlink()
    with pytest.raises(InputError, match=r"5.png: panoptic: no such file"):
        read(panoptic)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("wall-other-merged", "wall"),
        ("sky-other-merged", "sky"),
        ("tree-merged", "tree"),
        ("door-stuff", "door"),
        ("water-other", "water"),
        ("wall-brick", "brick wall"),
        ("floor-wood", "wood floor"),
        ("window-blind", "window blind"),
        ("playingfield", "playing field"),
        ("teddy bear", "teddy bear"),
        ("other", "other"),
    ],
)
def test_panoptic_names_become_phrases(name, phrase):
    assert panoptic_phrase(name) == phrase


def test_instance_names_become_phrases():
    assert instance_phrase("Cabinet/shelf") == "Cabinet shelf"
    assert instance_phrase("dining table") == "dining table"
