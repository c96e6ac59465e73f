"""Drawing the main metric over the suite's axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from sca_bench.report.figures.axis import AxisPlot, Panel, Point, place_of, shows_bars
from sca_bench.report.figures.style import (
    COLOURS,
    CONTROL_COLOUR,
    add_legend,
    control_styles,
    honest_limits,
    legend_name,
    line_style,
    log_ticks,
    new_figure,
    tick_text,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit
from sca_bench.study.suite.yaml_values import show_value

LOG_SPAN = 8.0
"""Axes of positive values are logarithmic from this ratio of largest to smallest on."""
MOST_TICKS = 12
"""Values of an axis that may stand at equal distances where they are crowded."""
_AXIS_WIDTH_PT = 330.0  # about what long names of controls leave
_PANEL_WIDTH_PT = 200.0
_TICK_PT = 5.0  # width of a tick label's character


def draw_axis_plot(plot: AxisPlot) -> Figure | None:
    """Draw seed dots, the mean line (or bars) with seed-spread bars, and controls as lines.

    Returns:
        The figure, or None where no cell has a score.
    """
    if not plot.points and not plot.controls:
        return None
    unit = f"{metric_label(plot.metric)} ({metric_unit(plot.metric)})"
    if len(plot.panels) > 1:
        return _draw_panels(plot, unit)
    if shows_bars(plot):
        return _draw_list(plot, unit)
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    axes.set_ylabel(unit)
    _draw_panel(axes, plot.panels[0], _AXIS_WIDTH_PT)
    _limits(axes, plot.points + plot.controls)
    _draw_controls(axes, plot.controls)
    add_legend(figure, axes)
    return figure


def _draw_list(plot: AxisPlot, unit: str) -> Figure:
    points = plot.points + plot.controls
    figure = new_figure(7.2, max(2.6, 0.42 * len(points) + 1.1))
    axes = figure.add_subplot()
    _draw_bars(axes, points)
    if plot.panels and plot.panels[0].axis:
        own = [show_value(point.x) for point in plot.points]
        beside = [label.get_text() for label in axes.get_yticklabels()[len(own) :]]
        axes.set_yticks(range(len(points)), [*own, *beside])
        axes.set_ylabel(_sentence(plot.panels[0].label))
    axes.set_xlabel(unit)
    tidy(axes, "x")
    return figure


def _draw_panels(plot: AxisPlot, unit: str) -> Figure:
    """Draw several panels with one vertical scale; controls are named in the legend."""
    rows = math.ceil(len(plot.panels) / 2)
    figure = new_figure(7.2, 2.9 * rows + 0.5)
    flat = list(figure.subplots(rows, 2, squeeze=False, sharey=True).flat)
    for axes, panel in zip(flat, plot.panels, strict=False):
        _draw_panel(axes, panel, _PANEL_WIDTH_PT)
        axes.set_title(panel.title, fontsize=9, loc="left")
        axes.tick_params(labelsize=8, labelleft=True)
        axes.set_ylabel(unit if axes in flat[::2] else "", fontsize=8)
        for point, style in zip(plot.controls, control_styles(len(plot.controls)), strict=True):
            name = f"{point.name} {point.mean:.1f}"
            axes.axhline(point.mean, label=legend_name(name), zorder=2, **style)
    for axes in flat[len(plot.panels) :]:
        axes.set_visible(False)
    _limits(flat[0], plot.points + plot.controls)
    add_legend(figure, *flat)
    return figure


def _draw_panel(axes: Axes, panel: Panel, width_pt: float) -> None:
    tidy(axes)
    positions = _positions(axes, panel, width_pt)
    step_pt = _seed_step(axes, list(positions), len(panel.series), width_pt)
    for index, (name, points) in enumerate(panel.series.items()):
        left_pt = 2 * step_pt * (index - (len(panel.series) - 1) / 2)
        at = [positions[place_of(panel.values, point.x)] for point in points]
        shown = _Series(index, name, points, at, _unjoined(panel, points))
        _draw_series(axes, shown, (left_pt, left_pt + step_pt))


def _unjoined(panel: Panel, points: list[Point]) -> int:
    """Return how many leading points no line joins: names have no order, and none no distance."""
    if panel.kind == "names":
        return len(points)
    return sum(point.x is None for point in points)


def _positions(axes: Axes, panel: Panel, width_pt: float) -> list[float]:
    """Set up the horizontal axis; return where each value of the panel stands."""
    positions = [float(index) for index in range(len(panel.values))]
    label, is_real = _sentence(panel.label), False
    if panel.kind == "numeric":
        ticks = [float(value) for value in panel.values]
        gaps = [b - a for a, b in pairwise(ticks)]
        is_log = len(ticks) > 1 and ticks[0] > 0 and ticks[-1] / ticks[0] >= LOG_SPAN
        is_real = is_log or len(ticks) > MOST_TICKS or not gaps
        is_real = is_real or min(gaps) >= 0.06 * (ticks[-1] - ticks[0])
        if is_log:
            axes.set_xscale("log", base=2)
            label += " (log scale)"
        if is_real:
            positions = ticks
        else:
            label += " (evenly spaced)"
    elif panel.kind == "ordered":
        label += " (evenly spaced)"
    axes.set_xlabel(label)
    names = [tick_text(value) for value in panel.values]
    too_wide = sum(len(name) + 2 for name in names) > width_pt / _TICK_PT
    axes.xaxis.set_minor_locator(NullLocator())
    if too_wide and is_real and len(names) > 2:  # values that nobody chose, such as a sweep's
        is_log = axes.get_xscale() == "log"
        few = log_ticks(positions[0], positions[-1]) if is_log else MaxNLocator(6)
        axes.xaxis.set_major_locator(few)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
        return positions
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.set_xticks(positions, names)
    if too_wide:
        axes.tick_params(axis="x", labelrotation=25)
        for text in axes.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")
    return positions


def _sentence(label: str) -> str:
    return label[:1].upper() + label[1:]


@dataclass(frozen=True, slots=True)
class _Series:
    """One line of a panel: where its points stand, and how many of them it does not join."""

    index: int
    name: str
    points: list[Point]
    at: list[float]
    unjoined: int


def _draw_series(axes: Axes, series: _Series, at_pt: tuple[float, float]) -> None:
    """Draw one series: its means and its seeds stand `at_pt` points to the right of their ticks."""
    colour, style, marker = line_style(series.index)
    shifted, beside = (_shifted(axes, right_pt) for right_pt in at_pt)
    means = [point.mean for point in series.points]
    axes.plot(
        series.at[series.unjoined :],
        means[series.unjoined :],
        color=colour,
        linestyle=style,
        linewidth=1.6,
        zorder=3,
        transform=shifted,
    )
    joined = series.unjoined < len(means) - 1
    axes.plot(
        series.at,
        means,
        color=colour,
        linestyle="none",
        marker=marker,
        markersize=6,
        zorder=3,
        transform=shifted,
    )
    # The legend's own handle shows line and marker together, which the two above do not.
    axes.plot(
        [],
        [],
        color=colour,
        linestyle=style if joined else "none",
        marker=marker,
        markersize=6,
        linewidth=1.6,
        label=legend_name(series.name),
    )
    reach = [(x, p) for x, p in zip(series.at, series.points, strict=True) if p.whisker]
    if reach:
        axes.errorbar(
            [x for x, _ in reach],
            [point.mean for _, point in reach],
            yerr=np.transpose([_arms(point) for _, point in reach]),
            fmt="none",
            ecolor=colour,
            elinewidth=1.2,
            capsize=3,
            zorder=3,
            transform=shifted,
        )
    for x, point in zip(series.at, series.points, strict=True):
        _dots(axes, [x] * len(point.seeds), point.seeds, colour, beside)


def _arms(point: Point) -> tuple[float, float]:
    """Return how far a point's whisker reaches below and above its mean."""
    low, high = point.whisker or (point.mean, point.mean)
    return max(0.0, point.mean - low), max(0.0, high - point.mean)


