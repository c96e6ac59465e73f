"""Drawing the main metric against its costs, every cell labelled clear of the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from sca_bench.report.figures.pareto import Pareto, ParetoPanel, ParetoPoint
from sca_bench.report.figures.style import (
    COLOURS,
    CONTROL_COLOUR,
    honest_limits,
    legend_sign,
    new_figure,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit, shown_number, wrapped

MAX_NAMED = 8
"""Cells whose names stand in the panels; more are numbered, with a key below."""
_MAX_SIGNS = 24
_KEY_SIGNS = (54, 112)
"""Characters of a line of the key, in two columns and in one."""
_POINT_PX = 7.0
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225)


def draw_pareto_plot(plot: Pareto) -> Figure | None:
    """Draw one panel per cost: means with seed whiskers, and the front joined by a line.

    Returns:
        The figure, or None where no cost varies.
    """
    if not plot.panels:
        return None
    labels, key = _labels(plot)
    columns = min(2, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    two = bool(key) and max(map(len, key)) <= _KEY_SIGNS[0]
    key = [wrapped(text, _KEY_SIGNS[0 if two else 1]) for text in key]
    lines = [text.count("\n") + 1 for text in key]
    key_in = 0.16 * sum(lines) / (2 if two else 1) + (0.2 if key else 0.0)
    figure = new_figure(7.6, 3.0 * rows + 0.35 + key_in)
    flat = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    unit = f"{metric_label(plot.metric)} ({metric_unit(plot.metric)})"
    for axes, panel in zip(flat, plot.panels, strict=False):
        _draw_panel(axes, panel)
        axes.tick_params(labelsize=8, labelleft=True)
        axes.set_ylabel(unit if axes in flat[::columns] else "", fontsize=8)
    points = [point for panel in plot.panels for point in panel.points]
    ends = [p.score + side * (p.score_sd or 0.0) for p in points for side in (-1, 1)]
    flat[0].set_ylim(*honest_limits(min(ends), max(ends)))
    for axes in flat[len(plot.panels) :]:
        axes.set_visible(False)
    figure.legend(
        handles=_legend(plot), loc="outside upper left", ncols=4, frameon=False, fontsize=8
    )
    if key:
        handles = [Line2D([], [], linestyle="none", label=text) for text in key]
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=2 if two else 1,
            labelspacing=0.3,
            frameon=False,
            fontsize=7.5,
            handlelength=0,
            handletextpad=0,
        )
    figure.draw_without_rendering()  # places the panels, which labels are then fitted into
    for axes, panel in zip(flat, plot.panels, strict=False):
        _place_labels(axes, panel, labels)
    return figure


def _labels(plot: Pareto) -> tuple[dict[str, str], list[str]]:
    """Return the label of every cell, and the lines of the key where labels are numbers."""
    names = list(dict.fromkeys(p.name for panel in plot.panels for p in panel.points))
    if len(names) <= MAX_NAMED and max(map(len, names)) <= _MAX_SIGNS:
        return {name: name for name in names}, []
    numbers = {name: str(number) for number, name in enumerate(names, start=1)}
    return numbers, [f"{number}  {name}" for name, number in numbers.items()]


def _draw_panel(axes: Axes, panel: ParetoPanel) -> None:
    tidy(axes, "both")
    front = panel.front
    if len(front) > 1:
        # What the front reaches between two cells is what the worse of both reaches.
        drawstyle = "steps-pre" if panel.axis.more_is_better else "steps-post"
        axes.plot(
            [p.cost for p in front],
            [p.score for p in front],
            color=COLOURS[0],
            linewidth=1.1,
            linestyle="--",
            drawstyle=drawstyle,  # type: ignore[arg-type]
            zorder=2,
        )
    for point in panel.points:
        _draw_point(axes, point)
    if panel.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        costs = [point.cost for point in panel.points]
        if max(costs) / min(costs) < 100:  # too few powers of ten to read a value by
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown_number(value)))
    better = "right" if panel.axis.more_is_better else "left"
    log = ", log scale" if panel.is_log else ""
    axes.set_xlabel(f"{panel.axis.label}{log} (better: {better})", fontsize=8)
    axes.margins(x=0.16)


def _draw_point(axes: Axes, point: ParetoPoint) -> None:
    colour = CONTROL_COLOUR if point.is_control else COLOURS[0]
    marker = "s" if point.is_control else "o"
    axes.errorbar(
        point.cost,
        point.score,
        xerr=_whisker(point),
        yerr=point.score_sd,
        fmt=marker,
        color=colour,
        markerfacecolor=colour if point.in_front else "white",
        markeredgewidth=1.3,
        markersize=6,
        elinewidth=1.0,
        capsize=2.5,
        zorder=3,
    )


def _whisker(point: ParetoPoint) -> list[list[float]] | None:
    """Return the whisker along the cost; none reaches zero, which a log axis does not have."""
    if not point.cost_sd:
        return None
    return [[min(point.cost_sd, 0.95 * point.cost)], [point.cost_sd]]


def _legend(plot: Pareto) -> list[Line2D]:
    points = [point for panel in plot.panels for point in panel.points]
    blue = COLOURS[0]
    handles = [legend_sign("no cell beats these", blue, "o", dashes="--")]
    if any(not p.in_front and not p.is_control for p in points):
        handles.append(legend_sign("beaten by another cell", blue, "o", "white"))
    if any(p.is_control for p in points):
        handles.append(legend_sign("control", CONTROL_COLOUR, "s", "white"))
    return handles


@dataclass(frozen=True, slots=True)
class _LabelPosition:
    """Where a label may stand: offset in pixels, alignment, and its box."""

    dx: float
    dy: float
    ha: str
    va: str
    box: Bbox


def _place_labels(axes: Axes, panel: ParetoPanel, labels: dict[str, str]) -> None:
    """Put each label, in order, where it covers least: of points, other labels, and the edge."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    at = {p.name: axes.transData.transform((p.cost, p.score)) for p in panel.points}
    taken = [_box(x, y, _POINT_PX, _POINT_PX) for x, y in at.values()]
    taken += [bar for p in panel.points for bar in _bars(axes, p)]
    taken += _front_lines(axes, panel)
    inside = axes.get_window_extent()
    for point in sorted(panel.points, key=lambda p: (-p.score, p.cost, p.name)):
        text = axes.annotate(labels[point.name], (point.cost, point.score), fontsize=7.5)
        extent = text.get_window_extent()
        text.remove()
        x, y = at[point.name]
        candidates = _label_candidates(x, y, extent.width, extent.height)
        solid = np.array([box.extents for box in taken])
        best = min(candidates, key=lambda label: _covered(label.box, solid, inside))
        taken.append(best.box)
        scale = 72 / figure.dpi
        far = math.hypot(best.dx, best.dy) > 2 * _POINT_PX
        axes.annotate(
            labels[point.name],
            (point.cost, point.score),
            xytext=(best.dx * scale, best.dy * scale),
            textcoords="offset points",
            ha=best.ha,
            va=best.va,
            fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": CONTROL_COLOUR, "linewidth": 0.6, "shrinkB": 3}
            if far
            else None,
            zorder=6,
        )


