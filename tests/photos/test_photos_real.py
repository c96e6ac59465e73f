"""The photo suite on real photos with real SAM-family weights, all of it through the command line.

Takes about a quarter of an hour on two CPU cores; the suite's header says what to expect.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.given import given_folder, is_named

from sca_bench.study.runs.store import Store

SUITE = Path(__file__).parents[2] / "ablations" / "photos.yaml"
CPU_LIMIT_S = 15 * 60 * 2


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*words):
    done = subprocess.run(
        [sys.executable, "-m", "sca_bench", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs folder and CPU seconds of decoder training and suite."""
    photos, captions = "coco_mini_permissive", "coco_captions_val2017/captions_val2017.json"
    if not is_named("SCA_BENCH_DATA_DIR"):
        pytest.skip("takes a quarter of an hour: set SCA_BENCH_DATA_DIR to run it")
    data = given_folder("SCA_BENCH_DATA_DIR", photos, captions)
    weights = given_folder("SCA_BENCH_WEIGHTS_DIR", "mobilesam/image_encoder.onnx")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    root, before = tmp_path_factory.mktemp("photos"), cpu_s()
    command(
        *("weights", "train-lm", "--captions", data / captions),
        *("--phrases", data / photos / "region_descriptions.derived.json"),
        *("--exclude-images", data / photos / "image_data.derived.json"),
        *("--out", root / "lm"),
    )
    command(
        *("run", SUITE, "--runs-dir", root / "runs", "--no-mlflow"),
        *("--set", f"paths.photos={data / photos}", "--set", f"paths.sam={weights / 'mobilesam'}"),
        *("--set", f"paths.lm={root / 'lm'}"),
    )
    return root / "runs", cpu_s() - before


@pytest.fixture(scope="module")
def scores(finished):
    store = Store(finished[0])
    manifest = next(iter(store.manifests()))
    return {
        cell.name: {
            name: score.value for name, score in store.record(cell.cell_id, 0).scores.items()
        }
        for cell in manifest.cells
    }


def test_the_training_photos_are_learnt_and_permuted_captions_are_not(scores):
    real, permuted = scores["num_layers=2"], scores["permuted captions"]
    assert real["train/exact_match"] >= 0.8
    assert permuted["train/exact_match"] <= 0.4
    # Any captions can be learnt by heart; those of other regions take longer.
    assert permuted["train/exact_match_as_dealt"] <= real["train/exact_match"] - 0.05


def test_new_photos_are_captioned_better_than_by_the_box_alone(scores):
    real, box_only = scores["num_layers=2"], scores["box only"]
    assert real["exact_match_without_person"] >= 0.1
    assert real["exact_match_without_person"] >= 1.5 * box_only["exact_match_without_person"]
    # Over the phrases of test regions that occur in training; 28 of 91 do not.
    assert real["seen/macro_recall"] >= 0.1


def test_the_constant_baseline_is_what_counting_says(scores):
    constant = scores["most frequent"]
    assert constant["exact_match"] == pytest.approx(90 / 351)
    assert constant["exact_match_without_person"] == 0


def test_it_fits_a_quarter_of_an_hour_on_two_cores(finished):
    assert finished[1] <= CPU_LIMIT_S


def test_ten_overlays_are_drawn(finished, tmp_path):
    manifest = next(iter(Store(finished[0]).manifests()))
    main = next(cell for cell in manifest.cells if not cell.control)
    command(
        *("caption", "--examples", 10, "--run", f"{main.cell_id}/0"),
        *("--runs-dir", finished[0], "--out", tmp_path / "overlays"),
    )
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 10
