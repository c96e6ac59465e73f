"""Referring expressions: all sentences of an object are references, and pickles cannot run."""

import json
import os
import pickle

import pytest

from sca_bench.boxes import tight_box
from sca_bench.data.load import load_split
from sca_bench.data.readers.plain_pickle import read_plain_pickle
from sca_bench.errors import InputError, at
from sca_bench.formats.rle import read_mask
from sca_bench.settings import RefCocoSplit

WHERE = "suite.yaml"


def ref(number, annotation, image, split, *texts):
    sentences = [
        {"sent": t, "raw": t.upper(), "sent_id": k, "tokens": t.split()}
        for k, t in enumerate(texts)
    ]
    return {
        "ref_id": number,
        "ann_id": annotation,
        "category_id": 1,
        "image_id": image,
        "split": split,
        "sentences": sentences,
        "file_name": f"COCO_train2014_{image}_{annotation}.jpg",
    }


class Files:
    """Three images, four annotations, four refs; edit, then `read`."""

    def __init__(self, folder):
        self.folder = folder
        self.instances = {
            "images": [
                {"id": k, "width": 20, "height": 10, "file_name": f"COCO_train2014_{k}.jpg"}
                for k in (1, 2, 3)
            ],
            "annotations": [
                {"id": 10, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 3], "iscrowd": 0,
                 "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]},
                {"id": 11, "image_id": 1, "category_id": 1, "bbox": [5.5, 2, 4, 3]},
                {"id": 20, "image_id": 2, "category_id": 1, "bbox": [0, 0, 9, 9]},
                {"id": 30, "image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9]},
            ],
            "categories": [{"id": 1, "name": "person"}],
        }  # fmt: skip
        self.refs = [
            ref(7, 20, 2, "testA", "man in blue"),
            ref(8, 10, 1, "train", "left woman", "woman  in red ", " "),
            ref(9, 11, 1, "train", "dog"),
            ref(5, 11, 1, "val", "the dog again"),
        ]

    def read(self, protocol=2, name="refs(unc).p", **changes):
        file = self.folder / name
        if name.endswith(".json"):
            file.write_text(json.dumps(self.refs))
        else:
            file.write_bytes(pickle.dumps(self.refs, protocol))
        instances = self.folder / "instances.json"
        instances.write_text(json.dumps(self.instances))
        settings = {
            "dataset": "refcoco",
            "images": str(self.folder / "train2014"),
            "refs": str(file),
            "instances": str(instances),
            "min_side_px": 0,
        }
        with at(WHERE):
            return load_split(RefCocoSplit(**(settings | changes)))


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def ids(region_set):
    return [region.region_id for region in region_set.regions]


def test_every_sentence_is_a_reference(files):
    region_set = files.read(split="train")
    first, second = region_set.regions
    assert (first.region_id, first.image_id) == ("8", "1")
    assert first.references == ("left woman", "woman in red")
    assert second.box_xyxy == (5.5, 2.0, 9.5, 5.0)
    assert tight_box(read_mask(first.segmentation, 10, 20)) == first.box_xyxy
    assert second.segmentation == ""


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", ["8", "9"]), ("val", ["5"]), ("testA", ["7"]), (None, ["8", "9", "5", "7"])],
)
def test_splits(files, split, expected):
    region_set = files.read(split=split)
    assert ids(region_set) == expected
    assert len(expected) + sum(region_set.dropped.values()) == 4
    assert len(region_set.images) + sum(region_set.images_left_out.values()) == 3
    assert region_set.images_left_out["without a referring expression"] == 1


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_pickles_of_any_protocol_and_json_are_the_same(files, protocol):
    assert files.read(protocol).digest() == files.read(name="refs.json").digest()


def test_raw_text_stands_in_where_there_is_no_other(files):
    for sentence, key in zip(files.refs[1]["sentences"], ("raw", "arw", "raw"), strict=True):
        del sentence["sent"]
        sentence[key] = sentence.pop("raw")
    assert files.read(split="train").regions[0].references == ("LEFT WOMAN", "WOMAN IN RED")


def test_a_file_without_splits(files):
    for entry in files.refs:
        del entry["split"]
    assert ids(files.read()) == ["8", "9", "5", "7"]
    with pytest.raises(InputError, match=r"refs\(unc\).p: \[\d\].split: .*no splits; drop `split`"):
        files.read(split="train")


def test_image_ids_choose_images(files, write_json):
    listed = write_json(files.folder / "ids.json", [2])
    assert ids(files.read(image_ids=listed)) == ["7"]
    assert files.read(image_ids=listed).images_left_out[f"not listed in {listed}"] == 1


WRONG = {
    "unknown split": (
        lambda f: None,
        r"suite.yaml: split: no expression of .* is of 'testC'; did you mean test",
    ),
    "unknown image": (
        lambda f: f.refs[0].update(image_id=99),
        r"refs\(unc\).p: \[0\].image_id: image 99 is not in .*instances.json",
    ),
    "unknown annotation": (
        lambda f: f.refs[1].update(ann_id=20),
        r"\[1\].ann_id: image 1 has no annotation 20",
    ),
    "ref twice": (lambda f: f.refs[1].update(ref_id=9), r"\[2\].ref_id: \"9\" occurs twice"),
    "no text": (
        lambda f: f.refs[1].update(sentences=[{"tokens": []}]),
        r"\[1\].sentences\[0\]: expected sent or raw",
    ),
    "sentences": (
        lambda f: f.refs[1].update(sentences=None),
        r"\[1\].sentences: expected a list, found null",
    ),
    "not a list": (lambda f: setattr(f, "refs", {}), r"top level: expected a list, found \{\}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_refs_are_one_clear_line(files, case):
    edit, line = WRONG[case]
    edit(files)
    with pytest.raises(InputError, match=line) as caught:
        files.read(split="testC" if case == "unknown split" else None)
    assert "\n" not in str(caught.value)


class Evil:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return os.system, ("touch was_here",)


@pytest.mark.parametrize("content", [Evil(), [Evil()], {1, 2}, 1j], ids=lambda v: type(v).__name__)
def test_no_class_is_ever_looked_up(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "refs.p"
    file.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(InputError, match=r"refs.p: refs: is no readable pickle of plain data: it"):
        read_plain_pickle(file, "refs")
    assert not (tmp_path / "was_here").exists()


def test_texts_of_python_2_are_read(tmp_path):
    file = tmp_path / "refs.p"
    # What Python 2 writes for [{'sent': 'caf\xc3\xa9'}]: byte strings, protocol 2.
    file.write_bytes(b"\x80\x02]q\x00}q\x01U\x04sentq\x02U\x05caf\xc3\xa9q\x03sa.")
    assert read_plain_pickle(file, "refs") == [{"sent": "café"}]


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02]q\x00", b"nonsense", b"\x80\x02U\x01\xffq\x00."]
)
def test_damaged_pickles_are_one_clear_line(files, content):
    files.read()
    (files.folder / "damaged.p").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.p: refs: is no readable pickle") as caught:
        files.read(refs=str(files.folder / "damaged.p"))
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(files):
    with pytest.raises(InputError, match=r"nowhere.p: refs: no such file"):
        files.read(refs="nowhere.p")
    with pytest.raises(InputError, match=r"nowhere.json: instances: no such file"):
        files.read(instances="nowhere.json")
