"""The figures of a suite's report: drawn, written as files, and captioned for the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sca_bench.files import path_name
from sca_bench.output import visible
from sca_bench.plugins import attribute, is_own
from sca_bench.reading import read_text
from sca_bench.report.figures.picture import KINDS, Picture
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown, plots_in_order
from sca_bench.report.read.thumbnails import png_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_DRAWN = "not-drawn"
"""Anchor of what says which plots had nothing to show."""
MOST_SVG_BYTES = 300_000
"""A larger SVG (tens of thousands of marks) stays a file beside the page, which shows the PNG."""


def write_pictures(suite: PlottedSuite, folder: Path) -> list[Picture]:
    """Draw every plot into a folder, as PNG, SVG and PDF, and return what the page shows.

    A plot of another package that fails leaves a line in its place. Plots with nothing to show are
    left out; the last picture, without a figure, then says which, and why.

    Args:
        suite: What the plots show.
        folder: Where the files go; none of a plot is there.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    specs = plots_in_order()
    pictures: list[Picture] = []
    for spec in specs:
        if spec.fault:
            pictures.append(_failed(spec, spec.fault))
        elif is_own(spec.facts):
            pictures += _pictures(spec, suite, folder)
        else:
            try:
                pictures += _pictures(spec, suite, folder)
            except (Exception, SystemExit) as error:  # it may leave; the report goes on
                pictures.append(_failed(spec, f"{type(error).__name__}: {error}"))
    silent = [picture for picture in pictures if not (picture.uri or picture.failed)]
    drawn = [picture for picture in pictures if picture not in silent]
    if silent:
        why = " ".join(f"{picture.title}: {picture.caption}" for picture in silent)
        drawn.append(Picture(NOT_DRAWN, "Not drawn", "", "", why))
    return drawn


def is_picture(path: Path) -> bool:
    """Say whether a file in the folder of a report has the name of a plot."""
    known = any(_names(spec, path.stem) for spec in plots_in_order())
    return known and path.suffix.lstrip(".") in KINDS


def _pictures(spec: PlotSpec, suite: PlottedSuite, folder: Path) -> list[Picture]:
    return [_picture(spec, one, folder) for one in shown_by(spec, suite)]


def shown_by(spec: PlotSpec, suite: PlottedSuite) -> list[Shown]:
    """Return the figures of a plot with all of their texts; none where it has nothing to show.

    Raises:
        ValueError: Two have one name, or one has a name that is not the plot's.
    """
    facts = attribute(spec.facts)(suite)
    if facts is None:
        return []
    several = isinstance(facts, list | tuple) and all(isinstance(one, Shown) for one in facts)
    shown: Sequence[Any] = facts if several else [facts]
    figures = [one if isinstance(one, Shown) else Shown(one) for one in shown]
    names = [one.name or spec.name for one in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"gives two figures one name; set Shown.name to {spec.name}_... in each")
    for name in names:
        if not _names(spec, path_name(name, spec.name, "Shown.name")):
            raise ValueError(f"names its files {name!r}, expected {spec.name} or {spec.name}_...")
    return [
        Shown(
            one.facts,
            one.title or spec.title,
            one.caption or spec.caption,
            one.alt or spec.alt or one.title or spec.title,
            one.name or spec.name,
        )
        for one in figures
    ]


def drawn(spec: PlotSpec, shown: Shown) -> Figure | None:
    """Draw one figure; None where there is nothing to draw. Call it inside `figure_style`.

    Raises:
        TypeError: The plot gave something else than a figure.
    """
    from matplotlib.figure import Figure

    if shown.facts is None:
        return None
    figure = attribute(spec.draw)(visible_facts(shown.facts))
    if figure is not None and not isinstance(figure, Figure):
        raise TypeError(f"{spec.draw} gave {type(figure).__name__}, expected a Figure")
    return figure


def _picture(spec: PlotSpec, shown: Shown, folder: Path) -> Picture:
    from sca_bench.report.figures.style import figure_style, save

    uri = svg = ""
    with figure_style():
        figure = drawn(spec, shown)
        if figure is not None:
            png, vector, _ = save(figure, folder, shown.name)
            uri, svg = png_uri(png), _for_a_page(vector)
    anchor = _anchor(spec, shown.name)
    return Picture(anchor, shown.title, uri, shown.alt, shown.caption, svg=svg)


def _for_a_page(svg: Path) -> str:
    return "" if svg.stat().st_size > MOST_SVG_BYTES else read_text(svg, MOST_SVG_BYTES)


def visible_facts(facts: Any) -> Any:
    """Return what a plot shows with every character of its texts seen.

    A control would make an SVG file invalid, and a mark of direction turn what stands beside it.
    Texts in dataclasses, dictionaries, lists and tuples are looked through; anything else, and what
    holds no such text, is the same object.
    """
    if isinstance(facts, str):
        shown: Any = visible(facts)
        return facts if shown == facts else shown
    if type(facts) is dict:
        parts = [part for pair in facts.items() for part in pair]
        new = list(map(visible_facts, parts))
        return facts if _same(new, parts) else dict(zip(new[::2], new[1::2], strict=True))
    if type(facts) in (list, tuple):
        new = list(map(visible_facts, facts))
        return facts if _same(new, facts) else type(facts)(new)
    if is_dataclass(facts) and not isinstance(facts, type):
        names = [field.name for field in fields(facts) if field.init]
        old = [getattr(facts, name) for name in names]
        new = list(map(visible_facts, old))
        return facts if _same(new, old) else replace(facts, **dict(zip(names, new, strict=True)))
    return facts


def _same(new: Sequence[Any], old: Sequence[Any]) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def _names(spec: PlotSpec, stem: str) -> bool:
    """Say whether a file's name, without its ending, is of a plot."""
    return stem == spec.name or stem.startswith(f"{spec.name}_")


def _failed(spec: PlotSpec, why: str) -> Picture:
    title = spec.title if isinstance(spec.title, str) else spec.name
    fault = f"The plot {spec.name} cannot be drawn: {' '.join(why.split())}"
    return Picture(_anchor(spec, spec.name), title, "", "", fault, failed=True)


def _anchor(spec: PlotSpec, name: str) -> str:
    """Return where the page has it; another package's name is no anchor of the page's own."""
    anchor = re.sub(r"[^a-z0-9]+", "-", name)
    return anchor if is_own(spec.facts) else f"plot-{anchor}"
