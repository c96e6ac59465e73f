"""Drawing the main metric over the suite's axis."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from sca_bench.report.axis_plot import AxisPlot, Point
from sca_bench.report.figures import (
    COLOURS,
    CONTROL_COLOUR,
    DASHES,
    MARKERS,
    new_figure,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit

LOG_SPAN = 8.0
"""Axes of positive values are logarithmic from this ratio of largest to smallest on."""
_AXIS_WIDTH_PT = 330.0  # about what long names of controls leave


def draw_axis_plot(plot: AxisPlot) -> Figure | None:
    """Draw seed dots, the mean line (or bars) with seed-spread bars, and controls as lines.

    Returns:
        The figure, or None where no cell has a score.
    """
    points = [point for points in plot.series.values() for point in points]
    if not points and not plot.controls:
        return None
    by_category = bool(points) and not plot.axis
    height = max(2.6, 0.42 * len(points) + 1.1) if by_category else 4.2
    figure = new_figure(7.2, height)
    axes = figure.add_subplot()
    unit = f"{metric_label(plot.metric)} ({metric_unit(plot.metric)})"
    if by_category:
        _draw_bars(axes, [*points, *plot.controls], len(points))
        axes.set_xlabel(unit)
        tidy(axes, "x")
        return figure
    tidy(axes)
    axes.set_ylabel(unit)
    positions = _positions(axes, plot, [float(point.x) for point in points])
    step_pt = _seed_step(axes, positions, len(plot.series))
    for index, (name, series) in enumerate(plot.series.items()):
        left_pt = 2 * step_pt * (index - (len(plot.series) - 1) / 2)
        _draw_series(axes, index, name, series, positions, (left_pt, left_pt + step_pt))
    _limits(axes, points + plot.controls)
    _draw_controls(axes, plot.controls)
    if len(plot.series) > 1:
        columns = min(3, len(plot.series))
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
    return figure


def _positions(axes: Axes, plot: AxisPlot, values: list[float]) -> dict[float, float]:
    """Set up the horizontal axis; return where each of its values stands."""
    ticks = sorted(set(values))
    label = plot.label[:1].upper() + plot.label[1:]
    span = ticks[-1] - ticks[0] if len(ticks) > 1 else 1.0
    gaps = [b - a for a, b in pairwise(ticks)]
    place = {tick: tick for tick in ticks}
    if len(ticks) > 1 and ticks[0] > 0 and ticks[-1] / ticks[0] >= LOG_SPAN:
        axes.set_xscale("log", base=2)
        label += " (log scale)"
    elif gaps and min(gaps) < 0.06 * span:
        place = {tick: float(index) for index, tick in enumerate(ticks)}
        label += " (evenly spaced)"
    axes.xaxis.set_major_locator(FixedLocator([place[tick] for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([place[tick] for tick in ticks], [f"{tick:g}" for tick in ticks])
    if ticks:
        _horizontal_limits(axes, list(place.values()))
    axes.set_xlabel(label)
    if not ticks:
        axes.set_xlabel("")
    return place


def _draw_series(
    axes: Axes,
    index: int,
    name: str,
    points: list[Point],
    place: dict[float, float],
    at_pt: tuple[float, float],
) -> None:
    """Draw one series: its means and its seeds stand `at_pt` points to the right of their ticks."""
    colour = COLOURS[index % len(COLOURS)]
    shifted, beside = (_shifted(axes, right_pt) for right_pt in at_pt)
    xs = [place[float(point.x)] for point in points]
    axes.plot(
        xs,
        [point.mean for point in points],
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        linewidth=1.6,
        label=name,
        zorder=3,
        transform=shifted,
    )
    several = [(x, point) for x, point in zip(xs, points, strict=True) if len(point.seeds) > 1]
    if several:
        axes.errorbar(
            [x for x, _ in several],
            [point.mean for _, point in several],
            yerr=[point.spread for _, point in several],
            fmt="none",
            ecolor=colour,
            elinewidth=1.2,
            capsize=3,
            zorder=3,
            transform=shifted,
        )
    for x, point in zip(xs, points, strict=True):
        _dots(axes, [x] * len(point.seeds), point.seeds, colour, beside)


def _seed_step(axes: Axes, place: dict[float, float], num_series: int) -> float:
    """Return how far (points) seeds stand beside their mean, so that series keep apart."""
    if len(place) < 2:
        return 9.0
    log = axes.get_xscale() == "log"
    at = sorted(math.log(x) if log else x for x in place.values())
    gap_pt = _AXIS_WIDTH_PT * min(b - a for a, b in pairwise(at)) / (at[-1] - at[0])
    return min(9.0, 0.8 * gap_pt / (2 * num_series))


def _shifted(axes: Axes, right_pt: float) -> Transform:
    scale = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    return axes.transData + ScaledTranslation(right_pt / 72, 0, scale)


def _dots(axes: Axes, xs: Any, ys: Any, colour: str, where: Transform) -> None:
    axes.scatter(
        xs,
        ys,
        s=16,
        facecolor="white",
        edgecolor=colour,
        linewidth=1.1,
        zorder=4,
        transform=where,
        clip_on=False,
    )


def _limits(axes: Axes, points: list[Point]) -> None:
    """Leave room at both ends, and below zero only where there is something to show."""
    values = [v for p in points for v in (*p.seeds, p.mean - p.spread, p.mean + p.spread)]
    low, high = min(values), max(values)
    margin = 0.08 * ((high - low) or max(abs(high), 1.0))
    axes.set_ylim(max(low - margin, 0.0) if low >= 0 else low - margin, high + margin)


def _horizontal_limits(axes: Axes, at: list[float]) -> None:
    """Leave room at both ends, where series that stand beside their ticks need it."""
    low, high = min(at), max(at)
    if axes.get_xscale() == "log":
        margin = (high / low) ** 0.13
        axes.set_xlim(low / margin, high * margin)
    else:
        margin = 0.13 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)


def _draw_controls(axes: Axes, controls: list[Point]) -> None:
    """Draw each control's mean as a line, its name at the right and clear of the others."""
    if not controls:
        return
    low, high = axes.get_ylim()
    ordered = sorted(controls, key=lambda point: (point.mean, point.name))
    heights = spread_labels([point.mean for point in ordered], 0.055 * (high - low), low, high)
    for index, (point, text_y) in enumerate(zip(ordered, heights, strict=True)):
        style = DASHES[1 + index % (len(DASHES) - 1)]
        axes.axhline(point.mean, color=CONTROL_COLOUR, linewidth=1.1, linestyle=style, zorder=2)
        axes.annotate(
            f"{point.name} {point.mean:.1f}",
            xy=(1.0, point.mean),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.03, text_y),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color="#333333",
            arrowprops={
                "arrowstyle": "-",
                "color": "#999999",
                "linewidth": 0.7,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
            },
            annotation_clip=False,
        )