def _reach(points: list[Point]) -> list[float]:
    """Return all values that an axis must hold to show some points."""
    return [v for p in points for v in (*p.seeds, *(p.whisker or ()))]


def _seed_step(axes: Axes, positions: list[float], num_series: int, width_pt: float) -> float:
    """Return how far (points) seeds stand beside their mean, so that series keep apart.

    Both ends of the axis are then moved out by what series beside the outer ticks take.
    """
    log = axes.get_xscale() == "log"
    at = [math.log(x) if log else x for x in positions]
    span = at[-1] - at[0]
    step_pt, margin = 9.0, 0.13
    for _ in range(2):  # a wider margin leaves less room between ticks
        if span:
            gap_pt = width_pt / (1 + 2 * margin) * min(b - a for a, b in pairwise(at)) / span
            step_pt = min(step_pt, 0.8 * gap_pt / (2 * num_series))
        needed = min(num_series * step_pt + 6, 0.35 * width_pt)
        margin = max(margin, needed / (width_pt - 2 * needed))
    low, high = at[0] - margin * (span or 1.0), at[-1] + margin * (span or 1.0)
    axes.set_xlim(*((math.exp(low), math.exp(high)) if log else (low, high)))
    return step_pt


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
    """Show all of the points, on an axis that makes nothing look larger than it is."""
    values = _reach(points)
    axes.set_ylim(*honest_limits(min(values), max(values)))


def _draw_controls(axes: Axes, controls: list[Point]) -> None:
    """Draw each control's mean as a line, its name at the right and clear of the others."""
    if not controls:
        return
    low, high = axes.get_ylim()
    ordered = sorted(controls, key=lambda point: (point.mean, point.name))
    heights = spread_labels([point.mean for point in ordered], 0.055 * (high - low), low, high)
    styles = control_styles(len(ordered))
    for index, (point, text_y) in enumerate(zip(ordered, heights, strict=True)):
        axes.axhline(point.mean, zorder=2, **styles[index])
        axes.annotate(
            f"{point.name} {point.mean:.1f}",
            xy=(1.0, point.mean),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.03, text_y),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            arrowprops={
                "arrowstyle": "-",
                "color": CONTROL_COLOUR,
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


def _draw_bars(axes: Axes, points: list[Point]) -> None:
    """Draw one horizontal bar per cell, so that long names stay readable; controls are grey."""
    for row, point in enumerate(points):
        colour = CONTROL_COLOUR if point.is_control else COLOURS[0]
        axes.barh(row, point.mean, height=0.62, color=colour, alpha=0.35, zorder=2)
        if point.whisker:
            axes.errorbar(
                point.mean,
                row,
                xerr=np.transpose([_arms(point)]),
                fmt="none",
                ecolor=colour,
                elinewidth=1.3,
                capsize=4,
                zorder=3,
            )
        _dots(axes, point.seeds, [row] * len(point.seeds), colour, axes.transData)
    names = [f"{p.name} (control)" if p.is_control else p.name for p in points]
    axes.set_yticks(range(len(points)), names)
    axes.invert_yaxis()
    values = _reach(points)
    axes.set_xlim(min(0.0, min(values)), max(values) * 1.06 if max(values) > 0 else 1.0)
