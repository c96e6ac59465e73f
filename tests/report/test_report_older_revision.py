"""Runs of an older revision are reported, and the report says so."""

from dataclasses import replace
from pathlib import Path

import pytest
from report_fake_runs import DEPTHS, record

from sca_bench import variants
from sca_bench.report import write_report
from sca_bench.report.read.suite_data import collect
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]
SAID = "made with an older revision of the code: sca revision 3, today 99; `run` makes it anew"


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = variants.all_variants()
    newer["sca"] = replace(newer["sca"], revision="99")
    monkeypatch.setattr(variants.VARIANTS, "own", lambda: newer)


def test_runs_of_today_are_not_marked(runs: Runs) -> None:
    assert all(cell.ages == [] for cell in collect(*runs).cells)


def test_older_runs_stand_in_every_table_with_a_note(
    runs: Runs, raised: None, tmp_path: Path
) -> None:
    cells = {cell.entry.name: cell for cell in collect(*runs).cells}
    assert cells["depth-2"].ages == [SAID]
    assert cells["most frequent caption"].ages == []  # its own revision is what it was
    folder = write_report(*runs, tmp_path / "reports")
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text.count("older revision of the code: sca revision 3, today 99") == 1
    (note,) = [line for line in text.splitlines() if "older revision" in line]
    number = note.partition(":")[0]  # `[^3]`
    rows = [line for line in text.splitlines() if line.startswith("| depth-")]
    assert len(rows) > len(DEPTHS)  # of several tables
    assert all(number in line.split("|")[1] for line in rows)
    assert any("880.0 ± 28.3" in line for line in rows if line.startswith("| depth-2"))
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "older revision of the code: sca revision 3, today 99" in page
    tex = (folder / "tables.tex").read_text(encoding="utf-8")
    assert "older revision of the code: sca revision 3, today 99" in tex


def test_one_run_of_older_code_is_told_from_the_others(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, suite = runs
    entry = next(cell for cell in suite.cells if cell.name == "depth-4")
    store.save(record(entry, 0).model_copy(update={"revision": "0"}))
    found = {cell.entry.name: cell.ages for cell in collect(store, suite).cells}
    assert found["depth-2"] == []
    assert found["depth-4"] == [SAID.replace("revision 3, today 99", "revision 0, today 3")]
