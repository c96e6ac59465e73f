"""What the plot of the main metric over the suite's axis shows; `axis_draw` draws it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from sca_bench.report.collect import CellRuns, SuiteData
from sca_bench.report.names import SCALE, short_axes, show_value


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


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _seed_scores(cell: CellRuns, metric: str) -> tuple[float, ...]:
    scores = (record.scores.get(metric) for record in cell.done)
    return tuple(s.value * SCALE for s in scores if s is not None and s.value is not None)
