"""A table of one's own regions: what a row may say, what is refused, and how a table is divided."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sca_bench.data.load import load_split
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.readers.regions import RegionsSplit, Shares, read_texts
from sca_bench.errors import InputError
from sca_bench.formats.rle import encode_mask, read_mask

BOX = {"image": "a.png", "box_xyxy": [2, 3, 12, 9], "caption": "a red bus"}
CSV_HEADER = "image,x,y,width,height,caption"
CSV_ROW = "a.png,2,3,10,6,a red bus"


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 40 x 30 px and one in a sub-folder that lies on its side."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 30), "red").save(images / f"{name}.png")
    turned = Image.new("RGB", (40, 30), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(images / "sub" / "d.jpg", exif=exif)
    return tmp_path


def split_of(folder, table, **more):
    return RegionsSplit(dataset="regions", table=str(table), images=str(folder / "images"), **more)


def lines(folder, *rows, name="regions.jsonl"):
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(folder, *rows, **more):
    return load_split(split_of(folder, lines(folder, *rows), **more))


def csv_file(folder, *rows, header=CSV_HEADER, encoding="utf-8"):
    path = folder / "regions.csv"
    path.write_bytes("\n".join([header, *rows]).encode(encoding))
    return path


def read_csv(folder, *rows, header=CSV_HEADER, **more):
    return load_split(split_of(folder, csv_file(folder, *rows, header=header), **more))


def test_a_row_is_a_region_and_the_two_formats_say_the_same(folder):
    one = read_jsonl(
        folder,
        BOX,
        {"image": "b.png", "box_xywh": [1, 1, 5, 5], "captions": ["a  dog", "the dog"]},
        {"image": "a.png", "box_xywh": [0, 0, 40, 30], "caption": "all", "region_id": 7},
    )
    header = f"{CSV_HEADER},caption_2,region_id"
    rows = ("a.png,2,3,10,6,a red bus,,", "b.png,1,1,5,5,a dog,the dog,", "a.png,0,0,40,30,all,,7")
    other = read_csv(folder, *rows, header=header)
    assert one.regions == other.regions
    assert [r.region_id for r in one.regions] == ["a.png_0", "7", "b.png_0"]
    assert one.regions[0].box_xyxy == (2.0, 3.0, 12.0, 9.0)
    assert one.regions[2].references == ("a dog", "the dog")
    assert one.images["a.png"].width == 40
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,x0,y0,x1,y1,caption", "a.png,2,3,12,9,a red bus"),
        ("image,box_xyxy,caption", 'a.png,"[2, 3, 12, 9]",a red bus'),
        ("caption,box_xywh,image", '"a red bus","[2, 3, 10, 6]",a.png'),
        ("image,x,y,width,height,x0,y0,x1,y1,caption", "a.png,2,3,10,6,,,,,a red bus"),
    ],
)
def test_csv_boxes_are_named_by_their_columns(folder, header, row):
    (region,) = read_csv(folder, row, header=header).regions
    assert (region.box_xyxy, region.references) == ((2.0, 3.0, 12.0, 9.0), ("a red bus",))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_line_ends_of_windows_are_no_matter(folder, mark, ending):
    for name, text in (
        ("r.csv", [CSV_HEADER.encode(), CSV_ROW.encode(), b"", CSV_ROW.encode()]),
        ("r.jsonl", [json.dumps(BOX).encode(), b"", json.dumps(BOX).encode()]),
    ):
        path = folder / name
        path.write_bytes(mark + ending.join(text) + ending)
        assert len(load_split(split_of(folder, path)).regions) == 2


def test_a_caption_may_hold_commas_quotes_and_line_breaks(folder):
    row = 'a.png,2,3,10,6,"a ""red"" bus,\nparked"'
    found = read_csv(folder, row, CSV_ROW.replace("2,3", "4,3"))
    assert found.regions[0].references == ('a "red" bus, parked',)
    with pytest.raises(InputError, match=r"line 4: x: \"q\" is no number"):
        read_csv(folder, row, CSV_ROW.replace("2,3", "q,3"))


def test_sizes_are_those_of_the_upright_image(folder):
    row = {"image": "sub/d.jpg", "box_xyxy": [0, 0, 30, 40], "caption": "tall"}
    found = read_jsonl(folder, row)
    record = found.images["sub/d.jpg"]
    assert (record.width, record.height) == (30, 40)
    assert found.load_image("sub/d.jpg").shape == (40, 30, 3)
    with pytest.raises(InputError, match=r"line 1: box_xyxy: .* out of its image of 30 x 40 px"):
        read_jsonl(folder, row | {"box_xyxy": [0, 0, 40, 30]})


def test_masks_are_kept_and_have_their_tight_box(folder):
    mask = np.zeros((30, 40), bool)
    mask[5:10, 8:20] = True
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "m.png")
    polygon = [[8, 5, 20, 5, 20, 10, 8, 10]]
    start = {"image": "a.png", "caption": "x"}
    found = read_jsonl(
        folder,
        start | {"mask": "m.png"},
        start | {"mask": encode_mask(mask)},
        start | {"mask": polygon},
        start | {"mask": polygon, "box_xywh": [0, 0, 9, 9]},
        masks=str(folder / "masks"),
    )
    assert [r.box_xyxy for r in found.regions] == [(8.0, 5.0, 20.0, 10.0)] * 3 + [(0, 0, 9, 9)]
    for region in found.regions[:3]:
        assert (read_mask(region.segmentation, 30, 40) == mask).all()
    row = f'a.png,"{json.dumps(polygon)}",x'
    (region,) = read_csv(folder, row, header="image,mask,caption").regions
    assert region == replace(found.regions[2], region_id="a.png_0")


def test_a_point_alone_is_for_the_prompt_point(folder):
    rows = ("a.png,7.5,8.25,x", "b.png,0,0,y")
    found = read_csv(folder, *rows, header="image,point_x,point_y,caption")
    assert (
        found.regions
        == read_jsonl(
            folder,
            {"image": "a.png", "point_xy": [7.5, 8.25], "caption": "x"},
            {"image": "b.png", "point_xy": [0, 0], "caption": "y"},
        ).regions
    )
    sample = RegionDataset(found, image_size=40, prompt="point").view(0, 0)
    np.testing.assert_allclose(sample.points_xy_input_RP2[0, 0], [7.5, 8.25])
    for prompt in ("box", "box_point", "random_point"):
        with pytest.raises(InputError, match=f"eval.prompt: {prompt} needs a box; region a.png_0"):
            RegionDataset(found, image_size=40, prompt=prompt)


FAULTS = {
    "no image": ({"image": None}, "image: is missing; name the file, relative to"),
    "image is a number": ({"image": 3}, "image: expected the name of a file, found 3"),
    "absolute": ({"image": "/x/a.png"}, "image: '/x/a.png' is a path of one machine"),
    "climbs out": ({"image": "../a.png"}, "image: '../a.png' is not the name of a file inside"),
    "not there": ({"image": "aa.png"}, "image: no such file in .*'aa.png'; did you mean a.png?"),
    "box turned": ({"box_xyxy": [12, 3, 2, 9]}, "box_xyxy: .* has no area; .* is it box_xywh?"),
    "no width": ({"box_xyxy": None, "box_xywh": [2, 3, 0, 6]}, "box_xywh: .* has no area; width"),
    "outside": ({"box_xyxy": [2, 3, 62, 9]}, "box_xyxy: .* reaches 22 px out of its image of 40"),
    "shares": ({"box_xyxy": [0.1, 0.1, 0.5, 0.9]}, "box_xyxy: .* give pixels, not shares"),
    "NaN": ({"box_xyxy": [2, 3, float("nan"), 9]}, "box_xyxy: expected 4 numbers, found NaN among"),
    "truth": ({"box_xyxy": [2, 3, True, 9]}, "box_xyxy: expected 4 numbers, found true among"),
    "three": ({"box_xyxy": [2, 3, 4]}, r"box_xyxy: expected 4 numbers, found \[2, 3, 4\]"),
    "two boxes": ({"box_xywh": [2, 3, 4, 5]}, "box_xyxy: stands beside box_xywh; give one"),
    "nowhere": ({"box_xyxy": None}, "box_xyxy: is missing; say where it lies: box_xyxy, box_xywh"),
    "box and point": ({"point_xy": [1, 2]}, "point_xy: stands beside box_xyxy; leave it out"),
    "point out": ({"box_xyxy": None, "point_xy": [41, 2]}, "point_xy: 41, 2 is outside its image"),
    "no caption": ({"caption": None}, "caption: is missing or empty; say what"),
    "blank caption": ({"caption": " "}, 'caption: expected a text, found " "'),
    "empty list": ({"caption": None, "captions": []}, "caption: is missing or empty"),
    "text for list": ({"caption": None, "captions": "x"}, "captions: expected a list of texts"),
    "one is empty": ({"caption": None, "captions": ["x", ""]}, "captions: .* leave out empty ones"),
    "both": ({"captions": ["x"]}, "caption: stands beside captions; write all"),
    "unknown key": ({"captoin": "x"}, "captoin: no key of a region; did you mean caption?"),
    "no folder": (
        {"mask": "m.png"},
        "mask: names a file, 'm.png', and there is no folder of masks",
    ),
    "no mask": ({"mask": [[1, 2]]}, "mask: a polygon needs an even number"),
    "empty mask": ({"mask": {"size": [30, 40], "counts": [1200]}}, "mask: has no pixel; leave"),
    "id": ({"region_id": 1.5}, "region_id: expected a text or a whole number, found 1.5"),
    "duplicate": ({"region_id": "r"}, r"region_id: 'r' stands in line 1, too; give every region"),
    "two ids": ({"image_id": 9}, "image_id: '9', but an earlier row calls 'a.png' 'a.png'"),
    "huge": ({"box_xyxy": [2, 3, 10**400, 9]}, "box_xyxy: expected 4 numbers, found 1000"),
    "long name": ({"image": "a" * 300}, 'image: "aaa.* cannot be read: File name too long'),
    "long folder": ({"image": "a" * 300 + "/a.png"}, 'image: "aaa.* cannot be read: File name'),
    "another case": ({"image": "C.PNG"}, "image: no such file in .*'C.PNG'; did you mean c.png?"),
    "another folder": ({"image": "x/a.png"}, "image: 'x/a.png' is the same file as 'a.png'; call"),
    "list as caption": ({"caption": ["x"]}, "caption: .*; write texts; several as a list, captio"),
    "nameless": ({"": 1}, "a column, or key, has no name; name it, or leave it out"),
    "surrogate": ({"caption": "\ud83d"}, r"caption: holds \\ud83d, half of a character; write"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_wrong_row_is_named_with_line_field_and_fix(folder, case):
    change, expected = FAULTS[case]
    row = {key: value for key, value in (BOX | change).items() if value is not None}
    with pytest.raises(InputError, match=rf"^\S+regions\.jsonl: line 2: {expected}") as raised:
        read_jsonl(folder, BOX | {"region_id": "r"}, row)
    assert "\n" not in str(raised.value)


CSV_FAULTS = {
    "unknown column": ("image,x,y,width,height,captoin", CSV_ROW, "line 1: captoin: .*caption?"),
    "semicolons": (CSV_HEADER.replace(",", ";"), "", "line 1: has columns apart by semicolons"),
    "tabs": (CSV_HEADER.replace(",", "\t"), "", "line 1: has columns apart by tabs"),
    "no header": (CSV_ROW, CSV_ROW, "line 1: is no header: .*; begin with a line such as image"),
    "twice": (f"{CSV_HEADER},caption", f"{CSV_ROW},x", "line 1: caption: two columns are called"),
    "a column lacks": ("image,x,y,width,caption", "a.png,2,3,10,x", "line 1: height: the column"),
    "too few cells": (
        CSV_HEADER,
        "a.png,2,3,10,a bus",
        "line 2: has 5 cells, but the header has 6",
    ),
    "a comma": (CSV_HEADER, f"{CSV_ROW}, parked", "line 2: has 7 cells, .*; put texts with commas"),
    "no number": (CSV_HEADER, "a.png,2,x,10,6,bus", 'line 2: y: "x" is no number; write pixels'),
    "NaN": (CSV_HEADER, "a.png,2,nan,10,6,bus", 'line 2: y: "nan" is no number'),
    "decimal comma": (CSV_HEADER, 'a.png,2,"3,5",10,6,bus', "line 2: y: .* with a point, such as"),
    "one is empty": (CSV_HEADER, "a.png,2,,10,6,bus", "line 2: y: is empty; give all of x, y, "),
    "no caption": (CSV_HEADER, "a.png,2,3,10,6,", "line 2: caption: is missing or empty"),
    "open quote": (CSV_HEADER, 'a.png,2,3,10,6,"a bus', "line 2: is not CSV: unexpected end"),
    "no JSON": (
        "image,box_xyxy,caption",
        "a.png,2 3 12 9,x",
        "line 2: box_xyxy: .* not JSON: .*; wri",
    ),
    "two boxes": ("image,x0,y0,x1,y1,box_xyxy,caption", 'a.png,1,1,9,9,"[1,1,9,9]",x', "line 2: b"),
    "no name": (f",{CSV_HEADER}", f"0,{CSV_ROW}", "line 1: a column, or key, has no name; name it"),
    "no rows": (CSV_HEADER, "", "holds no row"),
}


@pytest.mark.parametrize("case", CSV_FAULTS)
def test_a_wrong_table_is_named_with_line_column_and_fix(folder, case):
    header, row, expected = CSV_FAULTS[case]
    with pytest.raises(InputError, match=rf"^\S+regions\.csv: {expected}"):
        read_csv(folder, row, header=header)


def test_files_that_are_no_table_are_refused(folder):
    bad = csv_file(folder, CSV_ROW.replace("bus", "café"), encoding="latin-1")
    with pytest.raises(InputError, match=r"line 2: byte 0xE9 is not UTF-8; save the file as UTF-8"):
        load_split(split_of(folder, bad))
    path = folder / "r.jsonl"
    path.write_text(json.dumps([BOX]))
    with pytest.raises(InputError, match=r"line 1: expected an object, found .*without a list"):
        load_split(split_of(folder, path))
    path.write_text(json.dumps(BOX) + "\n{'image': 1}\n")
    with pytest.raises(InputError, match=r"line 2: is not JSON: .*; write one JSON object a line"):
        load_split(split_of(folder, path))
    path.write_text('{"image": "a.png", "image": "b.png"}')
    with pytest.raises(InputError, match=r"line 1: image: stands twice in one object"):
        load_split(split_of(folder, path))
    with pytest.raises(InputError, match=r"table: ends in '.txt', expected .jsonl or .csv"):
        load_split(split_of(folder, folder / "regions.txt"))
    with pytest.raises(InputError, match=r"gone.csv: table: no such file"):
        load_split(split_of(folder, folder / "gone.csv"))


def test_rounding_at_the_border_is_cut_and_counted_and_small_boxes_are_dropped(folder):
    rows = (BOX, BOX | {"box_xyxy": [2, 3, 40.6, 9]}, BOX | {"box_xyxy": [5, 5, 7, 7]})
    found = read_jsonl(folder, *rows, min_side_px=3)
    assert found.num_clipped == 1
    assert found.regions[1].box_xyxy == (2.0, 3.0, 40.0, 9.0)
    assert found.dropped == {"side of at most 3 px": 1}
    with pytest.raises(InputError, match=r"no region is left of 3; lower min_side_px"):
        read_jsonl(folder, *rows, min_side_px=39)


def test_a_column_divides_the_table(folder):
    rows = [BOX | {"split": "fit"}, BOX | {"image": "b.png", "split": "held_out"}]
    found = read_jsonl(folder, *rows, split="held_out")
    assert list(found.images) == ["b.png"]
    assert found.dropped == {"not of held_out": 1}
    assert len(read_jsonl(folder, *rows).regions) == 2
    with pytest.raises(
        InputError, match=r"split: no row .* is of 'heldout'; did you mean held_out"
    ):
        read_jsonl(folder, *rows, split="heldout")
    with pytest.raises(InputError, match=r"shares: the table has a column split"):
        read_jsonl(folder, *rows, split="fit", shares=Shares(train=0.5))
    with pytest.raises(InputError, match=r"line 1: split: expected a text such as train, found"):
        read_jsonl(folder, BOX | {"split": " "}, split="fit")
    with pytest.raises(InputError, match=r"line 3: split: is missing, but other rows have one"):
        read_jsonl(folder, *rows, BOX, split="fit")


def test_shares_divide_by_image_and_every_image_is_in_one_split(folder):
    rows = [BOX | {"image": f"{n}.png"} for n in "abc" for _ in range(3)]
    rows.append({"image": "sub/d.jpg", "box_xywh": [0, 0, 9, 9], "caption": "x"})
    shares = Shares(train=0.5, val=0.25, test=0.25)
    found = {
        name: set(read_jsonl(folder, *rows, split=name, shares=shares).images)
        for name in ("train", "val", "test")
    }
    assert [len(images) for images in found.values()] == [2, 1, 1]
    assert set.union(*found.values()) == {"a.png", "b.png", "c.png", "sub/d.jpg"}
    other = read_jsonl(folder, *rows, split="train", shares=shares.model_copy(update={"seed": 3}))
    assert set(other.images) != found["train"]
    again = read_jsonl(folder, *reversed(rows), split="train", shares=shares)
    assert set(again.images) == found["train"]


def test_shares_are_exact_and_do_not_move():
    names = [f"{n}.jpg" for n in range(20)]
    divided = Shares().divide(names)
    test = sorted(name for name, part in divided.items() if part == "test")
    assert test == ["0.jpg", "12.jpg", "16.jpg", "19.jpg"]
    with pytest.raises(ValueError, match="need a finite sum above 0"):
        Shares(train=0, test=0)
    with pytest.raises(ValueError, match="need a finite sum above 0"):
        Shares(train=float("inf"))


def test_a_split_that_the_shares_leave_empty_says_what_to_do(folder):
    with pytest.raises(InputError, match=r"'test' by shares, which divide 1 image; give more ima"):
        read_jsonl(folder, BOX, split="test")


def test_two_spellings_of_a_name_are_one_image(folder):
    rows = [BOX, BOX | {"image": "./a.png"}, BOX | {"image": "sub//d.jpg"}]
    found = read_jsonl(folder, *rows)
    assert [r.region_id for r in found.regions] == ["a.png_0", "a.png_1", "sub/d.jpg_0"]
    assert list(found.images) == ["a.png", "sub/d.jpg"]


def test_images_that_are_not_wanted_need_not_be_there(folder):
    rows = [BOX | {"split": "train"}, BOX | {"image": "gone.png", "split": "test"}]
    assert list(read_jsonl(folder, *rows, split="train").images) == ["a.png"]
    found = read_jsonl(folder, BOX, BOX | {"image": "gone.png"}, max_images=1)
    assert found.images_left_out == {"beyond max_images": 1}


def test_texts_are_those_of_one_split_and_no_image_is_opened(tmp_path):
    rows = [BOX | {"split": "train", "captions": ["a", "b"]}, BOX | {"split": "test"}]
    del rows[0]["caption"]
    table = lines(tmp_path, *rows)
    assert read_texts(table, "train") == ["a", "b"]
    assert read_texts(table, None) == ["a", "b", "a red bus"]