def spread_labels(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights near the wanted ones (sorted) that are at least `gap` apart.

    Labels are pushed up off the one below; a column that then passes `high` is pushed back down.
    """
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, placed[-1] + gap) if placed else max(value, low))
    ceiling = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def _draw_bars(axes: Axes, points: list[Point], num_cells: int) -> None:
    """Draw one horizontal bar per cell, so that long names stay readable; controls are grey."""
    for row, point in enumerate(points):
        colour = COLOURS[0] if row < num_cells else CONTROL_COLOUR
        axes.barh(row, point.mean, height=0.62, color=colour, alpha=0.35, zorder=2)
        if len(point.seeds) > 1:
            axes.errorbar(
                point.mean,
                row,
                xerr=point.spread,
                fmt="none",
                ecolor=colour,
                elinewidth=1.3,
                capsize=4,
                zorder=3,
            )
        _dots(axes, point.seeds, [row] * len(point.seeds), colour, axes.transData)
    names = [p.name if i < num_cells else f"{p.name} (control)" for i, p in enumerate(points)]
    axes.set_yticks(range(len(points)), names)
    axes.invert_yaxis()
    values = [v for p in points for v in (*p.seeds, p.mean - p.spread, p.mean + p.spread)]
    axes.set_xlim(min(0.0, min(values)), max(values) * 1.06 if max(values) > 0 else 1.0)
