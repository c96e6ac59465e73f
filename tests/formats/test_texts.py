"""Ids, texts and file names of other people's files mean one thing."""

import pytest

from sca_bench.formats.texts import foreign_path, id_text, nfc


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
    assert id_text(10**5000) is None


def test_two_spellings_are_one_text():
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert composed != apart
    assert nfc(composed) == nfc(apart) == composed
    assert nfc("plain") == "plain"


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
