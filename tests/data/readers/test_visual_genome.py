import pytest

from sca_bench.data.load import load_split
from sca_bench.errors import InputError, at

WHERE = "suite.yaml"


def read(files, **changes):
    with at(WHERE):
        return load_split(files.split(**changes))


def test_both_versions_yield_the_same_regions(vg_of_version):
    region_set = read(vg_of_version)
    assert [r.region_id for r in region_set.regions] == ["11", "12", "13", "21", "22"]
    first, _, third = region_set.regions_of("1")
    assert first.box_xyxy == (4, 2, 14, 10)
    assert first.references == ("the clock is green",)
    assert third.references == ("red car",)
    assert third.box_xyxy == (30, 20, 40, 30)
    assert region_set.num_clipped == 1
    assert region_set.dropped == {}


def test_image_files_are_found_in_the_official_folders_and_in_a_flat_one(vg, make_photo):
    stored = make_photo(vg.images / "VG_100K_2" / "1.jpg", 40, 30)
    make_photo(vg.images / "2.jpg", 20, 20)
    region_set = read(vg)
    assert region_set.images["1"].path.endswith("images/VG_100K_2/1.jpg")
    assert region_set.images["2"].path.endswith("images/2.jpg")
    region_set.check_images()
    assert region_set.load_image("1").shape == stored.shape
    assert region_set.load_image("2").dtype == "uint8"


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((4, 2, 0, 8), "box without area"),
        ((4, 2, 5, -1), "box without area"),
        ((41, 2, 5, 5), "box wholly outside its image"),
        ((38, 2, 50, 5), "side of at most 3 px"),
        ((4, 2, 3, 8), "side of at most 3 px"),
        ((4, 2, 8, 3), "side of at most 3 px"),
    ],
)
def test_an_unusable_box_is_dropped_and_counted(vg, box, reason):
    vg.regions[0]["regions"][0].update(zip(("x", "y", "width", "height"), box, strict=True))
    region_set = read(vg, min_side_px=3)
    assert region_set.dropped == {reason: 1}
    assert "11" not in {r.region_id for r in region_set.regions}
    kept = "4 regions in 2 images kept (1 clipped at the image border)"
    assert f"{kept}; 1 annotations dropped ({reason}: 1)" in region_set.summary()


def test_an_empty_phrase_is_dropped_and_counted(vg):
    vg.regions[1]["regions"][0]["phrase"] = " \n"
    assert read(vg).dropped == {"empty phrase": 1}


def test_every_annotation_counts_as_published(vg):
    """The published numbers are over all regions, boxes as they are stored, empty phrases too."""
    boxes = [(4, 2, 0, 8), (41, 2, 5, 5), (38, 2, 50, 5)]
    for region, box in zip(vg.regions[0]["regions"], boxes, strict=True):
        region.update(zip(("x", "y", "width", "height"), box, strict=True))
    vg.regions[1]["regions"][0]["phrase"] = " \n"
    assert len(read(vg, min_side_px=3).regions) == 1
    region_set = read(vg, min_side_px=3, as_published=["regions"])
    assert [r.region_id for r in region_set.regions] == ["11", "12", "13", "21", "22"]
    found = [r.box_xyxy for r in region_set.regions_of("1")]
    assert found == [(4, 2, 4, 10), (41, 2, 46, 7), (38, 2, 88, 7)]
    assert region_set.regions_of("2")[0].references == ("",)
    assert (region_set.dropped, region_set.num_clipped) == ({}, 0)


def test_phrases_keep_their_white_space_as_published(vg):
    raw = [" the clock  is\tgreen ", "red car\n", "a door"]
    for region, phrase in zip(vg.regions[0]["regions"], raw, strict=True):
        region["phrase"] = phrase
    vg.regions[1]["regions"][0]["phrase"] = " \n"

    def phrases(**changes):
        region_set = read(vg, **changes)
        return [r.references[0] for r in region_set.regions_of("1")], region_set.dropped

    empty = {"empty phrase": 1}
    assert phrases() == (["the clock is green", "red car", "a door"], empty)
    assert phrases(as_published=["white_space"]) == (raw, empty)
    assert phrases(as_published=["white_space", "regions"]) == (raw, {})


def test_an_image_that_loses_all_regions_is_left_out_and_counted(vg):
    region_set = read(vg, min_side_px=15)
    assert list(region_set.images) == ["1"]
    assert region_set.images_left_out == {"without a usable region": 1}
    assert sum(region_set.dropped.values()) + len(region_set.regions) == 5


def test_a_list_of_ids_selects_images(vg, write_json, tmp_path):
    ids = write_json(tmp_path / "ids.json", [2, 77])
    region_set = read(vg, image_ids=ids)
    assert list(region_set.images) == ["2"]
    assert region_set.dropped == {f"in images not listed in {ids}": 3}
    assert region_set.images_left_out == {
        f"not listed in {ids}": 1,
        "listed but not in the annotations": 1,
    }


