"""Differences with their intervals, one a row, around a line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sca_bench.report.figures.forest import Forest, ForestRow
from sca_bench.report.figures.style import COLOURS, MARKERS, legend_sign, new_figure, tidy
from sca_bench.report.names import wrapped

_LABEL_SIGNS = 44
"""Characters of one line of a label."""
_LINE_IN = 0.155
_ROW_IN = 0.30
_GROUP_IN = 0.30
_WIDTH_IN = 7.6
_BAND_COLOUR = "#DDDDDD"
_PAPER = "paper's own difference"


def draw_forest_plot(forest: Forest) -> Figure | None:
    """Draw one row per difference: a mark, its interval, and the paper's as a hollow diamond.

    Returns:
        The figure, or None where there is no row.
    """
    if not forest.rows:
        return None
    labels = [wrapped(row.label, _LABEL_SIGNS) for row in forest.rows]
    heights = [_ROW_IN + _LINE_IN * label.count("\n") for label in labels]
    groups = [(name, list(rows)) for name, rows in groupby(forest.rows, key=lambda r: r.group)]
    named = [name for name, _ in groups if name]
    legend = _legend(forest)
    margins_in = 0.75 + 0.2 * -(-len(legend) // 3)
    figure = new_figure(_WIDTH_IN, sum(heights) + _GROUP_IN * len(named) + margins_in)
    axes = figure.add_subplot()
    places, titles, bottom = _places(groups, heights)
    axes.axvline(0.0, color="#333333", linewidth=1.0, zorder=1)
    for row, y, height in zip(forest.rows, places, heights, strict=True):
        if row.noise is not None:
            axes.fill_betweenx(
                [y - height / 2, y + height / 2],
                *(-row.noise, row.noise),
                color=_BAND_COLOUR,
                zorder=0,
                linewidth=0,
            )
        _draw_row(axes, row, y)
    tidy(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(bottom, -0.02)
    axes.set_yticks(places, labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    _limits(axes, forest)
    axes.set_xlabel(forest.axis)
    for name, y in titles:
        axes.annotate(
            name,
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
    if legend:
        columns = min(3, len(legend))
        figure.legend(
            handles=legend, loc="outside upper left", ncols=columns, frameon=False, fontsize=8
        )
    return figure


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
            wrapped(row.note, 26),
            xy=(1.01, y),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=7.5,
            linespacing=0.95,
            color="#333333",
            annotation_clip=False,
        )


def _limits(axes: Axes, forest: Forest) -> None:
    values = [0.0]
    for row in forest.rows:
        ends = (row.difference, row.low, row.high, row.published)
        values += [value for value in ends if value is not None]
        if row.noise is not None:
            values += [-row.noise, row.noise]
    low, high = min(values), max(values)
    margin = 0.05 * ((high - low) or 1.0)
    axes.set_xlim(low - margin, high + margin)


def _legend(forest: Forest) -> list[Line2D | Patch]:
    """Return what the signs mean, of those that are drawn."""
    handles: list[Line2D | Patch] = []
    blue, circle = COLOURS[0], MARKERS[0]
    for filled, says in ((True, forest.filled_says), (False, forest.hollow_says)):
        if says and any(row.filled == filled for row in forest.rows):
            handles.append(legend_sign(says, blue, circle, "" if filled else "white"))
    drawn = [row for row in forest.rows if row.low is not None]
    for dashes, only, says in (("-", False, ""), ("--", True, ", images only")):
        if any(row.images_only == only for row in drawn):
            handles.append(legend_sign(forest.interval_says + says, blue, dashes=dashes))
    if any(row.published is not None for row in forest.rows):
        handles.append(legend_sign(_PAPER, COLOURS[1], "D", "none"))
    if any(row.noise is not None for row in forest.rows):
        handles.append(Patch(color=_BAND_COLOUR, label=forest.noise_says))
    return handles
