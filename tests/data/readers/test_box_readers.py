"""GRiT's Visual Genome, Objects365 and V3Det: COCO's layout with their own habits."""

import json

import pytest

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.load import load_split
from sca_bench.errors import InputError, at
from sca_bench.settings import GritSplit, Objects365Split, V3DetSplit

WHERE = "suite.yaml"
HUGE = 900_100_184_613


def annotation(number, image, box, category=1, **more):
    return {"id": number, "image_id": image, "bbox": box, "category_id": category, **more}


@pytest.fixture
def read(tmp_path, write_json):
    """Return a reader of the data sets, each from its own small file."""

    def build(kind, content, **changes):
        settings = {
            "dataset": kind,
            "images": str(tmp_path / "images"),
            "annotations": write_json(tmp_path / "annotations.json", content),
            "min_side_px": 0,
        }
        split = {"objects365": Objects365Split, "v3det": V3DetSplit}.get(kind, GritSplit)
        with at(WHERE):
            return load_split(split(**(settings | changes)))

    return build


@pytest.fixture
def objects365():
    images = [
        {"id": HUGE, "width": 20, "height": 10, "file_name": "images/v1/patch8/a.jpg"},
        {"id": 2, "width": 20, "height": 10, "file_name": "images/v2/patch19/b.jpg"},
    ]
    return {
        "images": images,
        "annotations": [
            annotation(HUGE + 1, HUGE, [1.5, 2, 4, 5]),
            annotation(2, 2, [0, 0, 9, 9], 2, iscrowd=0, isfake=0),
            annotation(3, 2, [0, 0, 9, 9], 2, iscrowd=1),
        ],
        "categories": [{"id": 1, "name": "Cabinet/shelf"}, {"id": 2, "name": "Person"}],
    }


def test_objects365(read, objects365):
    region_set = read("objects365", objects365)
    first, second = region_set.regions
    assert (first.region_id, first.image_id) == (str(HUGE + 1), str(HUGE))
    assert first.references == ("Cabinet shelf",)
    assert first.box_xyxy == (1.5, 2.0, 5.5, 7.0)
    assert second.segmentation == ""
    assert region_set.dropped == {"crowd": 1}
    assert region_set.name == "objects365 annotations.json"
    assert list(read("objects365", objects365, split="patch19").images) == ["2"]


@pytest.mark.parametrize("kept", ["images/v1/patch8", "v1/patch8", "patch8", ""])
def test_images_lie_below_any_tail_of_their_folders(tmp_path, make_photo, kept):
    make_photo(tmp_path / "images" / kept / "a.jpg", 20, 10)
    path = ImageFolder(str(tmp_path / "images")).path("images/v1/patch8/a.jpg", "x.json")
    assert path == str(tmp_path / "images" / kept / "a.jpg")


def test_without_the_folder_the_name_counts_as_it_is(tmp_path):
    path = ImageFolder(str(tmp_path / "no")).path("v1/patch8/a.jpg", "x.json")
    assert path == f"{tmp_path}/no/v1/patch8/a.jpg"


def test_v3det_needs_no_annotation_ids(read):
    content = {
        "images": [{"id": 5, "width": 9, "height": 9, "file_name": "images/n07745046/a.jpg"}],
        "annotations": [
            {"image_id": 5, "category_id": 7, "bbox": [0, 0, 3, 3], "iscrowd": 0},
            {"image_id": 5, "category_id": 7, "bbox": [1, 1, 3, 3], "iscrowd": 0},
        ],
        "categories": [{"id": 7, "name": "hackberry", "novel": False}],
    }
    regions = read("v3det", content).regions
    assert [r.region_id for r in regions] == ["0", "1"]
    assert regions[0].references == ("hackberry",)
    with pytest.raises(InputError, match=r"annotations\[0\].id: the key is missing"):
        read("objects365", content)


@pytest.fixture
def grit():
    return {
        "images": [
            {"id": 1, "width": 20, "height": 10, "file_name": "1.jpg"},
            {"id": 2, "width": 20, "height": 10, "file_name": "2.jpg"},
        ],
        "annotations": [
            annotation(11, 1, [0, 0, 5, 5], caption="a red  clock "),
            annotation(21, 2, [0, 0, 5, 5], caption="two men on a bench"),
        ],
        "categories": [{"id": 1, "name": "object"}],
    }


def test_grit_takes_the_caption_not_the_category(read, grit):
    region_set = read("visual_genome_grit", grit)
    captions = [region.references for region in region_set.regions]
    assert captions == [("a red clock",), ("two men on a bench",)]
    assert region_set.task == "caption"


def test_grit_finds_images_in_the_original_folders(read, grit, tmp_path, make_photo):
    make_photo(tmp_path / "images" / "VG_100K" / "1.jpg", 20, 10)
    make_photo(tmp_path / "images" / "VG_100K_2" / "2.jpg", 20, 10)
    read("visual_genome_grit", grit).check_images()


def test_grit_without_a_caption_is_one_clear_line(read, grit):
    del grit["annotations"][1]["caption"]
    with pytest.raises(InputError, match=r"annotations\[1\].caption: the key is missing; keys"):
        read("visual_genome_grit", grit)


def test_the_task_of_a_split_reaches_its_images(read, objects365):
    region_set = read("objects365", objects365, task="recognition")
    assert region_set.task_of(str(HUGE)) == "recognition"
    assert read("objects365", objects365).task_of("2") == "caption"


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda text: text[: len(text) // 2], r"annotations.json: line 1 column \d+: is not JSON"),
        (lambda text: text.replace("[1.5, 2, 4, 5]", "[-5, -5, 2, 2]"), None),
        (lambda text: text.replace('"id": 2, "im', f'"id": {HUGE + 1}, "im'), "occurs twice"),
        (lambda text: text.replace('"categories"', '"classes"'), "categories: the key is missing"),
    ],
)
def test_malformed_files(tmp_path, objects365, edit, line):
    file = tmp_path / "annotations.json"
    file.write_text(edit(json.dumps(objects365)))
    split = Objects365Split(dataset="objects365", images="no", annotations=str(file), min_side_px=0)
    if line is None:
        assert load_split(split).dropped["box wholly outside its image"] == 1
        return
    with pytest.raises(InputError, match=line) as caught:
        load_split(split)
    assert "\n" not in str(caught.value)
