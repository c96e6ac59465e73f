"""Runs that an older code left are still runs: listed, reported, verified, and marked as older.

`tests/study/runs/older_runs/` holds two cells of a few steps as commit 8c9829e left them, without
features. SAM's positional encoding has moved in its last digits since, so its revisions are older.
"""

import json
import shutil
from pathlib import Path

import pytest

from sca_bench.cli import main
from sca_bench.study.keys.cell import CellIdentity, Revisions
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.revisions import identity_of
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

LEFT = Path(__file__).parents[2] / "study" / "runs" / "older_runs"
CELLS = {"num_layers=1": "2267fe2aae13", "num_layers=2": "286cc1cc37ac"}


@pytest.fixture
def runs(tmp_path):
    shutil.copytree(LEFT / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def test_their_keys_are_those_of_the_code_that_made_them(runs):
    records = {r.cell_id: r for r in Store(runs).records()}
    assert set(records) == set(CELLS.values())
    for cell_id, record in records.items():
        assert identity_of(record).cell_key == cell_id
    then = Revisions("1", "2", "scenes-1")
    suite = load_suite(LEFT / "suite.yaml")
    plan = make_plan(suite, Store(runs))
    for cell in plan.cells:
        identity = cell.identity
        assert CellIdentity(identity.settings, identity.inputs, then).cell_key == CELLS[cell.name]


def test_what_they_left_is_made_anew_beside_them(runs):
    plan = make_plan(load_suite(LEFT / "suite.yaml"), Store(runs))
    assert plan.num_done == 0
    assert len(plan.left) == 2


def test_they_are_listed_and_explained_as_older(runs, capsys):
    assert main(["list", "runs", "--runs-dir", str(runs)]) == 0
    listed = capsys.readouterr().out
    for cell_id in CELLS.values():
        (line,) = (line for line in listed.splitlines() if cell_id in line)
        assert "older revision" in line
    assert main(["explain", CELLS["num_layers=1"], "--runs-dir", str(runs)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["variant.revision"] == "1"
    assert "older revision" in shown.err


@pytest.mark.usefixtures("figures")
def test_they_are_reported_with_a_note(runs, tmp_path):
    out = tmp_path / "reports"
    words = ["report", "--runs-dir", str(runs), "--out", str(out), "--no-mlflow"]
    assert main(words) == 0
    text = (out / "older_runs" / "table.md").read_text(encoding="utf-8")
    assert "260.9" in text
    assert "229.2" in text
    assert "older revision" in text


@pytest.mark.parametrize("cell_id", CELLS.values())
def test_they_are_verified_but_for_captions_that_the_new_code_changes(runs, cell_id, capsys):
    assert main(["verify", cell_id, "--runs-dir", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "older revision" in said
    assert "FAILED" not in said
