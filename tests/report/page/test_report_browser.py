"""The pages in a real browser: nothing in the console, nothing too wide, filters, keys, touch."""

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import BINARY, NAMES, Browser, browser
from report_fake_runs import axis_manifest, build, png_alone

from sca_bench.report import write_reports

pytestmark = pytest.mark.skipif(
    BINARY is None or os.name != "posix", reason=f"none of {', '.join(NAMES)} is installed"
)
WIDTHS = (1280, 390)
NUM_CARDS = "document.querySelectorAll('.card').length"
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


def tab_of(page: Browser, kind: str) -> None:
    """Press the button of a group of regions."""
    page.js(f"document.querySelector('[data-tab=\"{kind}\"]').click()")


def test_regions_are_filtered(page: Browser) -> None:
    count, total = "document.querySelector('[data-shown=count]')", page.js(NUM_CARDS)
    assert page.js(f"{count}.textContent") == f"24 of {total} regions"
    assert page.js(f"{count}.getAttribute('aria-live')") == "polite"
    tab_of(page, "")
    assert page.js(f"{count}.textContent") == f"{total} of {total} regions"
    said = choose(page, "text", "PURPLE")
    shown = page.js(f"{SHOWN}.map(c => c.textContent.toLowerCase())")
    assert said == f"{len(shown)} of {total} regions"
    assert 0 < len(shown) < total
    assert all("purple" in text for text in shown)
    assert choose(page, "text", "no such words") == f"0 of {total} regions"
    assert choose(page, "text", "") == f"{total} of {total} regions"
    gaps = sorted(float(g) for g in page.js(f"{SHOWN}.map(c => c.dataset.gap)"))
    assert choose(page, "gap", str(gaps[-10])) == f"10 of {total} regions"
    page.js("document.querySelector('[type=reset]').click()")
    page.wait_for(f"{count}.textContent === '24 of {total} regions'")
    assert page.complaints == []


def test_tabs_show_groups(page: Browser) -> None:
    for kind in ("disputed", "right", "random"):
        tab_of(page, kind)
        groups = page.js(f"{SHOWN}.map(c => c.dataset.groups.split(' '))")
        assert groups
        assert all(kind in of for of in groups)
        pressed = "Array.from(document.querySelectorAll('[aria-pressed=true]'), b => b.dataset.tab)"
        assert page.js(pressed) == [kind]
        said = "Array.from(document.querySelectorAll('[data-about]')).filter(p => !p.hidden)"
        assert page.js(f"{said}.map(p => p.dataset.about)") == [kind]
    assert page.js("document.querySelector('[data-tab=wrong]').disabled")  # there are none


def test_seeds_scores_and_order_are_chosen(page: Browser) -> None:
    tab_of(page, "")
    choose(page, "seed", "1")
    choose(page, "of", "b")
    choose(page, "sort", "low")
    score = (
        f"{SHOWN}.map(c => Number(Array.from(c.querySelectorAll('.said[data-cell=\"1\"]'))"
        ".find(r => r.dataset.seeds.split(' ').includes('1')).dataset.score))"
    )
    scores, total = page.js(score), page.js(NUM_CARDS)
    assert scores == sorted(scores)
    assert choose(page, "least", str(scores[10])) == f"{total - 10} of {total} regions"
    choose(page, "most", str(scores[12]))
    assert page.js(score) == scores[10:13]
    choose(page, "least", "")
    choose(page, "most", "")
    choose(page, "sort", "id")
    names = page.js(f"{SHOWN}.map(c => c.dataset.name)")
    assert names == sorted(names)
    assert page.complaints == []


LINES = """
Array.from(document.querySelectorAll('.card')).map(c => Array.from(c.querySelectorAll('.line'), l =>
  [l.querySelector('.who').textContent, l.querySelector('.words').textContent.trim(),
   Array.from(l.querySelectorAll('.differs'), w => w.textContent).join(' ')]))
"""


def test_two_cells_are_compared_word_by_word(page: Browser) -> None:
    written = page.js(LINES)  # by the script now, as the page had it
    choose(page, "b", "2")
    others = page.js(LINES)
    assert {line[0] for pair in others for line in pair} == {"depth-1", "depth-4"}
    for (_, one, only), (_, other, _) in others:
        assert (one == other) == (only == "")
        assert set(only.split()) <= set(one.split())
    assert any(pair[0][2] for pair in others)
    choose(page, "b", "1")
    assert page.js(LINES) == written
    choose(page, "a", "1")
    assert {len(pair) for pair in page.js(LINES)} == {1}
    assert page.complaints == []


