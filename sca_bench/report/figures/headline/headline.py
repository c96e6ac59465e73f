"""What the figure that answers a suite's question shows: a curve, or cells from best to worst.

It is the first figure of a report: the main metric over the suite's numeric axis, or every cell by
rank, each with its 95 % interval, over a band as wide as what other seeds do to the reference.
`headline_draw` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.findings.differences import CellDifference, Differences, differences
from sca_bench.report.names import (
    is_numeric,
    metric_label,
    metric_scale,
    short_axes,
    show_bearable,
)
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.read.sweeps import sweep_part
from sca_bench.report.tables.claim_table import significance, within_scale
from sca_bench.stats.power import noise_floor
from sca_bench.study.suite.yaml_values import show_value

SPEC = PlotSpec(
    "headline_figure",
    "The answer in one figure",
    "The main metric with 95 % intervals.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.headline.headline_draw:draw_headline",
    order=1,
)
MOST_CELLS = 16
"""Rows of the ranked form; the best ones, the reference and the controls stay."""
MOST_LINES = 4
"""Lines of the curve's form that can be named beside their ends."""
LEAST_PLACES = 3
"""Values that an axis needs for a curve."""
Kind = Literal["curve", "cells"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One cell with its main metric, displayed units.

    Attributes:
        name: The cell's name.
        mean: Mean over seeds.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        x: Its value on the axis; None in the ranked form and for controls.
        line: Which line it is on: the value of the second axis in words.
        is_control: Whether it is a control.
        is_reference: Whether the others are compared with it.
        differs: Whether it differs from the reference after Holm's correction.
        images_only: Whether the interval knows nothing of other seeds.
        shown: The mean, rounded to what its interval lets it bear.
    """

    name: str
    mean: float
    low: float | None = None
    high: float | None = None
    x: float | None = None
    line: str = ""
    is_control: bool = False
    is_reference: bool = False
    differs: bool = False
    images_only: bool = False
    shown: str = ""

    @property
    def reach(self) -> tuple[float, float]:
        """Lower and upper end of what is drawn of it."""
        low, high = self.low, self.high
        return self.mean if low is None else low, self.mean if high is None else high


@dataclass(frozen=True, slots=True)
class HeadlineFigure:
    """The data of the figure.

    Attributes:
        kind: Whether it is a curve over an axis or a list of cells.
        metric: The metric, by its value's name.
        marks: The cells: by line and axis, or best first, controls last.
        axis: The axis in words; empty in the list.
        is_log: Whether the suite's values are so far apart that the axis is logarithmic.
        band: Ends of where the reference lies with other seeds, in 95 % of cases; None where that
            is not known.
        floor: Half the width of the band, rounded to what it can bear; empty where there is none.
        left_out: Names of cells without a score, or too many to draw.
    """

    kind: Kind
    metric: str
    marks: tuple[Mark, ...]
    axis: str = ""
    is_log: bool = False
    band: tuple[float, float] | None = None
    floor: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def own(self) -> list[Mark]:
        """The cells that are no controls."""
        return [mark for mark in self.marks if not mark.is_control]

    @property
    def controls(self) -> list[Mark]:
        """The controls."""
        return [mark for mark in self.marks if mark.is_control]

    @property
    def lines(self) -> dict[str, list[Mark]]:
        """Line -> its marks along the axis."""
        lines: dict[str, list[Mark]] = {}
        for mark in self.own:
            lines.setdefault(mark.line, []).append(mark)
        return {name: sorted(each, key=lambda m: m.x or 0.0) for name, each in lines.items()}


def facts(suite: PlottedSuite) -> Shown | None:
    """Return the figure of a suite with its texts.

    None where no cell has a score, or all scores are zero; and for a sweep's trials.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    if (part := sweep_part(suite.data)) is not None and part.is_search:
        return None  # its slices answer the question, which is about settings
    compared = _compared(suite)
    figure = headline_figure(suite.data, compared)
    if figure is None:
        return None
    label = metric_label(figure.metric)
    what = f"{label} over {figure.axis}" if figure.axis else f"{label} of every cell"
    kind = "Curve" if figure.kind == "curve" else "Ranked list"
    alt = f"{suite.finding} {kind} of {what}: {_values(figure)}"
    caption = " ".join(_how_to_read(figure, compared))
    return Shown(figure, suite.finding, caption, alt)


def headline_figure(data: SuiteData, compared: Differences) -> HeadlineFigure | None:
    """Return what the figure of a suite shows; None where no cell of it has a score.

    Args:
        data: The suite.
        compared: Its cells by one metric, with intervals.
    """
    metric, scale = compared.metric, metric_scale(compared.metric)
    scored = [one for one in compared.cells if one.estimate is not None]
    own = [one for one in scored if not one.cell.entry.control]
    if not own or not any(one.estimate and one.estimate.value for one in scored):
        return None  # nothing was scored, or all of it is zero
    floor = reference_floor(compared)
    band = None
    reference = next((one for one in own if one.cell is compared.reference), None)
    if floor is not None and reference is not None and reference.estimate is not None:
        middle = reference.estimate.value
        low, high = within_scale(middle - floor, middle + floor, metric)
        band = (low * scale, high * scale)
    shown_floor = ""
    if band is not None and floor is not None:
        shown_floor = show_bearable(floor, floor, metric=metric)
    left_out = tuple(one.cell.entry.name for one in compared.cells if one.estimate is None)
    controls = tuple(_mark(one, compared) for one in scored if one.cell.entry.control)
    places = _places(data, own)
    if places is not None:
        axis, second = places
        labels = short_axes(data.manifest.axes)
        marks = [_on_axis(one, compared, axis, second, labels) for one in own]
        values = sorted({mark.x for mark in marks if mark.x is not None})
        return HeadlineFigure(
            "curve",
            metric,
            (*marks, *controls),
            labels[axis],
            values[0] > 0 and values[-1] / values[0] >= 8,
            band,
            shown_floor,
            left_out,
        )
    ranked = sorted((_mark(one, compared) for one in own), key=lambda m: -m.mean)
    shown = _few(ranked)
    left_out += tuple(mark.name for mark in ranked if mark not in shown)
    low_last = tuple(sorted(controls, key=lambda m: -m.mean))
    marks_shown = (*shown, *low_last)
    return HeadlineFigure("cells", metric, marks_shown, "", False, band, shown_floor, left_out)


def reference_floor(compared: Differences) -> float | None:
    """Return how far two means of the reference cell lie apart by their seeds alone, natural units.

    None where there is no reference, or nothing is known of how far its seeds spread.
    """
    parts = [one.comparison.parts for one in compared.cells if one.comparison is not None]
    own = next((both[-1] for both in parts if both), None)  # the reference is the right side
    return None if own is None else noise_floor((own, own))


def _compared(suite: PlottedSuite) -> Differences:
    """Return the cells by the metric that the claims are about, where all are about one."""
    metrics = {claim.metric for claim in suite.claims if claim.comparison is not None}
    if len(metrics) != 1 or suite.main_metric in metrics:
        return suite.compared
    return differences(suite.data, suite.samples, metrics.pop())


def _places(data: SuiteData, own: list[CellDifference]) -> tuple[str, str] | None:
    """Return the numeric axis, and a second one by which lines differ, where a curve shows both."""
    axes = data.manifest.axes
    numeric = [axis for axis, values in axes.items() if is_numeric(values)]
    others = [axis for axis in axes if axis not in numeric]
    if data.manifest.one_at_a_time or len(numeric) != 1 or len(others) > 1:
        return None
    axis, second = numeric[0], others[0] if others else ""
    at = [one.cell.entry.coordinates for one in own]
    if not all(is_numeric([where.get(axis)]) and (not second or second in where) for where in at):
        return None
    if second and len(axes[second]) > MOST_LINES:
        return None
    return (axis, second) if len({where[axis] for where in at}) >= LEAST_PLACES else None


def _on_axis(
    one: CellDifference,
    compared: Differences,
    axis: str,
    second: str,
    labels: Mapping[str, str],
) -> Mark:
    where = one.cell.entry.coordinates
    line = f"{labels[second]} {show_value(where[second])}" if second else ""
    return _mark(one, compared, where[axis], line)


def _mark(one: CellDifference, compared: Differences, x: Any = None, line: str = "") -> Mark:
    estimate, metric = one.estimate, compared.metric
    assert estimate is not None
    scale, half = metric_scale(metric), None
    ends: tuple[float | None, float | None] = (None, None)
    if estimate.low is not None and estimate.high is not None:
        half = (estimate.high - estimate.low) / 2
        low, high = within_scale(estimate.low, estimate.high, metric)
        ends = (low * scale, high * scale)
    return Mark(
        one.cell.entry.name,
        estimate.value * scale,
        *ends,
        x=None if x is None else float(x),
        line=line,
        is_control=one.cell.entry.control,
        is_reference=one.cell is compared.reference,
        differs=bool(significance(one)),
        images_only=not estimate.covers_seeds,
        shown=show_bearable(estimate.value, half, metric=metric),
    )


def _few(ranked: list[Mark]) -> list[Mark]:
    """Return the best cells and the reference, in order."""
    if len(ranked) <= MOST_CELLS:
        return ranked
    kept = [mark for mark in ranked if mark.is_reference]
    kept += [mark for mark in ranked if not mark.is_reference][: MOST_CELLS - len(kept)]
    return [mark for mark in ranked if mark in kept]


def _how_to_read(figure: HeadlineFigure, compared: Differences) -> list[str]:
    only = all(mark.images_only for mark in figure.marks)
    over = "test images only, since there is one seed" if only else "images and seeds"
    parts = [f"Dots: means over seeds; lines: 95 % intervals over {over}."]
    if figure.floor and compared.reference is not None:
        name = compared.reference.entry.name
        parts.append(f"Grey band: where {name} lies with other seeds, in 95 % of cases.")
    if any(mark.differs for mark in figure.own):
        parts.append("Filled dots differ from the reference.")
    if figure.left_out:
        shown = ", ".join(figure.left_out[:6])
        more = len(figure.left_out) - 6
        shown += f" and {more} more" if more > 0 else ""
        parts.append(f"Not drawn: {shown}.")
    return parts


def _values(figure: HeadlineFigure) -> str:
    """Return the numbers, for those who cannot see the figure."""
    each = [f"{mark.name} {mark.shown}" for mark in figure.marks[:8]]
    more = len(figure.marks) - len(each)
    floor = f"; noise floor ± {figure.floor}" if figure.floor else ""
    return ", ".join(each) + (f" and {more} more" if more > 0 else "") + floor + "."
