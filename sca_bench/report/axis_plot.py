"""The main metric over the suite's axis: first what is drawn, then the drawing."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from sca_bench.report.collect import CellRuns, SuiteData
from sca_bench.report.figures import (
    COLOURS,
    CONTROL_COLOUR,
    DASHES,
    MARKERS,
    new_figure,
    tidy,
)
from sca_bench.report.names import SCALE, metric_label, metric_unit, short_axes, show_value

LOG_SPAN = 8.0
"""Axes of positive values are logarithmic from this ratio of largest to smallest on."""


@dataclass(frozen=True, slots=True)
class Point:
    """One cell: its value on the axis and its seeds' scores (displayed units)."""

    name: str
    x: Any
    seeds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.seeds)

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; 0 for one seed, which draws no bar."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class AxisPlot:
    """The data of the plot.

    Attributes:
        metric: Metric on the vertical axis.
        axis: Dotted name of the numeric axis; empty where cells are categories.
        label: The axis in words.
        series: Other coordinates in words -> points by rising axis value.
        controls: One point per control.
        left_out: Cells without any score, which the caption names.
    """

    metric: str
    axis: str
    label: str
    series: dict[str, list[Point]]
    controls: list[Point]
    left_out: list[str]


def axis_plot(data: SuiteData) -> AxisPlot:
    """Collect what the plot of the main metric shows."""
    metric, axes = data.main_metric, data.manifest.axes
    labels = short_axes(axes)
    axis = next((name for name, values in axes.items() if _numeric(values)), "")
    series: dict[str, list[Point]] = {}
    controls: list[Point] = []
    left_out: list[str] = []
    for cell in data.cells:
        scores = _seed_scores(cell, metric)
        entry = cell.entry
        if not scores:
            left_out.append(entry.name)
        elif entry.control:
            controls.append(Point(entry.name, None, scores))
        elif not axis:
            series.setdefault("", []).append(Point(entry.name, entry.name, scores))
        elif _numeric([entry.coordinates.get(axis)]):
            others = [
                f"{labels.get(key, key)} {show_value(value)}"
                for key, value in entry.coordinates.items()
                if key != axis
            ]
            point = Point(entry.name, entry.coordinates[axis], scores)
            series.setdefault(", ".join(others), []).append(point)
        else:  # an explicit cell that has no place on the axis
            controls.append(Point(entry.name, None, scores))
    if axis:
        for points in series.values():
            points.sort(key=lambda point: float(point.x))
    return AxisPlot(metric, axis, labels.get(axis, "cell"), series, controls, left_out)


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
    for index, (name, series) in enumerate(plot.series.items()):
        _draw_series(axes, index, name, series, positions, len(plot.series))
    _limits(axes, points + plot.controls)
    _draw_controls(axes, plot.controls)
    if len(plot.series) > 1:
        columns = min(3, len(plot.series))
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
    return figure


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _seed_scores(cell: CellRuns, metric: str) -> tuple[float, ...]:
    scores = (record.scores.get(metric) for record in cell.done)
    return tuple(s.value * SCALE for s in scores if s is not None and s.value is not None)


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
    num_series: int,
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    xs = [place[float(point.x)] for point in points]
    if axes.get_xscale() == "log":  # series are set apart a little, so that bars do not overlap
        xs = [x * 1.02 ** (2 * index - num_series + 1) for x in xs]
    else:
        step = 0.012 * ((max(place.values()) - min(place.values())) or 1.0)
        xs = [x + step * (index - (num_series - 1) / 2) for x in xs]
    means = [point.mean for point in points]
    axes.plot(
        xs,
        means,
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        linewidth=1.6,
        label=name,
        zorder=3,
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
            capsize=4,
            zorder=3,
        )
    for x, point in zip(xs, points, strict=True):
        _dots(axes, [x] * len(point.seeds), point.seeds, colour, beside=True)


def _dots(axes: Axes, xs: Any, ys: Any, colour: str, beside: bool = False) -> None:
    """Draw the seeds as open dots, on demand beside the mark of their mean."""
    aside = ScaledTranslation(9 / 72, 0, axes.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
    where = axes.transData + aside if beside else axes.transData
    axes.scatter(
        xs,
        ys,
        s=18,
        facecolor="white",
        edgecolor=colour,
        linewidth=1.1,
        zorder=4,
        transform=where,
    )


def _limits(axes: Axes, points: list[Point]) -> None:
    """Leave room at both ends, and below zero only where there is something to show."""
    values = [v for p in points for v in (*p.seeds, p.mean - p.spread, p.mean + p.spread)]
    low, high = min(values), max(values)
    margin = 0.08 * ((high - low) or max(abs(high), 1.0))
    axes.set_ylim(max(low - margin, 0.0) if low >= 0 else low - margin, high + margin)
    left, right = axes.get_xlim()
    if axes.get_xscale() == "linear" and right - left < 1e-9:
        axes.set_xlim(left - 1, right + 1)


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
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "shrinkB": 0},
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
        _dots(axes, point.seeds, [row] * len(point.seeds), colour)
    names = [p.name if i < num_cells else f"{p.name} (control)" for i, p in enumerate(points)]
    axes.set_yticks(range(len(points)), names)
    axes.invert_yaxis()
    values = [v for p in points for v in (*p.seeds, p.mean - p.spread, p.mean + p.spread)]
    axes.set_xlim(min(0.0, min(values)), max(values) * 1.06 if max(values) > 0 else 1.0)
