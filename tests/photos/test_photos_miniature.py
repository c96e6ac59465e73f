"""The photo suite end to end on made-up photos, through the command line."""

import json
from pathlib import Path

import pytest
from helpers.command import run_here
from PIL import Image

from sca_bench.cli import main
from sca_bench.study.runs.store import Store

SUITE = Path(__file__).parents[2] / "ablations" / "photos.yaml"
SMALL = {
    "sam.size": "tiny",
    "mixer.image_grid": 6,
    "mixer.num_heads": 4,
    "mixer.mlp_dim": 16,
    "train.steps": 4,
    "runtime.device": "cpu",
    "runtime.threads": 1,
}


def arguments(folders, runs, *more):
    photos, sam, lm = folders
    sets = {"paths.photos": photos, "paths.sam": sam, "paths.lm": lm, **SMALL}
    flags = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    return ["run", str(SUITE), "--runs-dir", str(runs), "--no-mlflow", *flags, *more]


@pytest.fixture(scope="module")
def folders(photo_folder, sam_folder, lm_folder):
    return photo_folder, sam_folder, lm_folder


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    run_here(*arguments(folders, root), cwd=root)
    return root


@pytest.fixture(scope="module")
def records(runs):
    manifest = next(iter(Store(runs).manifests()))
    store = Store(runs)
    return {c.name: store.record(c.cell_id, 0) for c in manifest.cells}


def predictions(runs, record, name):
    path = Store(runs).run_dir(record.cell_id, record.seed) / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_cell_captions_both_splits(runs, records):
    assert set(records) == {"num_layers=2", "permuted captions", "box only", "most frequent"}
    for record in records.values():
        test = predictions(runs, record, "predictions.jsonl")
        train = predictions(runs, record, "train_predictions.jsonl")
        assert [r["region_id"] for r in test] == ["210", "211", "220", "221"]
        assert [r["region_id"] for r in train] == ["110", "111", "120", "121", "130", "131"]
        assert {"exact_match", "train/exact_match"} <= set(record.scores)


def test_train_scores_are_those_of_the_training_file(runs, records):
    for name, record in records.items():
        rows = predictions(runs, record, "train_predictions.jsonl")
        right = [row["caption"] in row["references"] for row in rows]
        score = record.scores["train/exact_match"]
        assert score.value == pytest.approx(sum(right) / 6)
        assert score.signature["split"] == "train"
        assert score.signature["num_regions"] == 6
        dealt = record.scores.get("train/exact_match_as_dealt")
        assert (dealt is not None) == (name == "permuted captions")
        assert all(("learnt_from" in row) == (dealt is not None) for row in rows)


def test_phrases_no_training_region_has_are_left_out_of_what_was_seen(records):
    scores = records["most frequent"].scores
    assert scores["exact_match"].signature["num_regions"] == 4
    assert scores["seen/exact_match"].signature["num_regions"] == 3
    assert scores["seen/exact_match"].signature["split"] == "test"
    hits = 4 * scores["exact_match"].value
    assert scores["seen/exact_match"].value == pytest.approx(hits / 3)


def test_the_permuted_control_learns_the_captions_of_other_regions(runs, records):
    rows = predictions(runs, records["permuted captions"], "train_predictions.jsonl")
    own = sorted(row["references"][0] for row in rows)
    dealt = [row["learnt_from"][0] for row in rows]
    assert sorted(dealt) == own
    assert dealt != [row["references"][0] for row in rows]
    right = [row["caption"] == row["learnt_from"][0] for row in rows]
    score = records["permuted captions"].scores["train/exact_match_as_dealt"]
    assert score.value == pytest.approx(sum(right) / 6)


def test_the_constant_baseline_says_the_most_frequent_training_phrase(runs, records):
    record = records["most frequent"]
    said = {row["caption"] for row in predictions(runs, record, "predictions.jsonl")}
    assert said == {"green bus"}  # two of each in training: the first by the alphabet
    assert record.scores["train/exact_match"].value == pytest.approx(2 / 6)


