"""From photos and a table of boxes to trained cells with two commands."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import run_here
from helpers.given import given_folder

from sca_bench.cli import main
from sca_bench.embedded.caption_lm import CaptionLmRecipe, build_caption_lm
from sca_bench.metrics.rows import read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store

SUITE = Path(__file__).parents[2] / "ablations" / "photos_table.yaml"
NUM_PHOTOS = 5
NUM_STEPS = 50
SMALL = {
    "sam.size": "tiny",
    "mixer.image_grid": 6,
    "mixer.num_heads": 4,
    "mixer.mlp_dim": 16,
    "train.steps": 4,
    "runtime.device": "cpu",
    "runtime.threads": 1,
}
HEADER = ("image", "x", "y", "width", "height", "caption")


def write_table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([HEADER, *rows])


def names_of_paths(**paths):
    return [word for name, path in paths.items() for word in ("--set", f"paths.{name}={path}")]


@pytest.fixture(scope="module")
def table(photo_folder, tmp_path_factory):
    """The regions of the made-up photos, without a column for the split."""
    described = json.loads((photo_folder / "region_descriptions.derived.json").read_text())
    path = tmp_path_factory.mktemp("table") / "regions.csv"
    rows = [
        (f"{entry['id']:012d}.png", *(region[side] for side in HEADER[1:5]), region["phrase"])
        for entry in described
        for region in entry["regions"]
    ]
    write_table(path, rows)
    return path


@pytest.fixture(scope="module")
def lm_folder(tmp_path_factory, table):
    """A text decoder of 16 channels, a few steps old, trained on the table alone."""
    folder = tmp_path_factory.mktemp("lm") / "lm"
    recipe = CaptionLmRecipe(steps=3, width=16, num_heads=2, captions_per_step=4, min_count=1)
    build_caption_lm(
        None, [], [], folder, recipe, say=lambda line: None, tables=[table], split="train"
    )
    return folder


def test_a_suite_reads_the_table_and_the_decoder_made_of_it(
    photo_folder, sam_folder, lm_folder, table, tmp_path
):
    paths = names_of_paths(
        table=table, photos=photo_folder / "images", sam=sam_folder, lm=lm_folder
    )
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    words = ("run", SUITE, "--runs-dir", "runs", "--no-mlflow", *paths, *small)
    said = run_here(*words, cwd=tmp_path)
    assert "train: regions regions.csv, train: 12 regions in 4 images kept" in said
    store = Store(tmp_path / "runs")
    (manifest,) = store.manifests()
    assert [cell.name for cell in manifest.cells] == ["num_layers=2", "box only", "most frequent"]
    for cell in manifest.cells:
        record = store.record(cell.cell_id, 0)
        assert record.status == "done"
        assert {"data.test.table", "data.test.images"} <= set(record.inputs)
        rows = read_rows(store.run_dir(cell.cell_id, 0) / PREDICTIONS)
        assert len({row.region_id for row in rows}) == 3
    facts = json.loads((lm_folder / "recipe.json").read_text())
    assert facts["regions_split"] == "train"
    assert facts["num_captions"] == 12
    assert [item["role"] for item in facts["inputs"]] == ["regions"]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--out", "x"], "--captions: missing; give --regions TABLE, or --captions JSON"),
        (["--regions", "t.csv"], "--out: missing; give --out PATH"),
        (["--captions", "c", "--out", "x", "--split", "test"], "--split: has no meaning without"),
        (
            ["--regions", "t.csv", "--out", "x", "--exclude-images", "i"],
            "--exclude-images: has no meaning without --captions",
        ),
        (["--regions", "t.csv", "--out", "x"], "t.csv: --regions: no such file"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, fault, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "train-lm", *flags]) == 2
    assert fault in capsys.readouterr().err


def test_a_split_without_rows_is_named(table, tmp_path, capsys):
    words = ["weights", "train-lm", "--regions", str(table), "--out", str(tmp_path / "x")]
    assert main([*words, "--split", "tests"]) == 2
    assert (
        "is of 'tests' by shares, which divide 5 images; did you mean test?"
        in capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The two commands on a few real photos, with real weights of a small SAM: a minute."""
    photos = "coco_mini_permissive"
    data = given_folder("SCA_BENCH_DATA_DIR", photos) / photos
    weights = given_folder("SCA_BENCH_WEIGHTS_DIR", "mobilesam/image_encoder.onnx") / "mobilesam"
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    root = tmp_path_factory.mktemp("photos_table")
    coco = json.loads((data / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    wanted = sorted({a["image_id"] for a in coco["annotations"] if not a["iscrowd"]})[:NUM_PHOTOS]
    rows = [
        (files[a["image_id"]], *a["bbox"], names[a["category_id"]])
        for a in coco["annotations"]
        if a["image_id"] in wanted and not a["iscrowd"] and min(a["bbox"][2:]) > 16
    ]
    write_table(root / "regions.csv", rows)
    paths = names_of_paths(table="regions.csv", photos=data / "images", sam=weights, lm="LM")
    for words in (
        ("weights", "train-lm", "--regions", "regions.csv", "--out", "LM"),
        ("run", SUITE, "--no-mlflow", *paths, "--set", f"train.steps={NUM_STEPS}"),
    ):
        command = [sys.executable, "-m", "sca_bench", *map(str, words)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return Store(root / "runs")


def test_photos_and_their_boxes_become_a_trained_cell(finished):
    (manifest,) = finished.manifests()
    scores = {c.name: finished.record(c.cell_id, 0).scores for c in manifest.cells}
    # So few photos are learnt by heart; new ones take many more.
    learnt = {name: found["train/exact_match"].value for name, found in scores.items()}
    assert learnt["num_layers=2"] > 0.95
    assert learnt["num_layers=2"] >= learnt["box only"] > learnt["most frequent"]
    assert all("exact_match" in found for found in scores.values())
