"""Learning curves from the training logs: loss and validation metrics over optimiser steps."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sca_bench.metrics.value_names import ValueName
from sca_bench.report.figures.style import add_legend, legend_columns, line_style, new_figure, tidy
from sca_bench.report.names import (
    expand_metrics,
    metric_label,
    metric_scale,
    metric_unit,
)
from sca_bench.report.read.suite_data import SuiteData

VAL = "val/"
MAX_PANELS = 6
_KNOWN = frozenset(
    expand_metrics(["cider_d", "meteor", "bleu", "rouge_l", "spice", "exact_match", "macro_recall"])
)

Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plot shows.

    Attributes:
        panels: Quantity -> cell name -> one curve of (step, value) per seed.
        left_out: Quantities for which there was no panel left.
        dropped: Number of logged values that are not finite.
        without_log: Cells none of whose runs wrote a log.
    """

    panels: dict[str, dict[str, list[Curve]]]
    left_out: list[str]
    dropped: int
    without_log: list[str]


def learning_curves(data: SuiteData) -> Curves:
    """Collect the curves of every run that wrote a log, finished or not."""
    curves_of: dict[str, dict[str, list[Curve]]] = {}
    dropped = 0
    for cell in data.cells:
        for run in cell.runs:
            steps: dict[str, dict[int, float]] = {}
            for row in data.store.log(cell.entry.cell_id, run.seed):
                step = row.get("step")
                for key, value in row.items():
                    if not isinstance(step, int) or not (key == "loss" or key.startswith(VAL)):
                        continue
                    if not isinstance(value, int | float) or not math.isfinite(value):
                        dropped += 1
                        continue
                    # A resumed run logs some steps again; what it went on from counts.
                    steps.setdefault(key, {})[step] = float(value) * _factor(key)
            for key, values in steps.items():
                curves = curves_of.setdefault(key, {}).setdefault(cell.entry.name, [])
                curves.append(sorted(values.items()))
    order = ["loss", *(VAL + name for name in ("loss", *data.metrics))]
    keys = sorted(
        curves_of, key=lambda key: (order.index(key) if key in order else len(order), key)
    )
    panels = {key: curves_of[key] for key in keys[:MAX_PANELS]}
    drawn = {name for panel in curves_of.values() for name in panel}
    silent = [cell.entry.name for cell in data.cells if cell.entry.name not in drawn]
    return Curves(panels, keys[MAX_PANELS:], dropped, silent)


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
        label=name,
    )


def _mean_curve(seeds: list[Curve]) -> Curve:
    """Average over seeds at the steps that all of them logged."""
    tables = [dict(curve) for curve in seeds]
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, statistics.fmean(table[step] for table in tables)) for step in shared]


def _factor(key: str) -> float:
    return metric_scale(key.removeprefix(VAL)) if _is_score(key) else 1.0


def _is_score(key: str) -> bool:
    name = key.removeprefix(VAL)
    return key != name and (name in _KNOWN or bool(ValueName.parse(name).slot))


def _title(key: str) -> str:
    if key == "loss":
        return "Training loss"
    name = key.removeprefix(VAL)
    if _is_score(key):
        return f"Validation {metric_label(name)} ({metric_unit(name)})"
    return f"Validation {name.replace('_', ' ')}"
