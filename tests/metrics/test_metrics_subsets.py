"""Two protocols from one file of predictions: parts of the regions scored by themselves."""

import json

import pytest

from sca_bench.cli import main
from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.metrics.rows import CaptionRow, read_rows
from sca_bench.metrics.score import Scorer
from sca_bench.metrics.score_file import score_file
from sca_bench.metrics.subsets import subset_digest, subset_rows

BOX = (10.0, 20.0, 30.0, 40.0)
ROWS = [
    CaptionRow("1", "100", "a red dog", ("a red dog",), {}, BOX),
    CaptionRow("2", "100", "two cats", ("two cats",), {}, (0.0, 0.0, 50.0, 50.0)),
    CaptionRow("3", "200", "a car", ("a blue car",), {}, BOX),
    CaptionRow("4", "200", "a blue car", ("a wheel",), {}, BOX),
    CaptionRow("5", "200", "a dog", ("a dog",), {}, (10.0, 20.0, 29.9, 40.0)),
]


def _annotation(image_id, box_xywh, caption, own=None):
    own = image_id if own is None else own
    return {"id": own, "image_id": image_id, "bbox": box_xywh, "caption": caption}


def _coco(*annotations):
    return json.dumps({"images": [], "annotations": annotations})


GOOD = _coco(
    _annotation(200, [10, 20, 20, 20], "A blue car"),
    _annotation(100, [0.5, 0.5, 49.5, 49.5], "cats, two"),
    _annotation(100, [1, 2, 3, 4], "another box of the image", own=7),
)


def _ids(rows):
    return [row.region_id for row in rows]


def test_first_of_image_needs_no_file():
    assert _ids(subset_rows(ROWS, "first_of_image")) == ["1", "3"]
    assert _ids(subset_rows(ROWS[::-1], "first_of_image")) == ["5", "2"]


@pytest.mark.parametrize(
    "text", ["3\n\n 1 \n", "3\n \t\n1", '["3", "1"]', "[3, 1]", "\ufeff3\r\n1"]
)
def test_ids(tmp_path, text):
    path = tmp_path / "ids"
    path.write_text(text, encoding="utf-8")
    assert _ids(subset_rows(ROWS, path)) == ["3", "1"]


def test_annotations_in_the_manner_of_coco(tmp_path):
    """Two rows have the box of image 200; the one with the caption for a reference is meant."""
    path = tmp_path / "test_caption.json"
    path.write_text(GOOD)
    rows = subset_rows(ROWS, path)
    assert _ids(rows) == ["3", "2"]
    assert [row.references for row in rows] == [("A blue car",), ("cats, two",)]
    assert [row.caption for row in rows] == ["a car", "two cats"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1\n9\n8", "9: 2 of 3 regions are not in the predictions; caption the whole split"),
        ("1\n1", "entry 2: '1' is named twice"),
        ("[1, true]", "entry 2: region_id: is a boolean"),
        ("", "names no region; expected one region id a line"),
        ("[1", "is not JSON"),
        ("{}", "annotations: expected a list"),
        (_coco(), "annotations: there are none"),
        ('{"annotations": [1]}', "annotation 1: is a number"),
        ('{"annotations": [{"id": 1}]}', "annotation 1: image_id: is missing"),
        (_coco(_annotation(100, [1, 2], "x")), "annotation 1: bbox: is [1, 2], expected four"),
        (_coco(_annotation(100, None, "x")), "annotation 1: expected a bbox"),
        (
            _coco(_annotation(100, [0, 0, 50, 50], "x"), _annotation(200, [1, 1, 1, 1], "x", 5)),
            "image 200: 1 of 2 images have no annotation whose id is the image's",
        ),
        (
            _coco(_annotation(300, [0, 0, 50, 50], "x")),
            "image 300: 1 of 1 images have no row in the predictions",
        ),
        (
            _coco(_annotation(100, [0, 0, 44, 50], "x")),
            "image 100: 1 of 1 images have no row whose box_xyxy has an IoU of 0.9",
        ),
    ],
)
def test_faults_of_the_file(tmp_path, text, problem):
    path = tmp_path / "subset"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        subset_rows(ROWS, path)
    assert str(caught.value).startswith(str(path))
    assert problem in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"no such file; name a file, or first_of_image"):
        subset_rows(ROWS, tmp_path / "none.json")


