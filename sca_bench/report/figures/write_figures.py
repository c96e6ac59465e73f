"""The figures of a suite's report: drawn, written as files, and captioned for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from sca_bench.report.figures.axis import AxisPlot, axis_plot
from sca_bench.report.figures.axis_draw import draw_axis_plot, shows_bars
from sca_bench.report.figures.curves import Curves, draw_learning_curves, learning_curves
from sca_bench.report.figures.distribution import RARITY, Distribution, distribution
from sca_bench.report.figures.distribution_draw import draw_distribution_plot
from sca_bench.report.figures.forest_draw import Forest, draw_forest_plot
from sca_bench.report.figures.pareto import Pareto, pareto
from sca_bench.report.figures.pareto_draw import draw_pareto_plot
from sca_bench.report.figures.picture import Picture
from sca_bench.report.figures.style import KINDS, figure_style, save
from sca_bench.report.findings.differences import Differences
from sca_bench.report.names import metric_label, metric_scale
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.read.thumbnails import png_uri
from sca_bench.report.tables.claim_table import within_scale

FIGURES = ("metric_over_axis", "pareto", "distribution", "learning_curves")


@dataclass(frozen=True, slots=True)
class ForestPicture:
    """A forest plot with its texts; `name` is that of its files, and with hyphens its anchor."""

    name: str
    title: str
    caption: str
    forest: Forest


def write_pictures(
    data: SuiteData,
    folder: Path,
    samples: Samples,
    compared: Differences,
    forests: Sequence[ForestPicture] = (),
) -> list[Picture]:
    """Draw every figure into a folder, as PNG, SVG and PDF, and return what the page shows.

    Args:
        data: The suite.
        folder: Where files of an earlier report are replaced.
        samples: Region scores.
        compared: Every cell's main metric with its interval.
        forests: Forest plots, which come first.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    for path in sorted(folder.iterdir()):  # what was drawn before may have nothing to show now
        known = path.stem in FIGURES or path.stem.startswith("forest")
        if known and path.suffix.lstrip(".") in KINDS:
            path.unlink()
    label = metric_label(data.main_metric)
    axis = axis_plot(data, _intervals(compared))
    costs, curves = pareto(data), learning_curves(data)
    over = f"{label} over {axis.over}" if axis.over else f"{label} by cell"
    regions = distribution(data, [samples.of(cell, data.main_metric) for cell in data.cells])
    pictures = [_forest(each, folder) for each in forests]
    pictures += [
        _picture(
            *("metric_over_axis", over, folder, lambda: draw_axis_plot(axis)),
            f"{over}; the numbers are in the table of scores",
            _axis_caption(axis, compared),
        ),
        _picture(
            *("pareto", f"{label} against cost", folder, lambda: draw_pareto_plot(costs)),
            f"{label} of every cell against parameters, time and memory",
            _pareto_caption(costs),
        ),
        _picture(
            *("distribution", f"{label} by region", folder),
            lambda: draw_distribution_plot(regions),
            f"{label} by box area, reference length and rarity of words",
            _distribution_caption(regions),
        ),
        _picture(
            *("learning_curves", "Learning curves", folder, lambda: draw_learning_curves(curves)),
            "Training loss and validation metrics over training steps",
            _curves_caption(curves),
        ),
    ]
    return pictures


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


def _forest(each: ForestPicture, folder: Path) -> Picture:
    return _picture(
        *(each.name, each.title, folder, lambda: draw_forest_plot(each.forest)),
        f"{each.title}: differences with their intervals around zero",
        each.caption,
    )


def _picture(
    name: str, title: str, folder: Path, draw: Callable[[], Figure | None], alt: str, caption: str
) -> Picture:
    uri = ""
    with figure_style():
        figure = draw()
        if figure is not None:
            uri = png_uri(save(figure, folder, name)[0])
    return Picture(name.replace("_", "-"), title, uri, alt, caption)


def _axis_caption(plot: AxisPlot, compared: Differences) -> str:
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


def _pareto_caption(plot: Pareto) -> str:
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
        parts.append(f"The same for all cells: {_listed(plot.not_varied)}.")
    if plot.not_measured:
        parts.append(f"Not measured for two cells or more: {_listed(plot.not_measured)}.")
    if plot.panels and plot.left_out:
        parts.append(f"Without a score or a cost and so not drawn: {', '.join(plot.left_out)}.")
    return " ".join(parts)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(label[:1].lower() + label[1:] for label in labels)


def _distribution_caption(plot: Distribution) -> str:
    if not plot.panels:
        return "No two kinds of regions have scores, so there is nothing to draw."
    parts = [
        f"The {plot.num_regions:,} test regions that all of these cells were scored on, in bins of "
        "about equal counts (n); seeds are averaged first. Marks: means; lines: 95 % bootstrap "
        "intervals over test images, not over seeds, and a little narrow where a bin has few "
        "images. Cells stand beside each other in a bin only to be told apart."
    ]
    if any(panel.label == RARITY for panel in plot.panels):
        parts.append(
            "The rarest word of a region's references stands for its class: the axis counts the "
            "test regions whose references hold that word; rare classes are on the left."
        )
    if plot.left_out:
        parts.append(f"Not drawn, to keep lines apart: {', '.join(plot.left_out)}.")
    if plot.without:
        parts.append(f"Without scores of regions: {', '.join(plot.without)}.")
    if plot.same:
        parts.append(f"The same for all regions, or not known: {_listed(plot.same)}.")
    return " ".join(parts)


def _curves_caption(curves: Curves) -> str:
    if not curves.panels:
        return "No run wrote a training log."
    parts = ["Thin lines: seeds; thick lines: their mean at the steps that all of them logged."]
    if curves.without_log:
        parts.append(f"Without a training log: {', '.join(curves.without_log)}.")
    if curves.left_out:
        parts.append(f"Also logged, not drawn: {', '.join(curves.left_out)}.")
    if curves.dropped:
        parts.append(f"{curves.dropped} logged values are not finite and are left out.")
    return " ".join(parts)