def test_words_are_marked_alike_with_and_without_a_script(tab: Browser, reports: Path) -> None:
    text = (reports / "mixer_layers" / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    marked = [
        [[e.get("class"), e.text] for e in pair.iter("span") if "differs" in str(e.get("class"))]
        for card in root.iter("article")
        if "disputed" in str(card.get("data-groups"))
        for pair in card.iterfind("div[@class='pair']")
    ]
    assert any(marked)
    tab.show(reports / "mixer_layers" / "index.html", 1280)
    found = tab.js(
        f"{SHOWN}.map(c => [c.dataset.region,"
        " Array.from(c.querySelectorAll('.pair .differs'), w => [w.className, w.textContent])])"
    )
    shown = [card for card in root.iter("article") if "disputed" in str(card.get("data-groups"))]
    regions = [str(card.get("data-region")) for card in shown]
    assert dict(found) == dict(zip(regions, marked, strict=True))


def test_the_address_keeps_tab_cells_and_filters(tab: Browser, reports: Path) -> None:
    file = reports / "mixer_layers" / "index.html"
    tab.show(file, 1280)
    assert tab.js("location.hash") == ""
    tab_of(tab, "random")
    choose(tab, "b", "2")
    choose(tab, "text", "red; & blue=1")
    choose(tab, "text", "red")
    hash_ = str(tab.js("location.hash"))
    assert hash_ == "#regions;tab=random;b=depth-4;text=red"
    names = tab.js(f"{SHOWN}.map(c => c.dataset.name)")
    tab.show(file, 390, fragment=hash_)
    assert tab.js(f"{SHOWN}.map(c => c.dataset.name)") == names
    assert tab.js("document.getElementById('b').value") == "2"
    assert {len(pair) for pair in tab.js(LINES)} == {2}
    assert tab.js("scrollY") > 0
    tab.js("document.querySelector('[type=reset]').click()")
    tab.wait_for("location.hash === '#regions'")
    tab.show(file, 390, fragment="#regions;tab=nothing;b=no such;seed=%E0%A4%A;sort=__proto__")
    assert tab.js("document.querySelector('[aria-pressed=true]').dataset.tab") == "disputed"
    assert tab.js("document.getElementById('b').value") == "1"
    assert tab.complaints == []


def test_a_link_into_a_folded_part_opens_it(tab: Browser, reports: Path) -> None:
    file = reports / "mixer_layers" / "index.html"
    tab.show(file, 1280)
    assert not tab.js("document.getElementById('notes').open")
    tab.js("document.querySelector('sup a').click()")
    tab.wait_for("document.getElementById('notes').open")
    assert tab.js("document.querySelector(':target').getBoundingClientRect().top") < 900
    tab.show(file, 1280, fragment="#provenance")
    assert tab.js("document.getElementById('provenance').open")


def test_masks_are_outlined_dimmed_or_off(page: Browser) -> None:
    visible = (
        "Array.from(document.querySelectorAll('.card .mask'))"
        ".filter(m => getComputedStyle(m).display !== 'none')"
    )
    fills = f"{visible}.map(m => getComputedStyle(m).fill)"
    total = page.js(NUM_CARDS)
    assert page.js(fills) == ["none"] * total
    choose(page, "mask", "dim")
    assert page.js(fills) == ["rgb(0, 0, 0)"] * total
    assert all(d.startswith("M0 0H") for d in page.js(f"{visible}.map(m => m.getAttribute('d'))"))
    choose(page, "mask", "off")
    assert page.js(f"{visible}.length") == 0
    assert page.js("document.querySelector('.card .box').getBoundingClientRect().width > 9")
    choose(page, "mask", "outline")
    assert page.js(fills) == ["none"] * total
    lines = page.js(f"{visible}.map(m => m.getAttribute('d'))")
    assert not any(line.startswith("M0 0H") for line in lines)


def test_the_keyboard_enlarges_walks_and_closes(page: Browser) -> None:
    title = "document.getElementById('viewer-title').textContent"
    opened = "document.getElementById('viewer').open"
    names = page.js(f"{SHOWN}.map(c => c.dataset.name)")
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
    assert page.js("document.getElementById('viewer-place').textContent") == "3 of 24"
    page.press("ArrowLeft")
    page.press("m")
    assert page.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    assert page.js("document.getElementById('mask').value") == "off"
    page.press("m")
    assert not page.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    page.press("Escape")
    focused = "(document.activeElement.closest('.card') || document.body).dataset.name"
    page.wait_for(f"{focused} === '{names[1]}'")
    page.press("Enter")
    page.press("d")
    assert page.js("document.querySelector('#viewer .mask.dim').hasAttribute('d')")
    page.press("d")
    page.press("m")
    page.press("ArrowRight")  # the page itself moves the focus then, when it hears of the end
    page.press("Escape")
    page.wait_for(f"{focused} === '{names[2]}'")
    page.js("document.querySelector('button.shot').focus()")
    page.press("Enter")
    page.press("ArrowLeft")
    assert page.js(title) == names[-1]  # around the end
    page.press("Escape")
    assert page.complaints == []


def test_each_suite_of_the_overview_walks_its_own_regions(tab: Browser, reports: Path) -> None:
    tab.show(reports / "index.html", 390)
    tab.js("document.querySelectorAll('.suite details').forEach(d => { d.open = true; })")
    tab.js("document.querySelectorAll('.suite')[1].querySelector('button.shot').click()")
    assert tab.js("document.getElementById('viewer-place').textContent") == "1 of 6"
    tab.press("ArrowLeft")
    assert tab.js("document.getElementById('viewer-place').textContent") == "6 of 6"
    tab.press("m")
    assert tab.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    tab.press("m")
    assert not tab.js("document.querySelector('#viewer .mask').hasAttribute('hidden')")
    assert tab.complaints == []
