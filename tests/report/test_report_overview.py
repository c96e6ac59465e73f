"""The overview of all suites: best cell, range, holes, links; the same bytes twice."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_fake_runs import axis_manifest, build, manifest, record

from sca_bench.cli import main
from sca_bench.report import write_reports
from sca_bench.report.collect import collect
from sca_bench.report.overview import summarise
from sca_bench.study.store import Store


def two_suites(root: Path) -> Store:
    store, suite = build(root / "runs")
    for seed in suite.seeds:
        failed = {"status": "failed", "error": "out of memory"}
        store.save(record(suite.cells[1], seed).model_copy(update=failed))
    (store.run_dir("c-depth-4", 1) / "record.json").unlink()
    other = axis_manifest({"variant": ["sca", "sca_roi_align"]}, question="Which <design>?")
    build(root / "runs", other)
    store.save_manifest(manifest(profile="paper", cells=[], seeds=[0]))
    return store


def test_a_suite_in_one_line(tmp_path: Path) -> None:
    store = two_suites(tmp_path)
    found = summarise(collect(store, manifest()), tmp_path)
    assert found.best == "depth-2: CIDEr-D (×100, max 1000) 880.0 ± 28.3"  # noqa: RUF001
    assert found.spread == "810.0 to 880.0 over 2 cells"
    assert found.runs == "7 of 10"
    assert found.holes == "2 failed, 1 missing"
    assert (found.paper, found.report) == ("table_4", "")
    empty = summarise(collect(store, manifest(cells=[])), tmp_path)
    assert (empty.best, empty.spread, empty.holes) == ("no score yet", "no score yet", "none")


def test_more_than_one_report_makes_the_overview(tmp_path: Path) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    write_reports(store, ["axes"], out)
    assert not (out / "index.html").exists()
    write_reports(store, None, out)
    page = (out / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(page)
    links = [a.get("href") for a in root.iter("a")]
    assert links == [
        *("axes/index.html", "mixer_layers.paper/index.html", "mixer_layers/index.html"),
        "index.md",
    ]
    assert all((out / str(link)).is_file() for link in links)
    assert "Which &lt;design&gt;?" in page
    text = (out / "index.md").read_text(encoding="utf-8")
    for said in (
        "## How deep must the text feature mixer be?",
        "Suite **mixer_layers**, profile **tiny**, after the paper's table_4.",
        "- Failed or missing: 2 failed, 1 missing",
        "- Runs: 7 of 10 done",
        "- Report: [mixer_layers/index.html](mixer_layers/index.html)",
        r"## Which \<design>?",
    ):
        assert said in text, said


def test_a_suite_whose_report_is_not_there_has_no_link(tmp_path: Path) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    write_reports(store, ["mixer_layers"], out)
    text = (out / "index.md").read_text(encoding="utf-8")
    assert "- Report: not written" in text
    assert "(report not written)" in (out / "index.html").read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_reports(two_suites(tmp_path / name), None, tmp_path / name / "out")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a" / "out").rglob("*.*"))
    assert Path("out/index.html") in files
    for file in files:
        if (tmp_path / "a" / file).is_file():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), (
                file
            )


def test_the_command_prints_the_overview(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    assert main(["report", "--runs-dir", str(store.root), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "index.html")
