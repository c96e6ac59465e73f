"""Drawing the main metric over properties of regions."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sca_bench.report.figures.distribution import Distribution, DistributionPanel
from sca_bench.report.figures.style import (
    add_legend,
    legend_columns,
    legend_name,
    line_style,
    new_figure,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit

_SPREAD, _STEP = 0.5, 0.1
"""Shares of the gap between two bins: all cells beside each other, and two of them at most."""


def draw_distribution_plot(plot: Distribution) -> Figure | None:
    """Draw one panel per property, one line per cell, with intervals over test images.

    Returns:
        The figure, or None where no property varies over scored regions.
    """
    if not plot.panels:
        return None
    names = list(plot.panels[0].lines)
    legend_rows = math.ceil(len(names) / legend_columns(names)) if len(names) > 1 else 0
    figure = new_figure(7.6, 2.3 * len(plot.panels) + 0.2 + 0.2 * legend_rows)
    flat = list(figure.subplots(len(plot.panels), 1, squeeze=False, sharey=True).flat)
    unit = f"{metric_label(plot.metric)} ({metric_unit(plot.metric)})"
    for axes, panel in zip(flat, plot.panels, strict=True):
        _draw_panel(axes, panel)
        axes.set_ylabel(unit, fontsize=7.5)
        axes.tick_params(labelsize=7.5, labelleft=True)
    add_legend(figure, *flat)
    return figure


def _draw_panel(axes: Axes, panel: DistributionPanel) -> None:
    tidy(axes)
    step = min(_STEP, _SPREAD / max(1, len(panel.lines) - 1))
    for index, (name, means) in enumerate(panel.lines.items()):
        colour, dashes, marker = line_style(index)
        shift = step * (index - (len(panel.lines) - 1) / 2)
        at = [number + shift for number in range(len(means))]
        axes.plot(
            at,
            [each.mean for each in means],
            color=colour,
            linestyle=dashes,
            linewidth=1.1,
            marker=marker,
            markersize=4.5,
            label=legend_name(name),
            zorder=3,
        )
        for x, each in zip(at, means, strict=True):
            if each.low is not None and each.high is not None:
                axes.plot([x, x], [each.low, each.high], color=colour, linewidth=0.9, zorder=2)
    texts = [f"{text}\nn = {n:,}" for text, n in zip(panel.bins, panel.counts, strict=True)]
    axes.set_xticks(range(len(texts)), texts)
    axes.set_xlabel(panel.label, fontsize=8.5)
    axes.set_xlim(-0.5, len(texts) - 0.5)