def test_a_split_file_selects_images(vg, write_json, tmp_path):
    ids = write_json(tmp_path / "splits.json", {"train": [1], "val": [2], "test": [3]})
    assert list(read(vg, image_ids=ids, split="train").images) == ["1"]
    assert list(read(vg, image_ids=ids, split="val").images) == ["2"]
    with pytest.raises(InputError, match=r"splits.json: image_ids: none of its 1 image ids"):
        read(vg, image_ids=ids, split="test")
    with pytest.raises(InputError, match=r"splits.json: tran: no such split; did you mean train\?"):
        read(vg, image_ids=ids, split="tran")
    with pytest.raises(InputError, match=r"suite.yaml: split: is needed: .* \(test, train, val\)"):
        read(vg, image_ids=ids)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "ids.json: image_ids: the list of image ids is empty"),
        ([1, 1], r"ids.json: image_ids\[1\]: \"1\" occurs twice"),
        ([1, None], r"ids.json: image_ids\[1\]: expected an id, found null"),
        ("1", "ids.json: image_ids: expected a list of ids or an object"),
    ],
)
def test_a_bad_list_of_ids_is_refused(vg, write_json, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(vg, image_ids=write_json(tmp_path / "ids.json", content))


def test_a_plain_list_has_no_split(vg, write_json, tmp_path):
    with pytest.raises(InputError, match=r"suite.yaml: split: .* is one plain list"):
        read(vg, image_ids=write_json(tmp_path / "ids.json", [1]), split="train")


def test_max_images_counts_images_with_regions(vg):
    vg.regions[0]["regions"] = []
    region_set = read(vg, max_images=1)
    assert list(region_set.images) == ["2"]
    vg.regions.reverse()
    vg.regions[1]["regions"] = [vg.regions[0]["regions"][0] | {"region_id": 5, "image_id": 1}]
    region_set = read(vg, max_images=1)
    assert list(region_set.images) == ["2"]
    assert region_set.dropped == {"in images beyond max_images": 1}


def edit_region(key, value):
    def edit(files):
        files.regions[0]["regions"][1][key] = value

    return edit


def drop_key(key):
    return lambda files: files.regions[0]["regions"][1].pop(key)


MALFORMED = {
    "top level": (
        lambda f: setattr(f, "regions", {"a": 1}),
        "region_descriptions.json: top level: expected a list, found",
    ),
    "entry": (lambda f: f.regions.append(3), r"\[2\]: expected an object, found 3"),
    "no id": (
        lambda f: f.regions[1].pop("id"),
        r"\[1\].id: the key is missing; keys here: regions",
    ),
    "no regions": (lambda f: f.regions[1].pop("regions"), r"\[1\].regions: the key is missing"),
    "image twice": (lambda f: f.regions.append(f.regions[0]), r"\[2\].id: \"1\" occurs twice"),
    "region twice": (
        edit_region("region_id", 11),
        r"\[0\].regions\[1\].region_id: \"11\" occurs twice",
    ),
    "other image": (
        edit_region("image_id", 2),
        r"regions\[1\].image_id: is 2, but it stands under image 1",
    ),
    "unknown image": (
        lambda f: f.image_data.pop(),
        r"\[1\].id: image 2 is not in .*image_data.json",
    ),
    "text as number": (
        edit_region("width", "12"),
        r"\[0\].regions\[1\].width: expected a number, found \"12\"",
    ),
    "true as number": (edit_region("x", True), r"regions\[1\].x: expected a number, found true"),
    "not finite": (edit_region("y", float("nan")), r"regions\[1\].y: expected a number, found NaN"),
    "too large": (edit_region("y", 10**400), r"region \w+: its box has a number that is too large"),
    "phrase": (edit_region("phrase", None), r"regions\[1\].phrase: expected a string, found null"),
    "no phrase": (drop_key("phrase"), r"regions\[1\].phrase: the key is missing"),
    "no region id": (drop_key("region_id"), r"regions\[1\].region_id: the key is missing"),
    "height 0": (
        lambda f: f.image_data[0].update(height=0),
        r"image_data.json: \[0\].height: expected a positive integer, found 0",
    ),
    "no url": (
        lambda f: f.image_data[0].pop("url"),
        r"image_data.json: \[0\].url: the key is missing",
    ),
    "climbing url": (
        lambda f: f.image_data[0].update(url="http://a/../x.jpg"),
        r"image_data.json: .*url: '../x.jpg' is not the name",
    ),
    "image data twice": (
        lambda f: f.image_data.append(f.image_data[0]),
        r"\[2\].image_id: \"1\" occurs twice",
    ),
    "no regions at all": (
        lambda f: setattr(f, "regions", []),
        "region_descriptions.json: holds no annotation",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_one_clear_line(vg, case):
    edit, message = MALFORMED[case]
    edit(vg)
    with pytest.raises(InputError, match=message) as caught:
        read(vg)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_named_with_the_place(vg):
    split = vg.split()
    text = (vg.folder / "region_descriptions.json").read_text()
    (vg.folder / "region_descriptions.json").write_text(text[: len(text) // 2])
    with pytest.raises(
        InputError, match=r"region_descriptions.json: line 1 column \d+: is not JSON"
    ):
        load_split(split)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "regions: no such file; give the right path in regions"),
        (b"", "line 1 column 1: is not JSON"),
        (b'["\xff\xfa"]', "line 1: byte 0xFF is not UTF-8"),
    ],
)
def test_a_missing_empty_or_binary_file_is_refused(vg, content, message):
    split = vg.split()
    file = vg.folder / "region_descriptions.json"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_split(split)


def test_nothing_left_says_why(vg):
    with pytest.raises(
        InputError, match=r"no region is left of 5 annotations \(side of at most 99 px: 5\)"
    ):
        read(vg, min_side_px=99)
