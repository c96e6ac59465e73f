"""Annotation files, tables and predictions that are made to hang or break whoever reads them."""

import contextlib
import io
import json
import os
import pickle

import pytest

from sca_bench.contract import examples
from sca_bench.data.image_files import ImageFolder
from sca_bench.data.index.arrays import known_sources, open_index, write_index
from sca_bench.data.load import read_files
from sca_bench.data.readers.plain_pickle import read_plain_pickle
from sca_bench.data.readers.regions import read_texts
from sca_bench.errors import InputError
from sca_bench.metrics.detection.detections import read_described_boxes, read_detections
from sca_bench.metrics.rows import read_rows
from sca_bench.metrics.subsets import subset_digest, subset_rows
from sca_bench.specs.readers import READERS

FILES = [
    ("coco_instances", "annotations"),
    ("objects365", "annotations"),
    ("v3det", "annotations"),
    ("visual_genome_grit", "annotations"),
    ("coco_panoptic", "annotations"),
    ("refcoco", "refs"),
    ("refcoco", "instances"),
    ("visual_genome", "regions"),
    ("visual_genome", "image_data"),
    ("regions", "table"),
    ("coco_instances", "image_ids"),
]


@pytest.fixture
def split_of(tmp_path):
    """Return what makes the settings of a reader's own example, with some changed."""

    def make(dataset, **changes):
        spec = READERS.get(dataset)
        given = getattr(examples, spec.example.partition(":")[2])(tmp_path)
        return spec.settings.model_validate({"dataset": dataset, **given, **changes})

    return make


@pytest.mark.parametrize(("dataset", "key"), FILES)
def test_only_regular_files_are_read(split_of, tmp_path, dataset, key):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe\.jsonl: .*is no regular file \(a named pipe\)"):
        read_files(split_of(dataset, **{key: str(pipe)}))


@pytest.mark.parametrize(("dataset", "key"), FILES)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[" * 100_000, "is nested more than 100 levels deep"),
        (b'[{"a": ' * 20_000, "is nested more than 100 levels deep"),
        (b"[" + b"9" * 5000 + b"]", r"line 1: a number of 5,000 digits"),
        (b'{"a": "\xff"}', "line 1: byte 0xFF is not UTF-8"),
        (b'{"a": "\\ud800"}', r"a: holds \\ud800, half of a character"),
    ],
)
def test_json_has_limits(split_of, tmp_path, dataset, key, content, line):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.jsonl: .*{line}"):
        read_files(split_of(dataset, **{key: str(path)}))


HUGE = [1e400, -1e400, float("nan"), 10**400, "1", True, None, [1], {}]


@pytest.mark.parametrize("value", HUGE, ids=str)
@pytest.mark.parametrize("dataset", ["coco_instances", "visual_genome", "regions"])
def test_a_box_has_numbers(split_of, tmp_path, dataset, value):
    split = split_of(dataset)
    path = tmp_path / ("annotations.json" if dataset == "coco_instances" else "x.json")
    if dataset == "visual_genome":
        content = json.loads((tmp_path / split.regions.rpartition("/")[2]).read_text())
        content[0]["regions"][0]["width"] = value
        update = {"regions": str(path)}
    elif dataset == "regions":
        path = path.with_suffix(".jsonl")
        content = {"image": "a.jpg", "box_xyxy": [0, 0, value, 9], "caption": "a"}
        update = {"table": str(path)}
    else:
        with open(split.annotations, encoding="utf-8") as handle:
            content = json.load(handle)
        content["annotations"][0]["bbox"][2] = value
        update = {"annotations": str(path)}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"number|too large"):
        read_files(split.model_copy(update=update))


@pytest.mark.parametrize("value", [10**400, 2**31, 0, -1, 1.5, "40", 1e400])
def test_an_image_has_a_size(split_of, tmp_path, value):
    split = split_of("coco_instances")
    path = tmp_path / "x.json"
    with open(split.annotations, encoding="utf-8") as handle:
        content = json.load(handle)
    content["images"][0]["width"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"images\[0\].width: expected a positive integer"):
        read_files(split.model_copy(update={"annotations": str(path)}))


@pytest.mark.parametrize(
    "name", ["a\0b.jpg", "x" * 10**5, "d" * 300 + "/a.jpg", "a/" * 10**5 + "b"]
)
@pytest.mark.parametrize("dataset", ["coco_instances", "visual_genome_grit"])
def test_an_image_has_a_name_that_a_file_can_have(split_of, tmp_path, dataset, name):
    split = split_of(dataset)
    path = tmp_path / "x.json"
    with open(split.annotations, encoding="utf-8") as handle:
        content = json.load(handle)
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is not the name of a file inside the images") as raised:
        read_files(split.model_copy(update={"annotations": str(path)}))
    assert len(str(raised.value)) < 2200


