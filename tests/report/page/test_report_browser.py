"""The pages in a real browser: nothing in the console, nothing too wide, filters, keys, touch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import BINARY, NAMES, Browser, browser
from report_fake_runs import axis_manifest, build, png_alone

from sca_bench.report import write_reports

pytestmark = pytest.mark.skipif(
    BINARY is None or os.name != "posix", reason=f"none of {', '.join(NAMES)} is installed"
)
WIDTHS = (1280, 390)
SHOWN = "Array.from(document.querySelectorAll('.card')).filter(c => !c.hidden)"
SMALL_TARGETS = """
Array.from(document.querySelectorAll('button, select, input, summary, nav a')).filter(e => {
  const box = (e.type === 'checkbox' ? e.closest('label') : e).getBoundingClientRect();
  return box.height > 0 ? 44 > box.height : false;
}).map(e => e.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    store, _ = build(root / "runs")
    build(root / "runs", axis_manifest({"variant": ["sca", "sca_roi_align"]}))
    with pytest.MonkeyPatch.context() as patch:
        png_alone(patch)
        write_reports(store, None, root / "reports")
    return root / "reports"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(tab: Browser, reports: Path) -> Browser:
    tab.show(reports / "mixer_layers" / "index.html", 1280)
    return tab


def choose(page: Browser, control: str, value: str) -> str:
    """Give a control a value, as a person would, and return the count that is said."""
    page.js(
        f"(() => {{ const e = document.getElementById('{control}'); e.value = '{value}';"
        " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    return str(page.js("document.querySelector('[data-shown=count]').textContent"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index.html", "mixer_layers/index.html"])
def test_nothing_complains_and_nothing_is_too_wide(
    tab: Browser, reports: Path, name: str, width: int
) -> None:
    for dark in (False, True):
        tab.show(reports / name, width, dark=dark)
        tab.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert tab.js("document.documentElement.scrollWidth") <= width
        assert tab.js("document.body.scrollWidth") <= width
        assert tab.js(SMALL_TARGETS) == []
        tab.js("document.querySelector('button.shot').click()")
        assert tab.js("document.getElementById('viewer').getBoundingClientRect().right") <= width
        assert tab.complaints == []


def test_the_driver_hears_what_a_page_says(tab: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<!DOCTYPE html><script>console.log('hm'); nothing();</script>")
    tab.show(file, 390)
    assert len(tab.complaints) == 2


def test_regions_are_filtered(page: Browser) -> None:
    count = "document.querySelector('[data-shown=count]')"
    assert page.js(f"{count}.textContent") == "30 of 30 regions"
    assert page.js(f"{count}.getAttribute('aria-live')") == "polite"
    said = choose(page, "text", "PURPLE")
    shown = page.js(f"{SHOWN}.map(c => c.innerText.toLowerCase())")
    assert said == f"{len(shown)} of 30 regions"
    assert 0 < len(shown) < 30
    assert all("purple" in text for text in shown)
    assert choose(page, "text", "no such words") == "0 of 30 regions"
    assert choose(page, "text", "") == "30 of 30 regions"
    gaps = sorted(float(g) for g in page.js(f"{SHOWN}.map(c => c.dataset.gap)"))
    assert choose(page, "gap", str(gaps[20])) == "10 of 30 regions"
    page.js("document.querySelector('[type=reset]').click()")
    page.wait_for(f"{count}.textContent === '30 of 30 regions'")
    assert page.complaints == []


def test_cells_seeds_scores_and_order_are_chosen(page: Browser) -> None:
    rows = "Array.from(document.querySelectorAll('.card .said')).filter(r => !r.hidden)"
    assert page.js(f"{rows}.length") == 30 * 5
    page.js("document.querySelector('[data-cell-choice=\"0\"]').click()")
    assert page.js(f"{rows}.length") == 30 * 4
    assert page.js("document.querySelector('[data-shown=cells]').textContent") == "4 of 5"
    choose(page, "seed", "1")
    assert set(page.js(f"{rows}.map(r => r.dataset.seed)")) == {"1"}
    choose(page, "of", "1")
    choose(page, "sort", "low")
    score = f'{SHOWN}.map(c => Number(c.querySelector(\'.said[data-cell="1"][data-seed="1"]\')'
    scores = page.js(score + ".dataset.score))")
    assert scores == sorted(scores)
    assert choose(page, "least", str(scores[10])) == "20 of 30 regions"
    choose(page, "most", str(scores[12]))
    assert page.js(score + ".dataset.score))") == scores[10:13]
    choose(page, "least", "")
    choose(page, "most", "")
    choose(page, "sort", "id")
    ids = page.js(f"{SHOWN}.map(c => c.dataset.region)")
    assert ids == sorted(ids)
    assert page.complaints == []


def test_masks_are_a_layer_of_their_own(page: Browser) -> None:
    visible = (
        "Array.from(document.querySelectorAll('.card .mask'))"
        ".filter(m => getComputedStyle(m).display !== 'none').length"
    )
    assert page.js(visible) == 30
    choose(page, "mask", "")
    assert page.js(visible) == 0
    assert page.js("document.querySelector('.card .box').getBoundingClientRect().width > 9")
    choose(page, "mask", "0")
    assert page.js(visible) == 30


def test_the_keyboard_enlarges_walks_and_closes(page: Browser) -> None:
    title = "document.getElementById('viewer-title').textContent"
    opened = "document.getElementById('viewer').open"
    names = page.js(f"{SHOWN}.map(c => 'Region ' + c.dataset.region)")
    page.js("document.querySelector('button.shot').focus()")
    for key in ("Enter", " "):
        page.press(key)
        assert page.js(opened)
        assert page.js(title) == names[0]
        page.press("Escape")
        assert not page.js(opened)
        assert page.js("document.activeElement.className") == "shot"
    page.press("Enter")
    assert page.js(title) == names[0]
    page.press("ArrowRight")
    assert page.js(title) == names[1]
    page.press("ArrowRight")
    assert page.js(title) == names[2]
    assert page.js("document.getElementById('viewer-place').textContent") == "3 of 30"
    page.press("ArrowLeft")
    page.press("m")
    assert page.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    assert page.js("document.getElementById('mask').value") == ""
    page.press("m")
    assert not page.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    page.press("Escape")
    focused = "(document.activeElement.closest('.card') || document.body).dataset.region"
    page.wait_for(f"'Region ' + {focused} === '{names[1]}'")
    page.js("document.querySelector('button.shot').focus()")
    page.press("Enter")
    page.press("ArrowLeft")
    assert page.js(title) == names[-1]  # around the end
    page.press("Escape")
    assert page.complaints == []


def test_each_suite_of_the_overview_walks_its_own_regions(tab: Browser, reports: Path) -> None:
    tab.show(reports / "index.html", 390)
    tab.js("document.querySelectorAll('.suite')[1].querySelector('button.shot').click()")
    assert tab.js("document.getElementById('viewer-place').textContent") == "1 of 6"
    tab.press("ArrowLeft")
    assert tab.js("document.getElementById('viewer-place').textContent") == "6 of 6"
    tab.press("m")
    assert tab.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    tab.press("m")
    assert not tab.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    assert tab.complaints == []
