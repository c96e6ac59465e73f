"""A damaged file of one run costs that run's part of the report, and one line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from report_fake_runs import MASKS_FILE, regions

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.report.figures.picture import Picture
from sca_bench.report.write import write_report
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots undrawn: their facts alone read files."""
    from sca_bench.plugins import attribute
    from sca_bench.report.figures.plotted import PlottedSuite
    from sca_bench.report.figures.registry import plots_in_order

    def facts(suite: PlottedSuite, folder: Path) -> list[Picture]:
        for spec in plots_in_order():
            attribute(spec.facts)(suite)
        return []

    monkeypatch.setattr("sca_bench.report.write.write_pictures", facts)


def place_of(store: Store, name: str) -> Path:
    return store.root / name if "/" in name else store.run_dir("c-depth-2", 0) / name


def numbers(folder: Path) -> dict[tuple[str, str, str], str]:
    rows = csv.DictReader((folder / "table.csv").read_text("utf-8").splitlines())
    return {(row["cell"], row["seed"], row["metric"]): row["value"] for row in rows}


@pytest.mark.parametrize(
    ("name", "text", "costs"),
    [
        ("record.json", "{", {("depth-2", "0")}),
        ("record.json", '{"schema_version": 7}', {("depth-2", "0")}),
        ("predictions.jsonl", "{\n", set()),
        ("predictions.jsonl", "", set()),
        ("region_scores.json", "{", set()),
        ("region_scores.json", '{"region_ids": ["a"], "scores": {"cider_d": [1, 2]}}', set()),
        ("region_scores.json", '{"region_ids": ["a"], "scores": {"cider_d": [null]}}', set()),
        ("log.jsonl", "{\n", set()),
        ("images/feed/sizes.json", '{"scene-000": 3}', set()),
        ("images/feed/scene-000.png", "no picture", set()),
        (MASKS_FILE, "{\n", set()),
        (MASKS_FILE, '{"region_id": "scene-000/0", "size": [96, 96], "counts": "~"}\n', set()),
    ],
)
def test_the_rest_is_reported(
    runs: tuple[Store, SuiteManifest],
    name: str,
    text: str,
    costs: set[tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, suite = runs
    before = numbers(write_report(store, suite, tmp_path / "before"))
    assert before
    path = place_of(store, name)
    if "scene-000/0" in text:  # whichever regions a page shows
        text = "".join(text.replace("scene-000/0", str(row["region_id"])) for row in regions())
    path.write_text(text, encoding="utf-8")
    words = ["report", "--runs-dir", str(store.root), "--no-mlflow", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith(f"left out: {path}: ")
    folder = tmp_path / "out" / suite.report_name
    after = numbers(folder)
    assert {k: v for k, v in before.items() if k[:2] not in costs and k[2] in suite.metrics} == {
        k: v for k, v in after.items() if v and k[2] in suite.metrics
    }
    page = (folder / "index.html").read_text("utf-8")
    if name == "record.json":
        reason = "written by a newer version (7)" if "7" in text else "damaged: record.json"
        assert f"depth-2, seed 0: {reason}" in page
    with pytest.raises(InputError, match=path.name):  # nobody takes the faults
        write_report(store, suite, tmp_path / "again")
    assert numbers(tmp_path / "again" / suite.report_name) == after
