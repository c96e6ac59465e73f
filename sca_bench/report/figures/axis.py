"""What the plot of the main metric over the suite's axes shows; `axis_draw` draws it.

One panel per axis in a suite of single axes. In a product the first numeric axis is horizontal
(else the first one), the next is told apart by lines, and further axes by panels.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.findings.differences import Differences
from sca_bench.report.names import ANY_VALUE, is_numeric, metric_label, metric_scale, short_axes
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.report.read.sweeps import sweep_part
from sca_bench.report.tables.claim_table import within_scale
from sca_bench.study.suite.yaml_values import same_value, show_value

SPEC = PlotSpec(
    "metric_over_axis",
    "The main metric over the suite's axes",
    "Means over seeds, and the seeds.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.axis_draw:draw_axis_plot",
    order=20,
)
Kind = Literal["numeric", "ordered", "names"]


@dataclass(frozen=True, slots=True)
class Point:
    """One cell: its value on the axis and its seeds' scores (displayed units).

    Attributes:
        name: The cell.
        x: Its value on the axis; None for none, and off the axes.
        seeds: One score per finished seed.
        is_control: Whether it is a control.
        interval: Ends of an interval around the mean; the seeds' spread is drawn where None.
    """

    name: str
    x: Any
    seeds: tuple[float, ...]
    is_control: bool = False
    interval: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.seeds)

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; 0 for one seed, which draws no bar."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else 0.0

    @property
    def whisker(self) -> tuple[float, float] | None:
        """Lower and upper end of its whisker: the interval, else ± the spread of several seeds."""
        if self.interval is not None or len(self.seeds) < 2:
            return self.interval
        return self.mean - self.spread, self.mean + self.spread


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes.

    Attributes:
        axis: Dotted name of the horizontal axis; empty where cells without an axis are listed.
        label: The axis in words.
        kind: `numeric`, `ordered` (numbers and none) or `names` (anything else).
        values: Its values in drawing order: rising, or as the suite lists names.
        title: What tells this panel from the others.
        series: Value of the second axis in words -> points in the order of `values`.
    """

    axis: str
    label: str
    kind: Kind
    values: tuple[Any, ...]
    title: str
    series: dict[str, list[Point]]


@dataclass(frozen=True, slots=True)
class AxisPlot:
    """The data of the plot.

    Attributes:
        metric: Metric on the vertical axis.
        panels: The panels, those without a point left out.
        controls: One point per control, and per explicit cell that has no place on the axes.
        left_out: Cells without any score, which the caption names.
    """

    metric: str
    panels: list[Panel]
    controls: list[Point]
    left_out: list[str]

    @property
    def points(self) -> list[Point]:
        """Every point of every panel."""
        return [p for panel in self.panels for series in panel.series.values() for p in series]

    @property
    def over(self) -> str:
        """What the metric is drawn over, in words; empty where cells are only listed."""
        return ", ".join(dict.fromkeys(panel.label for panel in self.panels if panel.axis))


Intervals = Mapping[str, tuple[float, float]]


