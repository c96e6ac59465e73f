"""`import sca_bench`: light, documented on one screen, and the same numbers as reports print."""

import csv
import io
import itertools
import pydoc
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report.report_fake_runs import CIDER, build, manifest

import sca_bench
from sca_bench.api import suites as api_suites
from sca_bench.api.captions import Captioner
from sca_bench.errors import CellError, ScaBenchError
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.report.figures.registry import PLOTS, PlotSpec
from sca_bench.report.findings.answer import read_headline
from sca_bench.study.runs.record import RunRecord
from sca_bench.types import Prediction

ROOT = Path(__file__).parents[2]
NAMES = ["InputError", "Runs", "load_captioner", "load_suite", "plan", "run", "score"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    build(folder / "runs")
    return sca_bench.Runs(folder / "runs", reports_dir=folder / "reports")


# --- the package --------------------------------------------------------------------------------


def test_help_is_one_screen_that_names_everything():
    lines = pydoc.plain(pydoc.render_doc(sca_bench)).splitlines()
    assert len(lines) <= 60
    assert all(any(line.strip().startswith(f"{name} ") for line in lines) for name in NAMES)
    assert set(NAMES) <= set(dir(sca_bench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sca_bench.nothing  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_name_says_what_it_takes_and_gives(name):
    text = getattr(sca_bench, name).__doc__
    assert "Args:" in text
    own = [value for key, value in vars(sca_bench.Runs).items() if key[0] != "_"]
    assert all(method.__doc__ for method in own)


def test_nothing_heavy_is_loaded_and_frames_need_no_torch(runs):
    code = f"""
import sys, time
started = time.process_time()
import sca_bench
seconds = time.process_time() - started
assert not {{"numpy", "pandas", "pydantic", "yaml", "torch"}} & sys.modules.keys()
assert seconds < 0.1, seconds
started = time.process_time()
runs = sca_bench.Runs({str(runs.store.root)!r})
for frame in (runs.scores("fake"), runs.predictions("fake"), runs.verdicts("fake")):
    assert len(frame)
assert time.process_time() - started < 2
sca_bench.load_suite("mixer_layers")
assert not {{"torch", "mlflow", "optuna", "transformers", "mmengine"}} & sys.modules.keys()
"""
    code = code.replace('"fake"', repr(manifest().suite))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- frames -------------------------------------------------------------------------------------


def test_scores_have_a_column_for_each_axis_and_are_printed_as_papers_do(runs):
    name = manifest().suite
    frame = runs.scores(name)
    (axis,) = manifest().axes
    assert list(frame.columns) == [
        *("suite", "cell", "control", axis, "seed", "metric", "value", "printed"),
        *("signature", "region_set", "reason", "cell_id"),
    ]
    main = frame[frame.metric == "cider_d"].set_index(["cell", "seed"])
    for cell, values in CIDER.items():
        for seed, value in enumerate(values):
            row = main.loc[(cell, seed)]
            assert (row.value, row.printed) == (value, pytest.approx(100 * value))
    depths = frame[frame.cell == "depth-4"][axis]
    assert set(depths) == {4}
    assert frame[frame.control][axis].isna().all()
    cost = frame[frame.metric == "cost/train_s"]
    assert (cost.value == cost.printed).all()


def test_predictions_are_rows_with_their_own_scores(runs):
    frame = runs.predictions(manifest().suite, "depth-2", metrics=["cider_d"])
    assert set(frame.cell) == {"depth-2"}
    assert set(frame.seed) == {0, 1}
    assert frame.cider_d.notna().all()
    assert isinstance(frame.references.iloc[0], tuple)
    assert len(frame) < len(runs.predictions(manifest().suite))
    (cell_id,) = (one.cell_id for one in manifest().cells if one.name == "depth-2")
    stored = runs.store.region_scores(cell_id, 1)
    mine = frame[frame.seed == 1].set_index("region_id").cider_d
    by_id = dict(zip(stored["region_ids"], stored["scores"]["cider_d"], strict=True))
    assert mine.to_dict() == pytest.approx(by_id)


def test_verdicts_and_headline_are_those_of_the_report(runs):
    from sca_bench.report.tables.csv import _text

    frame = runs.verdicts(manifest().suite)
    assert list(frame.claim) == [claim["id"] for claim in manifest().claims]
    headline = runs.headline(manifest().suite)
    assert headline == read_headline(runs.store, runs.store.manifests()[0], runs.reports_dir)
    assert list(frame.sentence) == [one.whole for one in headline.sentences]
    assert all(one.whole in str(headline) for one in headline.sentences)
    assert str(headline).startswith(manifest().question)
    assert "difference" in next(csv.reader(io.StringIO(_text(frame))))


def test_a_figure_shows_itself_in_a_notebook(runs):
    name = manifest().suite
    names = runs.figures(name)
    assert {"headline_figure", "forest"} <= set(names)
    figure = runs.figure(name)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert runs.figure(name, "forest").axes


def broken(suite):
    raise ValueError("another package's fault")


def test_a_plot_of_another_package_that_fails_hides_no_other(runs):
    spec = PlotSpec("mine", "Mine", "", f"{__name__}:broken", f"{__name__}:broken")
    name = manifest().suite
    before = runs.figures(name)
    with PLOTS.also(spec):
        with pytest.warns(UserWarning, match="mine cannot be drawn: ValueError"):
            assert runs.figures(name) == before
        with pytest.raises(ValueError, match="another package's fault"):
            runs.figure(name, "mine")


def test_suites_are_listed_and_found_by_every_name(runs):
    frame = runs.suites()
    assert isinstance(frame, pd.DataFrame)
    one = frame.iloc[0]
    assert (one.cells, one.seeds) == (len(manifest().cells), len(manifest().seeds))
    assert runs.headline(one.suite) == runs.headline(f"{manifest().suite}.{one.profile}")


def test_a_damaged_file_is_said_and_not_left_out(tmp_path):
    store, suite = build(tmp_path / "runs")
    cell = suite.cells[0].cell_id
    (store.run_dir(cell, 0) / "predictions.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(sca_bench.InputError, match=r"predictions\.jsonl"):
        sca_bench.Runs(tmp_path / "runs").predictions(suite.suite)
    (store.run_dir(cell, 0) / "record.json").write_text("{", encoding="utf-8")
    frame = sca_bench.Runs(tmp_path / "runs").scores(suite.suite)
    lost = frame[(frame.cell_id == cell) & (frame.seed == 0)]
    assert lost.value.isna().all()
    assert lost.reason.str.contains("damaged").all()


# --- suites -------------------------------------------------------------------------------------


def test_overrides_mean_what_they_mean_in_a_file():
    values = {"train.steps": 7, "train.betas": [0.8, 0.9], "data.lsj_scale": None}
    values |= {"train.clip_norm": float("inf"), "data.blank_images": True, "note": "a: [b, 'c"}
    suite = sca_bench.load_suite("mixer_layers", seeds=[3], overrides=values)
    settings = suite.cells[0].settings
    assert (settings.train.steps, settings.train.betas) == (7, (0.8, 0.9))
    assert (settings.data.lsj_scale, settings.data.blank_images) == (None, True)
    assert settings.train.clip_norm == float("inf")
    assert settings.note == "a: [b, 'c"
    assert suite.seeds == (3,)
    assert "train.steps=7" in suite.overrides


def test_a_plan_is_what_the_command_prints(tmp_path):
    suite = sca_bench.load_suite("mixer_layers", seeds=[0, 1])
    frame = sca_bench.plan(suite, tmp_path / "none")
    assert list(frame.state) == ["to run"] * 6
    assert set(frame.seed) == {0, 1}
    one = sca_bench.plan(suite, tmp_path / "none", only="num_layers=2")
    assert set(one.cell) == {"num_layers=2"}


@pytest.mark.parametrize(
    ("code", "last", "error"),
    [
        (0, "", None),
        (1, "FAILED num_layers=1 seed 0: no memory", CellError),
        (2, "runs: is in use", sca_bench.InputError),
        (143, "stopped by SIGTERM", ScaBenchError),
    ],
)
def test_run_is_the_command_and_its_end_is_told(monkeypatch, tmp_path, code, last, error):
    asked = []

    def command(words):
        asked.append(words)
        return code, ["something", last]

    monkeypatch.setattr(api_suites, "_command", command)
    suite = sca_bench.load_suite("mixer_layers", seeds=[0, 2], overrides={"train.steps": 5})
    if error is None:
        assert sca_bench.run(suite, tmp_path).store.root == tmp_path
    else:
        with pytest.raises(error, match=last.partition(":")[2].strip() or last):
            sca_bench.run(suite, tmp_path, only="num_layers=1")
    (words,) = asked
    assert words[:1] == ["run"]
    pairs = list(itertools.pairwise(words))
    for pair in (("--seeds", "0,2"), ("--set", "train.steps=5"), ("--runs-dir", str(tmp_path))):
        assert pair in pairs
    assert "--no-mlflow" in words
    assert ("--only" in words) == (error is not None)


def test_what_a_command_prints_is_passed_on(capsys):
    code, lines = api_suites._command(["nothing_like_that"])
    assert code == 2
    assert "'nothing_like_that' is unknown" in lines[-1]
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]


def test_an_interrupt_stops_the_command_and_hears_it_out(monkeypatch, tmp_path):
    """As the stop button of a notebook does: what runs ends in its own way, and then the call."""
    program = tmp_path / "python"
    loop = "for i in $(seq 600); do sleep 0.05; done"
    text = f"#!/bin/sh\ntrap 'echo all is kept; exit 130' INT\necho begun\n{loop}\n"
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    said = []

    def say(line, flush=False):
        said.append(line)
        if line == "begun":
            raise KeyboardInterrupt

    monkeypatch.setattr(api_suites, "say", say)
    with pytest.raises(KeyboardInterrupt):
        api_suites._command(["run"])
    assert said == ["begun", "all is kept"]


# --- captions -----------------------------------------------------------------------------------


def test_scores_of_a_list_are_those_of_the_scorer():
    captions, references = ["a red dog", "a cat"], ["a red dog", ["one cat", "a grey cat"]]
    result = sca_bench.score(captions, references, ["exact_match", "cider_d"])
    assert result.values["exact_match"] == 0.5
    assert len(result.per_region["cider_d"]) == 2
    rows = [CaptionRow("0", "0", captions[0], ("a red dog",))]
    rows.append(CaptionRow("1", "1", captions[1], ("one cat", "a grey cat")))
    with Scorer() as scorer:
        assert result == scorer.score(rows, ["exact_match", "cider_d"])
    one_image = sca_bench.score(captions, references, ["cider_d"], image_ids=[1, 1])
    assert one_image.signatures["cider_d"].num_regions == 2


class Finished:
    """Stands for a loaded model: says what it was asked."""

    def caption(self, image, box, point):
        assert image.dtype == np.uint8
        mask = np.zeros(image.shape[:2], bool)
        mask[:2] = True
        text = f"{image.shape} {box} {point} {image[0, 0].tolist()}"
        return Prediction("region", text, -0.5, (0.9,), 0.1), mask


@pytest.fixture
def captioner(tmp_path):
    settings = {"data": {"train": {"dataset": "scenes"}}}
    record = RunRecord(
        cell_id="abc", seed=0, status="done", settings=settings, variant="sca", revision="1"
    )
    return Captioner(Finished(), record, tmp_path)


def test_a_file_a_picture_and_an_array_are_one_image(captioner, tmp_path):
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[0, 0] = (9, 8, 7)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    images = (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(pixels), pixels)
    found = [captioner.caption(image, box=[1, 2, 30, 40]) for image in images]
    assert {str(one) for one in found} == {"(96, 96, 3) (1.0, 2.0, 30.0, 40.0) None [9, 8, 7]"}
    assert found[0].mask_HW.shape == (96, 96)
    assert found[0].overlay.size[0] >= 96
    assert "log_prob=-0.500" in repr(found[0])


def test_a_picture_is_turned_upright_and_laid_over_white(captioner):
    seen = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    assert "[255, 255, 255]" in str(captioner.caption(seen, point=(1, 1)))
    turned = Image.new("RGB", (96, 48))
    turned.getexif()[0x0112] = 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "(96, 48, 3)" in str(captioner.caption(turned, point=(1, 1)))


def test_an_image_of_another_world_is_warned_of(captioner):
    with pytest.warns(UserWarning, match="a photo is outside of what it saw"):
        captioner.caption(np.zeros((50, 60, 3), np.uint8), box=(0, 0, 9, 9))


@pytest.mark.parametrize(
    ("image", "box", "said"),
    [
        (np.zeros((9, 9), np.uint8), (0, 0, 1, 1), r"an array \(9, 9\) of uint8; expected"),
        (np.zeros((9, 9, 3)), (0, 0, 1, 1), r"of float64; expected \(height, width, 3\) of uint8"),
        (7, (0, 0, 1, 1), "is of type int; give a file, a PIL image or an array"),
        ("nowhere.png", (0, 0, 1, 1), r"nowhere\.png: no such image"),
        (np.zeros((9, 9, 3), np.uint8), None, "caption: box: missing; give box, point or both"),
        (np.zeros((9, 9, 3), np.uint8), (0, 0, 1), "box: is .* expected 4 finite numbers"),
        (np.zeros((9, 9, 3), np.uint8), "a box", "expected 4 finite numbers"),
        (np.zeros((9, 9, 3), np.uint8), (5, 5, 1, 1), "is empty; expected x1 < x2"),
        (np.zeros((9, 9, 3), np.uint8), (0, 0, 10, 1), "reaches outside; the image is 9 x 9 pix"),
    ],
    ids=range(9),
)
def test_a_wrong_request_is_one_line(captioner, image, box, said):
    with pytest.raises(sca_bench.InputError, match=said):
        captioner.caption(image, box=box)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda runs: runs.scores("nothing"), "nothing: was not run into this folder"),
        (lambda runs: sca_bench.Runs("no such").scores("x"), "run a suite first"),
        (lambda runs: runs.predictions(manifest().suite, "deep"), "deep: no cell is called so"),
        (lambda runs: runs.figure(manifest().suite, "forst"), "'forst' is unknown; did you mean f"),
        (lambda runs: runs.figure(manifest().suite, "sweep_history"), "has nothing to show of"),
        (lambda runs: sca_bench.load_suite("mixer_layer"), "did you mean mixer_layers"),
        (lambda runs: sca_bench.load_suite("mixer_layers", overrides={"train.step": 1}), "did you"),
        (lambda runs: sca_bench.load_captioner("nothing", runs.store.root), "no such finished run"),
        (lambda runs: sca_bench.score(["a"], []), "references: 0 for 1 captions"),
        (lambda runs: sca_bench.score(["a"], ["a"], "cidr"), "'cidr' is unknown"),
    ],
    ids=range(10),
)
def test_what_is_wrong_is_said_in_one_line(runs, call, said):
    with pytest.raises(sca_bench.InputError, match=said):
        call(runs)
