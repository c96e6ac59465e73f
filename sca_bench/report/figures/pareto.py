"""The main metric against what it costs: one panel for each cost that was measured and varies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.names import listed, metric_label, metric_scale
from sca_bench.report.read.suite_data import COST, SuiteData

SPEC = PlotSpec(
    "pareto",
    "The main metric against cost",
    "Means over seeds.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.pareto_draw:draw_pareto_plot",
    order=30,
)
LOG_SPAN = 8.0
"""A cost is drawn on a logarithmic axis from this ratio of largest to smallest on."""


@dataclass(frozen=True, slots=True)
class CostAxis:
    """A cost as a horizontal axis.

    Attributes:
        key: Its name in the ledger.
        label: What the axis says, with the unit.
        factor: From the ledger's unit to the axis's.
        more_is_better: Whether large values are good, such as a speed.
    """

    key: str
    label: str
    factor: float = 1.0
    more_is_better: bool = False


COST_AXES = (
    CostAxis("num_trainable_params", "Trainable parameters"),
    CostAxis("step_s", "Step time (ms)", 1000.0),
    CostAxis("captions_per_s", "Captions per second", more_is_better=True),
    CostAxis("peak_memory_mib", "Peak memory (MiB)"),
)


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One cell: cost and metric (displayed units), means over seeds with their deviations."""

    name: str
    cost: float
    score: float
    cost_sd: float | None = None
    score_sd: float | None = None
    is_control: bool = False
    in_front: bool = False


@dataclass(frozen=True, slots=True)
class ParetoPanel:
    """One cost with its cells, and whether its axis is logarithmic."""

    axis: CostAxis
    points: tuple[ParetoPoint, ...]

    @property
    def is_log(self) -> bool:
        """Whether the costs are positive and span much."""
        costs = [point.cost for point in self.points]
        return min(costs) > 0 and max(costs) / min(costs) >= LOG_SPAN

    @property
    def front(self) -> list[ParetoPoint]:
        """The cells that no other beats, by rising cost."""
        return sorted((p for p in self.points if p.in_front), key=lambda p: (p.cost, p.score))


@dataclass(frozen=True, slots=True)
class Pareto:
    """The data of the plot.

    Attributes:
        metric: Metric on the vertical axis.
        panels: The costs.
        not_measured: Costs that no two cells have.
        not_varied: Costs that are the same for all cells.
        left_out: Cells without a score, or without any of the costs.
        far_below: Controls so far below the cells that these could not be told apart beside them.
    """

    metric: str
    panels: tuple[ParetoPanel, ...]
    not_measured: tuple[str, ...]
    not_varied: tuple[str, ...]
    left_out: tuple[str, ...]
    far_below: tuple[str, ...] = ()


def facts(suite: PlottedSuite) -> Shown:
    """Return the plot of a suite with its texts."""
    plot, label = pareto(suite.data), metric_label(suite.main_metric)
    title = f"{label} against cost"
    if suite.nothing_but_zero or not plot.panels:
        return Shown(None, title, suite.nothing_but_zero or _caption(plot))
    fronts = (
        f"by {panel.axis.label.lower()} none beats {', '.join(p.name for p in panel.front)}"
        for panel in plot.panels
    )
    return Shown(plot, title, _caption(plot), f"{title}: {'; '.join(fronts)}")


def pareto(data: SuiteData) -> Pareto:
    """Collect the main metric of every cell beside each of its costs."""
    panels, unmeasured, unvaried = [], [], []
    far_below = _far_below(data)
    for axis in COST_AXES:
        points = [point for point in _points(data, axis) if point.name not in far_below]
        costs = [point.cost for point in points]
        if len(points) < 2:
            unmeasured.append(axis.label)
        elif math.isclose(min(costs), max(costs), rel_tol=1e-9):
            unvaried.append(axis.label)
        else:
            panels.append(ParetoPanel(axis, _with_front(points, axis.more_is_better)))
    drawn = {point.name for panel in panels for point in panel.points}
    names = [cell.entry.name for cell in data.cells if cell.entry.name not in far_below]
    left = tuple(name for name in names if name not in drawn)
    return Pareto(
        *(data.main_metric, tuple(panels), tuple(unmeasured), tuple(unvaried), left, far_below)
    )


def _far_below(data: SuiteData) -> tuple[str, ...]:
    """Return the controls that are further below the worst cell than the best cell is above it."""
    scores = {}
    for cell in data.cells:
        summary = data.scores.over_seeds(cell.entry.cell_id, data.main_metric)
        if summary is not None:
            scores[cell.entry.name] = (summary.mean, cell.entry.control)
    own = [mean for mean, control in scores.values() if not control]
    if len(own) < 2:
        return ()
    floor = min(own) - (max(own) - min(own))
    return tuple(name for name, (mean, control) in scores.items() if control and mean < floor)


def _points(data: SuiteData, axis: CostAxis) -> list[ParetoPoint]:
    points, scale = [], metric_scale(data.main_metric)
    for cell in data.cells:
        entry = cell.entry
        score = data.scores.over_seeds(entry.cell_id, data.main_metric)
        cost = data.scores.over_seeds(entry.cell_id, COST + axis.key)
        if score is None or cost is None:
            continue
        points.append(
            ParetoPoint(
                entry.name,
                cost.mean * axis.factor,
                score.mean * scale,
                None if cost.sd is None else cost.sd * axis.factor,
                None if score.sd is None else score.sd * scale,
                entry.control,
            )
        )
    return points


def _with_front(points: list[ParetoPoint], more_is_better: bool) -> tuple[ParetoPoint, ...]:
    """Return the points with those marked that no other cell beats; controls are no candidates."""
    sign = -1.0 if more_is_better else 1.0
    candidates = [point for point in points if not point.is_control]

    def beaten(point: ParetoPoint) -> bool:
        own = (sign * point.cost, -point.score)
        others = ((sign * p.cost, -p.score) for p in candidates)
        return any(o != own and o[0] <= own[0] and o[1] <= own[1] for o in others)

    return tuple(
        ParetoPoint(
            *(p.name, p.cost, p.score, p.cost_sd, p.score_sd, p.is_control),
            in_front=not p.is_control and not beaten(p),
        )
        for p in points
    )


def _caption(plot: Pareto) -> str:
    if not plot.panels:
        parts = ["No cost was measured that differs between cells, so there is nothing to draw."]
    else:
        parts = [
            "Marks: means over seeds; whiskers: ± one sample standard deviation over seeds. "
            "Filled marks on the dashed line: no other cell is at least as good and as cheap, "
            "and better in one; controls do not count."
        ]
    if plot.panels and plot.far_below:
        parts.append(f"Controls far below the cells, not drawn: {', '.join(plot.far_below)}.")
    if plot.not_varied:
        parts.append(f"The same for all cells: {listed(plot.not_varied)}.")
    if plot.not_measured:
        parts.append(f"Not measured for two cells or more: {listed(plot.not_measured)}.")
    if plot.panels and plot.left_out:
        parts.append(f"Without a score or a cost and so not drawn: {', '.join(plot.left_out)}.")
    return " ".join(parts)