def facts(suite: PlottedSuite) -> Shown | None:
    """Return the plot of a suite with its texts; None for a sweep's trials, which have slices.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    if (part := sweep_part(suite.data)) is not None and part.is_search:
        return None
    plot = axis_plot(suite.data, _intervals(suite.compared))
    label = metric_label(plot.metric)
    title = f"{label} over {plot.over}, seed by seed" if plot.over else f"{label}, seed by seed"
    if suite.nothing_but_zero or not (plot.points or plot.controls):
        why = suite.nothing_but_zero or _caption(plot, suite.compared)
        return Shown(None, title, why)
    means = [f"{point.name} {point.mean:.1f}" for point in [*plot.points, *plot.controls][:8]]
    alt = f"{title}. {suite.finding} Means: {', '.join(means)}"
    return Shown(plot, title, _caption(plot, suite.compared), alt)


def axis_plot(data: SuiteData, intervals: Intervals | None = None) -> AxisPlot:
    """Collect what the plot of the main metric shows.

    Args:
        data: The suite.
        intervals: Name of a cell -> ends of its interval (displayed units), for its whisker.
    """
    metric, axes = data.main_metric, data.manifest.axes
    scored: list[tuple[CellRuns, tuple[float, ...]]] = []
    controls: list[Point] = []
    left_out: list[str] = []
    for cell in data.cells:
        scores = _seed_scores(cell, metric)
        if not scores:
            left_out.append(cell.entry.name)
        elif cell.entry.control:
            controls.append(Point(cell.entry.name, None, scores, is_control=True))
        else:
            scored.append((cell, scores))
    if not axes:
        points = [Point(cell.entry.name, cell.entry.name, scores) for cell, scores in scored]
        names = tuple(point.x for point in points)
        panels = [Panel("", "cell", "names", names, "", {"": points})]
    elif data.manifest.one_at_a_time or _has_single_axes(axes, scored):
        panels = [_panel({axis: values}, axes, scored, {}) for axis, values in axes.items()]
    else:
        panels = _product_panels(axes, scored)
    plot = AxisPlot(metric, [panel for panel in panels if panel.series], controls, left_out)
    drawn = {point.name for point in plot.points}
    controls += [Point(c.entry.name, None, s) for c, s in scored if c.entry.name not in drawn]
    return _with_intervals(plot, intervals) if intervals else plot


def _with_intervals(plot: AxisPlot, intervals: Intervals) -> AxisPlot:
    def given(points: list[Point]) -> list[Point]:
        return [replace(point, interval=intervals.get(point.name)) for point in points]

    panels = [
        replace(panel, series={name: given(points) for name, points in panel.series.items()})
        for panel in plot.panels
    ]
    return replace(plot, panels=panels, controls=given(plot.controls))


def _has_single_axes(
    axes: dict[str, list[Any]], scored: list[tuple[CellRuns, tuple[float, ...]]]
) -> bool:
    """Say whether axes were varied one at a time, of a manifest that is older than saying so."""
    on_axes = all(len(c.entry.coordinates) < 2 and not c.entry.ignored for c, _ in scored)
    return len(axes) > 1 and on_axes


def _product_panels(
    axes: dict[str, list[Any]], scored: list[tuple[CellRuns, tuple[float, ...]]]
) -> list[Panel]:
    across = next((name for name, values in axes.items() if is_numeric(values)), next(iter(axes)))
    others = [name for name in axes if name != across]
    shown = {across: axes[across]} | {name: axes[name] for name in others[:1]}
    fixed: list[dict[str, Any]] = [{}]
    for name in others[1:]:
        fixed = [where | {name: value} for where in fixed for value in axes[name]]
    return [_panel(shown, axes, scored, where) for where in fixed]


def _panel(
    shown: dict[str, list[Any]],
    axes: dict[str, list[Any]],
    scored: list[tuple[CellRuns, tuple[float, ...]]],
    where: dict[str, Any],
) -> Panel:
    """Return the panel of one or two axes, of the cells that have the coordinates `where`."""
    labels = short_axes(axes)
    axis, *second = shown
    kind, values = _order(shown[axis])
    named: dict[str, list[Point]] = {_series(labels, second, value): [] for value in _second(shown)}
    for cell, scores in scored:
        own = cell.entry.coordinates
        on_axis = axis in own and place_of(values, own[axis]) < len(values)
        if on_axis and all(k in own and same_value(own[k], v) for k, v in where.items()):
            name = _series(labels, second, own.get(second[0], ANY_VALUE) if second else None)
            named.setdefault(name, []).append(Point(cell.entry.name, own[axis], scores))
    for points in named.values():
        points.sort(key=lambda point: place_of(values, point.x))
    title = ", ".join(f"{labels[key]} {show_value(value)}" for key, value in where.items())
    series = {name: points for name, points in named.items() if points}
    return Panel(axis, labels[axis], kind, values, title, series)


def _second(shown: dict[str, list[Any]]) -> list[Any]:
    return [value for values in list(shown.values())[1:] for value in _order(values)[1]] or [None]


def _series(labels: dict[str, str], second: list[str], value: Any) -> str:
    return f"{labels[second[0]]} {show_value(value)}" if second else ""


def _order(values: list[Any]) -> tuple[Kind, tuple[Any, ...]]:
    """Return how an axis is drawn and its values in that order."""
    if is_numeric(values):
        return "numeric", tuple(sorted(values))
    numbers = [value for value in values if value is not None]
    if len(numbers) > 1 and is_numeric(numbers):
        return "ordered", (None, *sorted(numbers))
    return "names", tuple(values)


def place_of(values: tuple[Any, ...], value: Any) -> int:
    """Return where a value stands among the values of its axis; their number where it does not."""
    return next((i for i, v in enumerate(values) if same_value(v, value)), len(values))


def _seed_scores(cell: CellRuns, metric: str) -> tuple[float, ...]:
    scores = (record.scores.get(metric) for record in cell.done)
    scale = metric_scale(metric)
    return tuple(s.value * scale for s in scores if s is not None and s.value is not None)


def shows_bars(plot: AxisPlot) -> bool:
    """Say whether cells are listed as bars: one axis of names, which then stay readable."""
    if not plot.panels:
        return True
    only = plot.panels[0]
    return len(plot.panels) == 1 and only.kind == "names" and list(only.series) == [""]


def _intervals(compared: Differences) -> dict[str, tuple[float, float]]:
    """Return the ends of every cell's interval that covers seeds and images, displayed units."""
    scale = metric_scale(compared.metric)
    ends = {
        one.cell.entry.name: within_scale(estimate.low, estimate.high, compared.metric)
        for one in compared.cells
        if (estimate := one.estimate) is not None
        and estimate.covers_seeds
        and estimate.low is not None
        and estimate.high is not None
    }
    return {name: (low * scale, high * scale) for name, (low, high) in ends.items()}


def _caption(plot: AxisPlot, compared: Differences) -> str:
    if not plot.points and not plot.controls:
        return "No run has a score yet, so there is nothing to draw."
    bars = shows_bars(plot)
    parts = ["Open dots: seeds." if bars else "Open dots: seeds, beside their mean."]
    parts.append("Bars: means over seeds." if bars else "Filled marks: means over seeds.")
    parts.append(_whiskers(plot))
    near = [
        one.cell.entry.name
        for one in compared.cells
        if one.estimate is not None and one.estimate.covers_seeds and one.estimate.approximate
    ]
    if near:
        parts.append(f"Only approximate, as the table of intervals says: {', '.join(near)}.")
    if any(panel.kind == "names" for panel in plot.panels) and not bars:
        parts.append("Names have no order, so no line joins them.")
    if plot.controls:
        parts.append("Grey bars: controls." if bars else "Grey lines: controls (mean).")
    if plot.left_out:
        parts.append(f"Without a score and so not drawn: {', '.join(plot.left_out)}.")
    return " ".join(parts)


def _whiskers(plot: AxisPlot) -> str:
    given = [point.interval is not None for point in plot.points + plot.controls]
    if all(given):
        return "Whiskers: 95 % intervals."
    spread = "± one sample standard deviation over seeds."
    if any(given):
        return f"Whiskers: 95 % intervals, and where there is none {spread}"
    return f"Whiskers: {spread}"