def test_an_id_of_any_length_is_indexed_and_shown_short(split_of, tmp_path):
    split = split_of("coco_instances")
    path = tmp_path / "x.json"
    with open(split.annotations, encoding="utf-8") as handle:
        content = json.load(handle)
    old, new = content["images"][0]["id"], "x" * 100_000
    content["images"][0]["id"] = new
    for annotation in content["annotations"]:
        annotation["image_id"] = new if annotation["image_id"] == old else annotation["image_id"]
    path.write_text(json.dumps(content))
    split = split.model_copy(update={"annotations": str(path)})
    region_set = read_files(split)
    sources = {"annotations": path}
    write_index(region_set, tmp_path / "index", known_sources(sources), split.images)
    again = open_index(tmp_path / "index", sources, ImageFolder(split.images), "caption")
    assert [again.regions_of(i) for i in again.images] == [
        region_set.regions_of(i) for i in region_set.images
    ]
    content["annotations"][0]["image_id"] = "y" * 10**6
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is not among the images") as raised:
        read_files(split)
    assert len(str(raised.value)) < 2200


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "names a place that it cannot have"),
        (b"(lp2000000000\n.", "names a place that it cannot have"),
        (b"\x80\x02" + b"]" * 10, "is no readable pickle"),
        (b"\x80\x02cos\nsystem\n.", "names os.system"),
        (b"", "is no readable pickle"),
    ],
)
def test_a_pickle_takes_no_more_memory_than_it_has_bytes(tmp_path, content, line):
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"refs\.p: .*{line}"):
        read_plain_pickle(path, "refs")


def test_keys_of_a_pickle_that_take_for_ever_to_look_up_are_refused(tmp_path):
    pair = b"".join(b"0h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))  # of the one before
    (tmp_path / "refs.p").write_bytes(b"\x80\x02})q\0" + pair + b"K\x01s.")
    with pytest.raises(InputError, match="a key is a tuple, expected a text or a number"):
        read_plain_pickle(tmp_path / "refs.p", "refs")
    (tmp_path / "refs.p").write_bytes(b"\x80\x04\x8f()q\0" + pair + b"\x90.")
    with pytest.raises(InputError, match="it holds a set"):
        read_plain_pickle(tmp_path / "refs.p", "refs")
    plain = [{"box": (1, 2, (3, 4)), "sentences": {1: "a"}}]
    for protocol in range(6):
        (tmp_path / "refs.p").write_bytes(pickle.dumps(plain, protocol))
        assert read_plain_pickle(tmp_path / "refs.p", "refs") == plain


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_every_protocol_is_read(tmp_path, protocol):
    value = [{"a": [1, 2**70, 1.5, None, True], "b": "r\xe9p\n" * 300, "c": ("x", -1)}] * 3
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path, "refs") == value
    out = io.BytesIO()
    pickle.Pickler(out, protocol).dump([str(n) for n in range(1000)])
    path.write_bytes(out.getvalue())
    assert len(read_plain_pickle(path, "refs")) == 1000


# --- predictions ------------------------------------------------------------------------------

ROW = {"region_id": "r", "image_id": 1, "caption": "a", "references": ["a"], "score": 0.5}
READS = [read_rows, read_detections, read_described_boxes]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("value", [v for v in HUGE if v is not None], ids=str)
def test_a_row_has_four_numbers_for_a_box(tmp_path, read, value):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW | {"box_xyxy": [0, 0, value, 9]}))
    with pytest.raises(InputError, match=r"rows\.jsonl: line 1: box_xyxy: is .*expected four"):
        read(path)


@pytest.mark.parametrize("read", [*READS, subset_digest, lambda path: subset_rows([], path)])
def test_rows_are_read_of_a_file(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"rows\.jsonl: is no regular file \(a named pipe\)"):
        read(path)


@pytest.mark.parametrize("read", [*READS, lambda path: read_texts(path, None)])
def test_a_key_that_stands_twice_moves_no_number(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW)[:-1] + ', "caption": "b"}')
    with pytest.raises(InputError, match=r"line 1: caption: stands twice in one object"):
        read(path)


@pytest.mark.parametrize("read", [*READS, lambda path: read_texts(path, None)])
def test_a_value_is_shown_short_and_without_control_characters(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    row, refused = ROW | {"box_xyxy": [0, 0, 1, 1], "image": "a", "captions": ["a"]}, 0
    for key in row:
        path.write_text(json.dumps(row | {key: {"a": "\x1b[2J" * 10**5}}))
        with contextlib.suppress(InputError):
            read(path)  # which does not look at every key
            continue
        with pytest.raises(InputError) as raised:
            read(path)
        refused += 1
        assert len(str(raised.value)) < 2200
        assert str(raised.value).isprintable()
    assert refused >= 3
