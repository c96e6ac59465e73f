"""The overview of all suites: answers, holes, links; the same bytes twice."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_fake_runs import axis_manifest, build, manifest, record

from sca_bench.cli import main
from sca_bench.report import write_reports
from sca_bench.report.page.overview import summarise
from sca_bench.report.write import write_suite
from sca_bench.study.runs.store import Store


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
    one = write_suite(store, manifest(), tmp_path / "elsewhere", 8.0)
    found = summarise(one.data, tmp_path, one.page)
    first = one.page.headline.sentences[0]
    assert found.answer == f"{first.label}: {first.text}"
    assert first.label == "no numbers"
    assert found.runs == "7 of 10"
    assert found.holes == "2 failed, 1 missing"
    assert found.claims == "2 without numbers"
    assert (found.paper, found.report) == ("table_4", "")
    small = replace(first, verdict="contradicted", label="not at tiny scale")
    page = replace(one.page, headline=replace(one.page.headline, sentences=(small,)))
    assert summarise(one.data, tmp_path, page).claims == "1 not at tiny scale"
    none = write_suite(store, manifest(cells=[], claims=[]), tmp_path / "elsewhere", 8.0)
    empty = summarise(none.data, tmp_path, none.page)
    assert (empty.claims, empty.holes) == ("no claims", "none")
    assert empty.answer == none.page.headline.in_short


def drawn(section: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the plots of a suite, as SVG or PNG."""
    figures = section.findall(".//figure[@class='plot']")
    return [one for figure in figures for one in figure if one.tag in ("svg", "img")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of both suites, and their overview, for whoever only reads them."""
    root = tmp_path_factory.mktemp("overview")
    write_reports(two_suites(root), None, root / "out")
    return root / "out"


def test_one_report_makes_no_overview(tmp_path: Path) -> None:
    write_reports(two_suites(tmp_path), ["axes"], tmp_path / "out")
    assert (tmp_path / "out" / "axes" / "index.html").is_file()
    assert not (tmp_path / "out" / "index.html").exists()


def test_more_than_one_report_makes_the_overview(written: Path) -> None:
    out = written
    page = (out / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(page)
    links = [str(a.get("href")) for a in root.iter("a")]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(ids)
    beside = [link for link in links if not link.startswith("#")]
    assert beside == [
        *("axes/index.html", "mixer_layers.paper/index.html", "mixer_layers/index.html"),
        "index.md",
    ]
    assert all((out / link).is_file() for link in beside)
    assert "Which &lt;design&gt;?" in page
    text = (out / "index.md").read_text(encoding="utf-8")
    for said in (
        "## How deep must the text feature mixer be?",
        "Suite **mixer_layers**, profile **tiny**, after the paper's table 4.",
        "- Failed or missing: 2 failed, 1 missing",
        "- Runs: 7 of 10 done",
        "- Report: [mixer_layers/index.html](mixer_layers/index.html)",
        r"## Which \<design>?",
    ):
        assert said in text, said


def test_the_overview_needs_no_other_file(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    root = ElementTree.fromstring(page)
    for element in root.iter():
        assert str(element.get("src", "data:image/")).startswith("data:image/")
        assert element.tag not in {"link", "iframe"}
    sections = {str(e.get("id")): e for e in root.iter("section") if e.get("class") == "suite"}
    assert list(sections) == ["suite-axes", "suite-mixer_layers.paper", "suite-mixer_layers"]
    said = "".join(sections["suite-mixer_layers"].itertext())
    for part in (
        "How deep must the text feature mixer be?",
        "pixel reconstruction and object descriptors",  # the profile's statement
        "Claims and verdicts",
        "Scores and costs",
        "CIDEr-D over",
        "failed: out of memory",  # what failed, and why
        "missing: never started",
        "Most disputed regions",
        "pycocoevalcap",  # the signatures
        "sha256:0123abcd",
        "sca-bench run ablations/mixer_layers.yaml --set train.steps=600",
    ):
        assert part in said, part
    assert len(sections["suite-mixer_layers"].findall(".//article")) == 6
    assert len(drawn(sections["suite-mixer_layers"])) == 5
    assert "nothing to draw" in "".join(sections["suite-mixer_layers.paper"].itertext())


def test_an_overview_leaves_the_reports_it_was_not_asked_for(tmp_path: Path) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    write_reports(store, ["axes", "mixer_layers.paper"], out)
    assert not (out / "mixer_layers").exists()
    page = (out / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(page)
    section = root.find(".//section[@id='suite-mixer_layers']")
    assert section is not None
    assert len(drawn(section)) == 5  # for this page alone
    assert "own report is not written" in "".join(section.itertext())


def test_a_suite_whose_report_is_not_there_has_no_link(tmp_path: Path) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    write_reports(store, ["mixer_layers"], out)
    text = (out / "index.md").read_text(encoding="utf-8")
    assert "- Report: not written" in text


@pytest.mark.usefixtures("every_kind")
def test_the_same_records_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_reports(two_suites(tmp_path), None, tmp_path / "out")
    files = sorted(p.relative_to(written) for p in written.rglob("*.*") if p.is_file())
    assert Path("index.html") in files
    for file in files:
        assert (written / file).read_bytes() == (tmp_path / "out" / file).read_bytes(), file


@pytest.mark.usefixtures("figures")
def test_the_command_prints_the_overview(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    assert main(["report", "--runs-dir", str(store.root), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "index.html")


def test_without_pages_the_overview_leads_to_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = two_suites(tmp_path)
    out = tmp_path / "out"
    write_reports(store, ["mixer_layers.paper"], out)
    words = ["report", "axes", "mixer_layers.tiny", "--runs-dir", str(store.root), "--no-mlflow"]
    write_reports(store, ["axes"], out)  # its page is one of an earlier report
    assert main([*words, "--out", str(out), "--no-pages"]) == 0
    said = [str(out / name) for name in ("axes/table.md", "mixer_layers/table.md", "index.html")]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == said
    below = lines[lines.index(said[1]) + 1]
    assert below.startswith("  - ")  # its answer, below the files of its suite
    kept = sorted(path.relative_to(out).as_posix() for path in out.rglob("index.html"))
    assert kept == ["index.html", "mixer_layers.paper/index.html"]
    root = ElementTree.fromstring((out / "index.html").read_text(encoding="utf-8"))
    links = [str(a.get("href")) for a in root.iter("a")]
    beside = [link for link in links if not link.startswith("#")]
    assert beside == [
        *("axes/table.md", "mixer_layers.paper/index.html", "mixer_layers/table.md"),
        "index.md",
    ]
    assert all((out / link).is_file() for link in beside)
    text = (out / "index.md").read_text(encoding="utf-8")
    assert "- Report: [mixer_layers/table.md](mixer_layers/table.md)" in text
    write_reports(store, ["axes"], out)
    assert (out / "axes" / "index.html").is_file()
