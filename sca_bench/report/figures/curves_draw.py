"""Drawing learning curves, one panel per quantity."""

from __future__ import annotations

import math
import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sca_bench.report.figures.curves import VAL, Curve, Curves, is_score
from sca_bench.report.figures.style import (
    add_legend,
    legend_columns,
    legend_name,
    line_style,
    new_figure,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit


def draw_learning_curves(curves: Curves) -> Figure | None:
    """Draw one panel per quantity: a thin line per seed, a thick one for their mean.

    Returns:
        The figure, or None where no run wrote a log.
    """
    if not curves.panels:
        return None
    columns = min(2, len(curves.panels))
    rows = math.ceil(len(curves.panels) / columns)
    names = list(dict.fromkeys(name for panel in curves.panels.values() for name in panel))
    legend_rows = math.ceil(len(names) / legend_columns(names))
    figure = new_figure(7.2, 2.5 * rows + 0.3 + 0.2 * legend_rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    flat = list(grid.flat)
    for axes, (key, panel) in zip(flat, curves.panels.items(), strict=False):
        tidy(axes)
        for name, seeds in panel.items():
            _draw_cell(axes, names.index(name), name, seeds)
        axes.set_title(_title(key), fontsize=9, loc="left")
        axes.set_xlabel("Training step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xlim(left=0)
    for axes in flat[len(curves.panels) :]:
        axes.set_visible(False)
    add_legend(figure, *flat)
    return figure


def _draw_cell(axes: Axes, index: int, name: str, seeds: list[Curve]) -> None:
    colour, style, _ = line_style(index)
    if len(seeds) > 1:
        for curve in seeds:
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=0.7, alpha=0.4)
    mean = _mean_curve(seeds)
    marker = "o" if len(mean) < 12 else ""
    axes.plot(
        [step for step, _ in mean],
        [value for _, value in mean],
        color=colour,
        linestyle=style,
        linewidth=1.6,
        marker=marker,
        markersize=3,
        label=legend_name(name),
    )


def _mean_curve(seeds: list[Curve]) -> Curve:
    """Average over seeds at the steps that all of them logged."""
    tables = [dict(curve) for curve in seeds]
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, statistics.fmean(table[step] for table in tables)) for step in shared]


def _title(key: str) -> str:
    if key == "loss":
        return "Training loss"
    name = key.removeprefix(VAL)
    if is_score(key):
        return f"Validation {metric_label(name)} ({metric_unit(name)})"
    return f"Validation {name.replace('_', ' ')}"
