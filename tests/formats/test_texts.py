"""Ids, texts and file names of other people's files mean one thing."""

import json

import pytest

from sca_bench.formats.texts import find_no_text, foreign_path, id_text, nfc, read_json_text


@pytest.mark.parametrize("value", [7, "7", 7.0])
def test_an_id_is_one_id_however_it_is_written(value):
    assert id_text(value) == "7"


@pytest.mark.parametrize("value", [True, False, None, "", 7.5, 2.0**53, float("nan"), [7], {}])
def test_what_is_no_id(value):
    assert id_text(value) is None


def test_ids_of_many_digits_keep_them():
    assert id_text(900100184613) == id_text(900100184613.0) == "900100184613"
    assert id_text(2**70) == str(2**70)
    assert id_text("007") == "007"


def test_two_spellings_are_one_text():
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert composed != apart
    assert nfc(composed) == nfc(apart) == composed
    assert nfc("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        (r'{"a": "\ud800"}', ("a",), r"holds \ud800, half of a character"),
        (r'[{"id": 4, "x": ["", "a \udfff b"]}]', (0, "x", 1), r"holds \udfff, .* (id 4)"),
        (r'{"id": "n", "b": {"\ud83d x": 1}}', ("b",), r"holds \ud83d, .* (id 'n')"),
        (r'[{"image_id": 3, "regions": [{"region_id": 9, "phrase": "\uDBFF"}]}]',
         (0, "regions", 0, "phrase"), r"holds \udbff, .* (region_id 9)"),
        (r'"\ude00\ud83d"', (), r"holds \ude00, half of a character"),
    ],
)  # fmt: skip
def test_half_a_character_is_found_with_its_place(text, at, problem):
    _, found = read_json_text(text)
    assert found.at == at
    start, _, end = problem.partition(" .* ")
    assert found.problem.startswith(start)
    assert found.problem.endswith(end)


@pytest.mark.parametrize("text", [r'{"a": "\ud83d\ude00"}', '{"a": "😀"}', r'["\\ud800"]', "7"])
def test_whole_characters_are_left_alone(text):
    assert read_json_text(text) == (json.loads(text), None)


def test_plain_values_of_any_kind_are_looked_through():
    assert find_no_text({"a": (1, None, "x", 2.5, [True])}) is None
    assert find_no_text(("x", "\udc80")).at == (1,)
    endless = ["x"]
    endless.append(endless)
    assert find_no_text(endless) is None


@pytest.mark.parametrize(
    ("name", "what", "relative"),
    [
        ("C:\\images\\train\\a.jpg", "a path of Windows", "train/a.jpg"),
        ("d:/images/a.jpg", "a path of Windows", "images/a.jpg"),
        ("train2017\\a.jpg", "a path of Windows", "train2017/a.jpg"),
        ("\\\\server\\share\\a.jpg", "a path of Windows", "share/a.jpg"),
        ("http://images.cocodataset.org/val2017/a.jpg", "a URL", "val2017/a.jpg"),
        ("s3://bucket/a.jpg?x=1", "a URL", "a.jpg"),
        ("file:///data/coco/a.jpg", "a URL", "coco/a.jpg"),
        ("/home/me/coco/a.jpg", "a path of one machine", "coco/a.jpg"),
        ("~/coco/a.jpg", "a path of one machine", "coco/a.jpg"),
        ("~/a.jpg", "a path of one machine", "a.jpg"),
    ],
)
def test_names_of_other_systems_are_explained(name, what, relative):
    line = foreign_path(name)
    assert line.startswith(f"is {what}; write it relative to its folder, with /, such as ")
    assert line.endswith(f"{relative!r}")


@pytest.mark.parametrize("name", ["a.jpg", "train2017/a.jpg", "./a.jpg", "a:b.jpg", "a b#1.jpg"])
def test_names_that_are_relative(name):
    assert foreign_path(name) == ""
