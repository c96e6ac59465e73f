"""Figures on any ground: the reader's colours, ids that no two figures share, contrast on both."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from sca_bench.report.figures.picture import Picture
from sca_bench.report.figures.style import (
    COLOURS,
    CONTROL_COLOUR,
    figure_style,
    legend_sign,
    new_figure,
    save,
    tidy,
)
from sca_bench.report.figures.svg import inlined, on_any_ground

GROUNDS = {"light": "#ffffff", "dark": "#16191d"}


def some_figure() -> Figure:
    """A clip path, markers, a hollow mark, a control, and a label that looks like a style."""
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    tidy(axes)
    axes.plot([0, 1, 2], [0, 1, 0], marker="o", color=COLOURS[0], markerfacecolor="white")
    axes.fill_between([0, 1], 0, 1, color=CONTROL_COLOUR, alpha=0.2)
    axes.set_xlabel('<b>&amp; style="fill: #000000"')
    axes.axvline(1, color="black")
    figure.legend(handles=[legend_sign("mark", COLOURS[1], "D", "none")])
    return figure


@pytest.fixture
def svg(tmp_path: Path) -> str:
    with figure_style():
        return save(some_figure(), tmp_path, "one")[1].read_text(encoding="utf-8")


@pytest.mark.usefixtures("every_kind")
def test_it_has_the_reader_s_colours_and_no_ground_of_its_own(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    styles = [each.get("style", "") for each in root.iter()]
    colours = set(re.findall(r"(?:fill|stroke): ([^;]+)", "; ".join(styles)))
    assert {"currentColor", "var(--ground, #ffffff)", COLOURS[0].lower()} <= colours
    assert not colours & {"#000000", "#ffffff", "black", "white"}
    assert root.get("fill") == "currentColor"
    ground = next(each for each in root.iter() if each.tag.endswith("path"))
    assert "fill: none" in ground.get("style", "")
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert '<b>&amp; style="fill: #000000"' in texts
    assert "Verdana, sans-serif" in svg
    assert not re.search(r"<style|<metadata|<script", svg)


@pytest.mark.usefixtures("every_kind")
def test_two_figures_of_a_page_share_no_id_and_every_link_is_their_own(svg: str) -> None:
    pictures = [Picture(name, "", "uri", "a < b", "", svg=svg) for name in ("one", "two")]
    drawn = [picture.inline(p) for picture in pictures for p in ("", "suite--")]
    roots = [ElementTree.fromstring(text) for text in drawn]
    ids = [[each.get("id") for each in root.iter() if each.get("id")] for root in roots]
    assert all(ids)
    assert len({name for own in ids for name in own}) == sum(map(len, ids))
    for text, root, own in zip(drawn, roots, ids, strict=True):
        linked = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
        assert {a or b for a, b in linked} == set(own)
        assert (root.get("role"), root.get("aria-label")) == ("img", "a < b")
        assert root.get("width") is None
        assert root.get("viewBox") == "0 0 216 144"
        assert "xlink" not in text


def test_what_is_no_svg_stays_a_file() -> None:
    assert on_any_ground("no <svg") == "no <svg"
    assert inlined("no <svg", "p", "alt") == ""
    assert Picture("a", "", "uri", "", "").inline() == ""


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("colour", [*COLOURS, CONTROL_COLOUR])
def test_every_colour_has_enough_contrast_on_both_grounds(colour: str, ground: str) -> None:
    low, high = sorted((luminance(colour), luminance(GROUNDS[ground])))
    assert (high + 0.05) / (low + 0.05) >= 3.5
