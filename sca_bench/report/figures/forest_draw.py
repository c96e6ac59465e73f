"""Differences with their intervals, one a row, around a line at zero; one axis for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sca_bench.report.figures.forest import Facet, Forest, ForestRow
from sca_bench.report.figures.style import BAND, COLOURS, MARKERS, legend_sign, new_figure, tidy
from sca_bench.report.names import wrapped

_LABEL_SIGNS, _NOTE_SIGNS = 30, 14
"""Characters of one line of a label, and of a note."""
_LINE_IN = 0.165
_ROW_IN = 0.32
_GROUP_IN = 0.30
_AXIS_IN = 0.62
"""What the ticks and the name of an axis take."""
_WIDTH_IN = 5.8
_PAPER = "paper's own difference"


def draw_forest_plot(forest: Forest) -> Figure | None:
    """Draw one row per difference: a mark, its interval, its noise floor and its margin.

    Returns:
        The figure, or None where there is no row.
    """
    if not forest.rows:
        return None
    legend = _legend(forest)
    heights = [_height(facet) for facet in forest.facets]
    legend_in = 0.2 * -(-len(legend) // 2) + 0.1
    whole = sum(heights) + _AXIS_IN * len(heights) + legend_in
    figure = new_figure(_WIDTH_IN, whole)
    ratios = {"height_ratios": heights}
    panels = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw=ratios)
    for axes, facet in zip(panels.flat, forest.facets, strict=True):
        _draw_facet(axes, facet)
    if legend:
        columns = min(2, len(legend))
        figure.legend(
            handles=legend, loc="outside upper left", ncols=columns, frameon=False, fontsize=8
        )
    return figure


def _row_heights(facet: Facet) -> list[float]:
    texts = [
        (wrapped(row.label, _LABEL_SIGNS), wrapped(row.note, _NOTE_SIGNS)) for row in facet.rows
    ]
    lines = [max(text.count("\n") for text in both) for both in texts]
    return [_ROW_IN + _LINE_IN * count for count in lines]


def _groups(facet: Facet) -> list[tuple[str, list[ForestRow]]]:
    """Return the rows by group, in their order."""
    return [(name, list(rows)) for name, rows in groupby(facet.rows, key=lambda row: row.group)]


def _height(facet: Facet) -> float:
    named = sum(bool(name) for name, _ in _groups(facet))
    return sum(_row_heights(facet)) + _GROUP_IN * named


def _draw_facet(axes: Axes, facet: Facet) -> None:
    heights = _row_heights(facet)
    places, titles, bottom = _places(_groups(facet), heights)
    axes.axvline(0.0, color="black", linewidth=1.0, zorder=1)
    for row, y, height in zip(facet.rows, places, heights, strict=True):
        if row.noise is not None:
            between = (y - height / 2, y + height / 2)
            axes.fill_betweenx(between, -row.noise, row.noise, zorder=0, **BAND)
        if row.margin is not None:
            half = 0.36 * height
            line = ([row.margin, row.margin], [y - half, y + half])
            axes.plot(*line, color=COLOURS[1], linewidth=1.6, linestyle=(0, (2, 1)), zorder=2)
        _draw_row(axes, row, y)
    tidy(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(bottom, -0.02)
    axes.set_yticks(places, [wrapped(row.label, _LABEL_SIGNS) for row in facet.rows], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _limits(axes, facet)
    axes.set_xlabel(facet.axis)
    for name, y in titles:
        axes.annotate(
            name if len(name) <= _LABEL_SIGNS else "Minus the reference",
            xy=(0.0, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-5, 0),
            textcoords="offset points",
            fontweight="bold",
            fontsize=8.5,
            va="center",
            ha="right",
            annotation_clip=False,
        )


def _places(
    groups: Sequence[tuple[str, Sequence[ForestRow]]], heights: Sequence[float]
) -> tuple[list[float], list[tuple[str, float]], float]:
    """Return the heights (inches from the top) of rows and of group names, and of the end."""
    places: list[float] = []
    titles: list[tuple[str, float]] = []
    top = 0.0
    for name, rows in groups:
        if name:
            titles.append((name, top + _GROUP_IN / 2))
            top += _GROUP_IN
        for _ in rows:
            height = heights[len(places)]
            places.append(top + height / 2)
            top += height
    return places, titles, top + 0.05


def _draw_row(axes: Axes, row: ForestRow, y: float) -> None:
    colour = COLOURS[0]
    if row.low is not None and row.high is not None:
        ends = ([row.low, row.high], [y, y])
        dashes = "--" if row.images_only else "-"
        axes.plot(
            *ends, color=colour, linewidth=1.5, linestyle=dashes, marker="|", markersize=6, zorder=3
        )
    axes.plot(
        row.difference,
        y,
        marker=MARKERS[0],
        markersize=6,
        color=colour,
        markerfacecolor=colour if row.filled else "white",
        markeredgewidth=1.3,
        zorder=5,
    )
    if row.published is not None:
        axes.plot(
            row.published,
            y,
            marker="D",
            markersize=7,
            color=COLOURS[1],
            markerfacecolor="none",
            markeredgewidth=1.3,
            zorder=4,
        )
    if row.note:
        axes.annotate(
            wrapped(row.note, _NOTE_SIGNS),
            xy=(1.01, y),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            linespacing=0.95,
            annotation_clip=False,
        )


def _limits(axes: Axes, facet: Facet) -> None:
    values = [0.0]
    for row in facet.rows:
        ends = (row.difference, row.low, row.high, row.published, row.margin)
        values += [value for value in ends if value is not None]
        if row.noise is not None:
            values += [-row.noise, row.noise]
    low, high = min(values), max(values)
    margin = 0.05 * ((high - low) or 1.0)
    axes.set_xlim(low - margin, high + margin)


def _legend(forest: Forest) -> list[Line2D | Patch]:
    """Return what the signs mean, of those that are drawn."""
    handles: list[Line2D | Patch] = []
    blue, circle, rows = COLOURS[0], MARKERS[0], forest.rows
    drawn = [row for row in rows if row.low is not None]
    for filled, says in ((True, "decided"), (False, "not told apart")):
        if drawn and any(row.filled == filled for row in rows):
            handles.append(legend_sign(says, blue, circle, "" if filled else "white"))
    for dashes, only, says in (("-", False, ""), ("--", True, ", images only")):
        if any(row.images_only == only for row in drawn):
            handles.append(legend_sign(f"95 % interval{says}", blue, dashes=dashes))
    if any(row.margin is not None for row in rows):
        handles.append(legend_sign("margin of the claim", COLOURS[1], dashes="--"))
    if any(row.published is not None for row in rows):
        handles.append(legend_sign(_PAPER, COLOURS[1], "D", "none"))
    if any(row.noise is not None for row in rows):
        handles.append(Patch(label="noise floor", **BAND))
    return handles