def _label_candidates(x: float, y: float, width: float, height: float) -> list[_LabelPosition]:
    """Return the positions of a label, the nearest first."""
    candidates = []
    for distance in (_POINT_PX, 2.6 * _POINT_PX, 4.5 * _POINT_PX, 6.5 * _POINT_PX):
        for degrees in _ANGLES:
            dx = distance * round(math.cos(math.radians(degrees)), 6)
            dy = distance * round(math.sin(math.radians(degrees)), 6)
            ha = "center" if abs(dx) < 1e-3 else "left" if dx > 0 else "right"
            va = "center" if abs(dy) < 1e-3 else "bottom" if dy > 0 else "top"
            left = x + dx - {"left": 0.0, "center": width / 2, "right": width}[ha]
            bottom = y + dy - {"bottom": 0.0, "center": height / 2, "top": height}[va]
            box = Bbox.from_bounds(left, bottom, width, height)
            candidates.append(_LabelPosition(dx, dy, ha, va, box))
    return candidates


def _covered(box: Bbox, taken: NDArray[np.float64], inside: Bbox) -> float:
    """Return the area of other things that a box covers; outside the panel counts ten times.

    Args:
        box: The box of a label, in pixels.
        taken: What it should keep clear of: left, bottom, right and top of every thing.
        inside: The panel.
    """
    own = _shared_areas(box, np.array([inside.extents]))[0]
    outside = max(0.0, box.width * box.height - own)
    return float(_shared_areas(box, taken).sum() + 10 * outside)


def _shared_areas(box: Bbox, others: NDArray[np.float64]) -> NDArray[np.float64]:
    left, bottom, right, top = others.T
    widths = np.minimum(right, box.x1) - np.maximum(left, box.x0)
    heights = np.minimum(top, box.y1) - np.maximum(bottom, box.y0)
    areas: NDArray[np.float64] = np.maximum(widths, 0.0) * np.maximum(heights, 0.0)
    return areas


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_extents(x - width, y - height, x + width, y + height)


def _front_lines(axes: Axes, panel: ParetoPanel) -> list[Bbox]:
    """Return the boxes of the steps that join the front."""
    boxes = []
    for left, right in pairwise(panel.front):
        corner = (left.cost, right.score) if panel.axis.more_is_better else (right.cost, left.score)
        ends = [(left.cost, left.score), corner, (right.cost, right.score)]
        for one, other in pairwise(axes.transData.transform(ends)):
            xs, ys = sorted((one[0], other[0])), sorted((one[1], other[1]))
            boxes.append(Bbox.from_extents(xs[0] - 1, ys[0] - 1, xs[1] + 1, ys[1] + 1))
    return boxes


def _bars(axes: Axes, point: ParetoPoint) -> list[Bbox]:
    """Return the boxes of a point's whiskers."""
    boxes = []
    for dx, dy in ((point.cost_sd or 0.0, 0.0), (0.0, point.score_sd or 0.0)):
        if dx or dy:
            low = axes.transData.transform(
                (point.cost - min(dx, 0.95 * point.cost), point.score - dy)
            )
            high = axes.transData.transform((point.cost + dx, point.score + dy))
            boxes.append(Bbox.from_extents(low[0] - 1, low[1] - 1, high[0] + 1, high[1] + 1))
    return boxes