def test_features_are_computed_once_for_cells_that_share_them(runs, records):
    counters = {name: record.counters for name, record in records.items()}
    assert all(c["encoder_forwards"] == 0 for c in counters.values())
    abouts = (runs / "features").glob("*/about.json")
    families = sorted(json.loads(path.read_text())["family"] for path in abouts)
    assert families == ["images"] * 2 + ["mixed"] * 4  # real and blank; of each, two splits


def test_the_same_photos_in_cocos_layout_give_the_same_captions(folders, runs, records, tmp_path):
    photos = folders[0]
    change = []
    for split, year in (("train", "train2017"), ("test", "val2017")):
        value = (
            f"data.{split}={{dataset: coco_instances, annotations: {photos}/instances.json, "
            f"images: {photos}/images, min_side_px: 32, split: {year}}}"
        )
        change += ["--set", value]
    words = arguments(folders, tmp_path, *change, "--only", "num_layers=2")
    run_here(*words, cwd=tmp_path)
    found = next(iter(Store(tmp_path).records()))
    keys = ("region_id", "caption", "references", "box_xyxy")
    one, two = (
        [{key: row[key] for key in keys} for row in predictions(root, record, "predictions.jsonl")]
        for root, record in ((runs, records["num_layers=2"]), (tmp_path, found))
    )
    assert one == two


def test_a_box_of_a_photo_is_captioned_and_drawn(folders, runs, records, tmp_path, capsys):
    record = records["num_layers=2"]
    row = predictions(runs, record, "predictions.jsonl")[0]
    box = ",".join(str(v) for v in row["box_xyxy"])
    image = folders[0] / "images" / f"{21:012d}.png"
    out = tmp_path / "overlay.png"
    words = ["caption", str(image), "--box", box, "--run", f"{record.cell_id}/0"]
    assert main([*words, "--runs-dir", str(runs), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == row["caption"]
    with Image.open(out) as picture:
        assert picture.width == 480
        assert picture.height > 320


def test_the_blank_control_is_captioned_from_the_box_alone_here_too(
    folders, runs, records, tmp_path, capsys
):
    record = records["box only"]
    row = predictions(runs, record, "predictions.jsonl")[0]
    box = ",".join(str(v) for v in row["box_xyxy"])
    lines = []
    for image in (21, 22):  # same size, other content
        path = folders[0] / "images" / f"{image:012d}.png"
        words = ["caption", str(path), "--box", box, "--run", f"{record.cell_id}/0"]
        assert main([*words, "--runs-dir", str(runs), "--out", str(tmp_path / "o.png")]) == 0
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1]
    assert lines[0].splitlines()[0] == row["caption"]


def test_examples_are_drawn_from_distinct_test_photos(runs, records, tmp_path, capsys):
    record = records["num_layers=2"]
    words = ["caption", "--examples", "5", "--run", record.cell_id, "--out", str(tmp_path / "x")]
    assert main([*words, "--runs-dir", str(runs)]) == 0
    names = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert names == ["01_21_210.png", "02_22_221.png"]
    rows = predictions(runs, record, "predictions.jsonl")
    said = {row["region_id"]: row["caption"] for row in rows}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"01_21_210.png: {said['210']} ")


def test_a_baseline_without_weights_cannot_be_asked_for_examples(runs, records, tmp_path, capsys):
    record = records["most frequent"]
    words = ["caption", "--examples", "1", "--run", record.cell_id, "--out", str(tmp_path)]
    assert main([*words, "--runs-dir", str(runs)]) == 2
    assert "no trained weights" in capsys.readouterr().err


def test_a_missing_folder_is_named(folders, tmp_path, capsys):
    photos, sam, _ = folders
    flags = ["--set", f"paths.photos={photos}", "--set", f"paths.sam={sam}"]
    assert main(["run", str(SUITE), "--runs-dir", str(tmp_path), *flags]) == 2
    assert "paths.lm: not set; give --set paths.lm=PATH" in capsys.readouterr().err
