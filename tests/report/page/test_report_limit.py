"""`--limit-mb`: every page stays below it, says what it left out, and never leaves out a table."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.printed import ROOT
from PIL import Image
from report_fake_runs import NUM_IMAGES, axis_manifest, build, png_alone

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.report.page.overview import write_overview
from sca_bench.report.page.size_limit import (
    DEFAULT_LIMIT_MB,
    OVERVIEW_DETAILS,
    SUITE_DETAILS,
    Detail,
    fit,
)
from sca_bench.report.page.suite_report import SuiteReport
from sca_bench.report.write import write_suite
from sca_bench.study.runs.store import Store

MB = 1_000_000


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a runs folder with noise for photos, which compress badly."""
    root = tmp_path_factory.mktemp("photos")
    build(root / "runs")
    build(root / "runs", axis_manifest({"variant": ["sca", "sca_roi_align"]}))
    for number in range(NUM_IMAGES):
        noise = Image.effect_noise((480, 360), 80).convert("RGB")
        noise.save(root / "runs" / "images" / "feed" / f"scene-{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def suites(photos: Path) -> list[SuiteReport]:
    store = Store(photos / "runs")
    with pytest.MonkeyPatch.context() as patch:
        png_alone(patch)
        return [write_suite(store, suite, photos / "out", 8.0) for suite in store.manifests()]


@pytest.fixture
def suite(suites: list[SuiteReport]) -> SuiteReport:
    return next(s for s in suites if s.page.manifest.suite == "mixer_layers")


def least(suite: SuiteReport) -> float:
    """The smallest limit that the suite's page may have, as the error says it."""
    with pytest.raises(InputError) as caught:
        suite.html(0.001)
    found = re.search(r"alone take (\S+) MB", str(caught.value))
    assert found is not None
    return float(found[1])


def tables(page: str) -> list[str]:
    return re.findall(r'<table id="([^"]+)"', page)


def test_a_page_within_the_limit_leaves_nothing_out(photos: Path, suite: SuiteReport) -> None:
    page = (photos / "out" / "mixer_layers" / "index.html").read_text(encoding="utf-8")
    assert "To keep this page below" not in page
    assert page.count('<article class="card"') > 24
    assert page == suite.html((len(page.encode()) + 1) / MB)


def test_images_shrink_then_regions_go_then_plots(suite: SuiteReport) -> None:
    whole = suite.html(8.0)
    full, bare = len(whole.encode()) / MB, least(suite)
    counts, plots = [], []
    for limit in (full * 0.8, (full + bare) / 2, bare * 1.2, bare):
        page = suite.html(limit)
        assert len(page.encode()) <= limit * MB
        assert f"To keep this page below {limit:g} MB (report --limit-mb): " in page
        assert tables(page) == tables(whole)
        assert ("images have at most" in page) == ('<image id="image-1"' in page)
        ElementTree.fromstring(page)
        counts.append(page.count('<article class="card"'))
        plots.append(page.count("<img "))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == whole.count('<article class="card"')
    assert counts[-1] == 0
    assert plots[0] == whole.count("<img ")
    assert plots[-1] == 0


def test_what_is_left_out_is_named(suite: SuiteReport) -> None:
    said = re.search(r'<p class="held-back">(.*?)</p>', suite.html(least(suite)))
    assert said is not None
    assert "no regions are shown" in said[1]
    assert "no plot is shown (they are files beside this page)" in said[1]


@pytest.mark.usefixtures("figures")
def test_a_limit_below_the_tables_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["report", "mixer_layers", "--runs-dir", str(photos / "runs"), "--limit-mb", "0.01"]
    assert main([*words, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(
        r"--limit-mb: 0\.01 is too small: tables and texts of mixer_layers/index\.html alone take "
        r"0\.\d+ MB",
        said,
    )
    assert not (tmp_path / "mixer_layers" / "index.html").exists()


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much"])
def test_a_limit_is_a_positive_number(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--limit-mb", text])
    assert stopped.value.code == 2
    assert "--limit-mb" in capsys.readouterr().err


def test_the_page_of_all_suites_keeps_the_limit(suites: list[SuiteReport], tmp_path: Path) -> None:
    whole = write_overview(suites, tmp_path, 8.0).read_text(encoding="utf-8")
    assert "To keep this page below" not in whole
    assert whole.count('<article class="card"') == 12
    full = len(whole.encode()) / MB
    for share in (0.8, 0.6):
        page = write_overview(suites, tmp_path, full * share).read_text(encoding="utf-8")
        assert len(page.encode()) <= full * share * MB
        assert "To keep this page below" in page
        assert tables(page) == tables(whole)


def test_details_go_from_much_to_nothing() -> None:
    for details in (SUITE_DETAILS, OVERVIEW_DETAILS):
        amounts = [(d.num_pictures, d.gallery.most) for d in details]
        assert amounts[-1] == (0, 0)
        regions = [count for _, count in amounts]
        assert regions == sorted(regions, reverse=True)


def test_fitting_takes_the_first_that_fits_and_no_more() -> None:
    drawn: list[str] = []

    def draw(detail: Detail, limit: str) -> str:
        drawn.append(limit)
        return "x" * (3_000_000 // len(drawn))

    assert len(fit(SUITE_DETAILS, draw, 1.6, "a page")) == 1_500_000
    assert drawn == ["", "1.6 MB"]
    with pytest.raises(InputError, match=r"a page alone take 0\.14 MB"):
        fit(SUITE_DETAILS, lambda *_: "x" * 131_001, 0.1, "a page")


def test_the_limit_without_a_word_is_what_the_pages_say() -> None:
    assert DEFAULT_LIMIT_MB == 2
    for page, said in (("README.md", "at most 2 MB"), ("docs/reports.md", "`--limit-mb` (2 MB)")):
        assert said in (ROOT / page).read_text(encoding="utf-8")


def test_what_is_left_out_is_said_last(suite: SuiteReport) -> None:
    root = ElementTree.fromstring(suite.html(least(suite)))
    header, footer = root.find(".//header"), root.find(".//footer")
    assert header is not None
    assert footer is not None
    assert "To keep this page below" in "".join(footer[-1].itertext())
    assert "To keep this page below" not in "".join(header.itertext())