@pytest.fixture
def predictions(tmp_path):
    path = tmp_path / "predictions.jsonl"
    keys = ("region_id", "image_id", "caption", "references", "box_xyxy")
    lines = [json.dumps({key: getattr(row, key) for key in keys}) for row in ROWS]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.usefixtures("java")
def test_a_subset_is_scored_on_its_own_references(predictions, tmp_path):
    path = tmp_path / "test_caption.json"
    path.write_text(GOOD)
    metrics = ["cider_d", "exact_match"]
    subsets = {"one_per_image": str(path), "first": "first_of_image"}
    found = score_file(predictions, metrics, subsets=subsets)
    assert found["subsets"] == {"one_per_image": 2, "first": 2}
    assert set(found["values"]) == {
        f"{part}{metric}" for part in ("", "one_per_image/", "first/") for metric in metrics
    }
    rows = read_rows(predictions)
    with Scorer() as scorer:
        alone = scorer.score(subset_rows(rows, path), metrics)
        whole = scorer.score(rows, metrics)
    for metric in metrics:
        assert found["values"][metric] == whole.values[metric]
        assert found["values"][f"one_per_image/{metric}"] == alone.values[metric]
    signature = found["signatures"]["one_per_image/cider_d"]
    assert signature["region_set"] == alone.signatures["cider_d"].region_set
    assert (signature["num_regions"], signature["metric"]) == (2, "one_per_image/cider_d")
    assert found["signatures"]["first/cider_d"]["region_set"] != signature["region_set"]
    assert found["values"]["first/exact_match"] == 0.5


def test_the_command(predictions, capsys):
    words = ["score", str(predictions), "--metrics", "exact_match"]
    assert main([*words, "--subset", "first=first_of_image"]) == 0
    assert json.loads(capsys.readouterr().out)["values"]["first/exact_match"] == 0.5
    for bad in ("first_of_image", "=x", "a/b=x", "a="):
        assert main([*words, "--subset", bad]) == 2
        assert f"--subset: {bad}: is no subset; give NAME=FILE" in capsys.readouterr().err
    assert main([*words, "--subset", "a=first_of_image", "--subset", "a=x"]) == 2
    assert "'a' is named twice" in capsys.readouterr().err
    assert main([*words, "--regions", "x", "--subset", "a=first_of_image"]) == 2
    assert "--subset: does not go with --regions" in capsys.readouterr().err


@pytest.mark.parametrize("box", ["[1, 2, 3]", '"1"', "[1, 2, 3, true]", "[1, 2, 3, NaN]", "{}"])
def test_a_box_that_is_none(tmp_path, box):
    path = tmp_path / "rows.jsonl"
    row = '{"region_id": 1, "image_id": 1, "caption": "", "references": ["a"], "box_xyxy": %s}'
    path.write_text(row % "null")
    assert read_rows(path)[0].box_xyxy is None
    path.write_text(row % "[1, 2.5, 3, 4]")
    assert read_rows(path)[0].box_xyxy == (1.0, 2.5, 3.0, 4.0)
    path.write_text(row % box)
    with pytest.raises(InputError, match=r"line 1: box_xyxy: is .*, expected four numbers"):
        read_rows(path)


def test_a_subset_is_told_by_its_content(tmp_path):
    path = tmp_path / "ids"
    path.write_text("1\n2\n")
    assert subset_digest(path) == subset_digest(str(path)) == file_sha256(path)
    assert subset_digest("first_of_image") == "first_of_image"
    with pytest.raises(InputError, match=r"none: no such file; name a file, or first_of_image$"):
        subset_digest(tmp_path / "none")
