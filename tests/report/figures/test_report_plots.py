"""What the plots show, and that their labels keep clear of each other."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from report_fake_runs import DEPTHS, axis_manifest, build, manifest, record

from sca_bench.report.figures.axis import AxisPlot, Panel, Point, axis_plot, shows_bars
from sca_bench.report.figures.axis_draw import draw_axis_plot, spread_labels
from sca_bench.report.figures.curves import facts as curve_facts
from sca_bench.report.figures.curves import learning_curves
from sca_bench.report.figures.curves_draw import draw_learning_curves
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.style import figure_style, honest_limits, line_style
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.study.runs.record import CellEntry, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.yaml_values import show_value

Runs = tuple[Store, SuiteManifest]


def series_of(plot: AxisPlot) -> dict[str, list[Point]]:
    """The series of a plot's only panel."""
    (panel,) = plot.panels
    return panel.series


def plot_of(tmp_path: Path, suite: SuiteManifest) -> AxisPlot:
    store, _ = build(tmp_path / "runs", suite)
    return axis_plot(collect(store, suite))


def numeric(values: tuple[float, ...], points: list[Point], label: str = "layers") -> Panel:
    return Panel("n", label, "numeric", values, "", {"": points})


def drawn(plot: AxisPlot) -> Figure:
    with figure_style():
        figure = draw_axis_plot(plot)
        assert figure is not None
        figure.draw_without_rendering()
    return figure


def test_axis_plot_shows_seeds_and_controls(runs: Runs) -> None:
    plot = axis_plot(collect(*runs))
    assert [(panel.axis, panel.kind) for panel in plot.panels] == [("mixer.num_layers", "numeric")]
    points = series_of(plot)[""]
    assert [point.x for point in points] == list(DEPTHS)
    assert points[1].seeds == pytest.approx((860.0, 900.0))
    assert points[1].mean == pytest.approx(880.0)
    assert points[1].spread == pytest.approx(28.2842712)
    assert [point.name for point in plot.controls] == ["permuted captions", "most frequent caption"]
    assert all(point.is_control for point in plot.controls)
    assert not any(point.is_control for point in plot.points)


def test_cells_without_a_score_are_named(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        store.save(record(suite.cells[1], seed).model_copy(update={"status": "failed"}))
    plot = axis_plot(collect(store, suite))
    assert plot.left_out == ["depth-1"]
    assert [point.x for point in series_of(plot)[""]] == [2, 4]


RATES = [5e-6, 1e-6, 5e-7, 1e-7, None]
AXES: list[tuple[dict[str, list[Any]], str, tuple[Any, ...], list[str]]] = [
    ({"variant": ["sca", "sca_roi_align"]}, "names", ("sca", "sca_roi_align"), [""]),
    ({"sam.size": ["vit_h", "vit_b"]}, "names", ("vit_h", "vit_b"), [""]),
    (
        {"data.lsj_scale": [None, [1.0, 2.0], [0.1, 2.0]]},
        *("names", (None, [1.0, 2.0], [0.1, 2.0]), [""]),
    ),
    (
        {"pretraining": ["none", "coco", ["objects365", "coco"]]},
        *("names", ("none", "coco", ["objects365", "coco"]), [""]),
    ),
    ({"text_decoder.dropout_in_training": [True, False]}, "names", (True, False), [""]),
    ({"mixer.num_query_tokens": [8, 1, 16]}, "numeric", (1, 8, 16), [""]),
    ({"prefix.num_task_tokens": [0, 2, 6]}, "numeric", (0, 2, 6), [""]),
    ({"eval.prompt": ["box", "point"]}, "names", ("box", "point"), [""]),
    ({"text_decoder.learning_rate": RATES}, "ordered", (None, 1e-7, 5e-7, 1e-6, 5e-6), [""]),
    (
        {"train.learning_rate": [1e-4, 5e-5], "text_decoder.learning_rate": RATES},
        *("numeric", (5e-5, 1e-4)),
        [f"text decoder learning rate {r}" for r in ("none", "1e-7", "5e-7", "1e-6", "5e-6")],
    ),
    (
        {"sam.size": ["vit_b", "vit_l"], "mixer.num_layers": [2, 4, 24]},
        *("numeric", (2, 4, 24), ["SAM size vit_b", "SAM size vit_l"]),
    ),
]


@pytest.mark.parametrize(("axes", "kind", "values", "series"), AXES, ids=lambda v: str(v)[:40])
def test_every_kind_of_axis_is_drawn(
    tmp_path: Path,
    axes: dict[str, list[Any]],
    kind: str,
    values: tuple[Any, ...],
    series: list[str],
) -> None:
    suite = axis_manifest(axes)
    plot = plot_of(tmp_path, suite)
    (panel,) = plot.panels
    assert (panel.kind, panel.values, list(panel.series)) == (kind, values, series)
    num_cells = len(suite.cells) - 2
    assert len(plot.points) == num_cells
    assert len(plot.controls) == 2
    axis = drawn(plot).axes[0]
    bars = kind == "names" and series == [""]
    assert shows_bars(plot) == bars
    labels = axis.get_yticklabels() if bars else axis.get_xticklabels()
    shown = [label.get_text() for label in labels]
    assert shown[: len(values)] == [show_value(value) for value in values]


def test_single_axes_have_a_panel_each(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {
        "mixer.num_query_tokens": [1, 4, 8],
        "data.lsj_scale": [None, [0.1, 2.0]],
        "variant": ["sca", "sca_split_mixer", "sca_sam_query", "sca_roi_align"],
    }
    plot = plot_of(tmp_path, axis_manifest(axes, one_at_a_time=True))
    assert [panel.axis for panel in plot.panels] == list(axes)
    assert [len(panel.series[""]) for panel in plot.panels] == [3, 2, 4]
    assert plot.over == "number of query tokens, LSJ scale, variant"
    figure = drawn(plot)
    visible = [a for a in figure.axes if a.get_visible()]
    assert [a.get_xlabel() for a in visible] == [
        *("Number of query tokens (log scale)", "LSJ scale", "Variant"),
    ]
    assert len({a.get_ylim() for a in visible}) == 1
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["permuted captions 90.0", "most frequent caption 110.0"]
    assert no_overlap(visible[2].get_xticklabels())


def no_overlap(texts: list[Text]) -> bool:
    """Whether the boxes of upright or equally rotated labels keep clear at their own ends."""
    ends = [text.get_window_extent().x1 for text in texts]
    return all(b - a > 8 for a, b in pairwise(ends))


def test_a_third_axis_is_told_apart_by_panels(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {
        "train.learning_rate": [1e-4, 5e-5],
        "text_decoder.learning_rate": RATES,
        "text_decoder.weights": ["gpt2-large", "gpt2"],
    }
    plot = plot_of(tmp_path, axis_manifest(axes))
    titles = ["text decoder weights gpt2-large", "text decoder weights gpt2"]
    assert [panel.title for panel in plot.panels] == titles
    assert [len(panel.series) for panel in plot.panels] == [5, 5]
    assert len(plot.points) == 20


def test_names_are_not_joined_and_none_has_no_distance(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {"sam.size": ["vit_b", "vit_l"], "variant": ["a", "b", "c"]}
    figure = drawn(plot_of(tmp_path, axis_manifest(axes, controls=False)))
    joined = [line for line in figure.axes[0].get_lines() if line.get_linestyle() != "None"]
    assert all(len(np.atleast_1d(line.get_xdata())) < 2 for line in joined)
    ordered = plot_of(
        tmp_path / "two", axis_manifest({"text_decoder.learning_rate": RATES}, controls=False)
    )
    lines = drawn(ordered).axes[0].get_lines()
    assert [list(np.atleast_1d(line.get_xdata())) for line in lines][:2] == [
        [1, 2, 3, 4],
        [0, 1, 2, 3, 4],
    ]


def test_two_axes_have_one_legend(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {"sam.size": ["vit_b", "vit_l"], "mixer.num_layers": [1, 2, 4]}
    assert len(drawn(plot_of(tmp_path, axis_manifest(axes))).legends) == 1


def test_a_cell_off_the_axes_stands_beside_them(tmp_path: Path) -> None:
    suite = axis_manifest({"mixer.num_layers": [1, 2]}, controls=False)
    extra = CellEntry(cell_id="c-x", name="masks only", coordinates={}, variant="sca")
    plot = plot_of(tmp_path, suite.model_copy(update={"cells": [*suite.cells, extra]}))
    assert [point.name for point in plot.controls] == ["masks only"]
    assert len(plot.points) == 2


def test_a_suite_without_axes_lists_its_cells(tmp_path: Path) -> None:
    plot = plot_of(tmp_path, manifest(axes={}))
    assert shows_bars(plot)
    labels = [label.get_text() for label in drawn(plot).axes[0].get_yticklabels()]
    assert labels[0] == "depth-1"
    assert labels[-1] == "most frequent caption (control)"


def test_axes_with_crowded_values_are_spread() -> None:
    values = (0.0, 1e-7, 5e-7, 1e-6, 5e-6)
    points = [Point(str(x), x, (1.0,)) for x in values]
    axes = drawn(AxisPlot("cider_d", [numeric(values, points, "lr")], [], [])).axes[0]
    assert axes.get_xlabel() == "Lr (evenly spaced)"
    shown = [t.get_text() for t in axes.get_xticklabels()]
    assert shown == ["0.0", "1e-7", "5e-7", "1e-6", "5e-6"]
    assert list(axes.get_xticks()) == [0, 1, 2, 3, 4]


def test_wide_positive_axes_are_logarithmic() -> None:
    values = (2, 4, 8, 12, 24)
    points = [Point(str(x), x, (1.0, 2.0)) for x in values]
    axes = drawn(AxisPlot("cider_d", [numeric(values, points)], [], [])).axes[0]
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "4", "8", "12", "24"]


@pytest.mark.parametrize("num_series", [1, 3, 7])
@pytest.mark.parametrize("values", [(5e-5, 1e-4), (1, 2, 4, 8, 16), (3,)])
def test_series_beside_the_outer_ticks_stay_inside(
    values: tuple[float, ...], num_series: int
) -> None:
    series = {
        f"line {i}": [Point(f"{i} {x}", x, (10.0 + i, 11.0 + i)) for x in values]
        for i in range(num_series)
    }
    panel = Panel("n", "n", "numeric", values, "", series)
    axes = drawn(AxisPlot("cider_d", [panel], [], [])).axes[0]
    inside = axes.get_window_extent()
    for line in axes.get_lines():
        at = line.get_transform().transform(line.get_xydata())
        assert all(inside.x0 <= x <= inside.x1 for x, _ in at)


def test_lines_differ_in_colour_dashes_or_marker() -> None:
    assert len({str(line_style(i)) for i in range(49)}) == 49


def test_controls_of_one_height_have_readable_labels() -> None:
    points = [Point("a", 1, (50.0,)), Point("b", 2, (60.0,))]
    controls = [Point(f"control {i}", None, (10.0 + 0.1 * i,)) for i in range(5)]
    with figure_style():
        figure = draw_axis_plot(AxisPlot("cider_d", [numeric((1, 2), points)], controls, []))
        assert figure is not None
        figure.draw_without_rendering()
    texts = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    boxes = [Annotation.get_window_extent(text) for text in texts]
    heights = sorted((text.xyann[1], text.get_text()) for text in texts)
    assert [name for _, name in heights] == [f"control {i} {10 + 0.1 * i:.1f}" for i in range(5)]
    # Window extents hold the leader lines too; the text's own height is what must keep clear.
    text_height = 8 / 72 * figure.dpi
    low, high = figure.axes[0].get_ylim()
    pixels = figure.axes[0].get_window_extent().height / (high - low)
    gaps = [(b - a) * pixels for (a, _), (b, _) in pairwise(heights)]
    assert len(boxes) == 5
    assert min(gaps) > text_height
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_spread_labels() -> None:
    assert spread_labels([1.0, 5.0], 1.0, 0.0, 10.0) == [1.0, 5.0]
    assert spread_labels([1.0, 1.1, 1.2], 1.0, 0.0, 10.0) == [1.0, 2.0, 3.0]
    assert spread_labels([9.9, 10.0], 1.0, 0.0, 10.0) == [9.0, 10.0]
    assert spread_labels([], 1.0, 0.0, 10.0) == []


def test_curves_read_loss_and_validation(runs: Runs) -> None:
    curves = learning_curves(collect(*runs))
    assert list(curves.panels) == ["loss", "val/loss", "val/cider_d", "val/exact_match"]
    depth_2 = curves.panels["val/cider_d"]["depth-2"]
    assert [step for step, _ in depth_2[0]] == list(range(100, 601, 100))
    assert [depth_2[0][i][1] for i in (0, -1)] == pytest.approx([344.0, 774.0])
    assert curves.without_log == ["most frequent caption"]
    assert draw_learning_curves(curves) is not None


def test_curves_without_content_are_not_drawn(runs: Runs) -> None:
    """Those of fewer than three steps, and those that are always zero; the caption says so."""
    store, suite = runs
    rows = [{"step": step, "loss": 1.0, "val/exact_match": 0.0} for step in (10, 20, 30)]
    rows[2]["val/loss"] = 0.5
    for path in store.root.glob("cells/*/*/log.jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    curves = learning_curves(collect(store, suite))
    assert list(curves.panels) == ["loss"]
    assert (curves.short, curves.zero) == (["val/loss"], ["val/exact_match"])
    for path in store.root.glob("cells/*/*/log.jsonl"):
        path.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    data = collect(store, suite)
    samples = Samples(data)
    compared = differences(data, samples, data.main_metric)
    shown = curve_facts(PlottedSuite(data, samples, compared, [], Paper("")))
    assert shown.facts is None
    assert "at fewer than 3 steps" in shown.caption


def test_axes_of_values_that_nobody_chose_have_ticks_of_three_digits() -> None:
    values = tuple(1e-3 * 1.7**n + 1.23456789e-9 for n in range(14))
    points = [Point(str(x), x, (10.0 + x,)) for x in values]
    axes = drawn(AxisPlot("cider_d", [numeric(values, points, "rate")], [], [])).axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    inside = [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
    shown = [text.get_text() for text in inside]
    assert 2 < len(shown) < len(values)
    assert all(len(re.sub(r"e.*|[0.]", "", text)) <= 3 for text in shown)
    assert no_overlap(inside)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((890.0, 910.0), (847.2, 952.8)),  # a difference of 2 % fills a fifth of the axis
        ((10.0, 90.0), (0.0, 96.4)),
        ((-5.0, 5.0), (-5.8, 5.8)),
        ((0.0, 0.0), (0.0, 0.58)),
    ],
)
def test_an_axis_of_scores_makes_nothing_look_larger_than_it_is(
    ends: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert honest_limits(*ends) == pytest.approx(expected, abs=0.05)


def test_a_resumed_log_counts_what_it_went_on_from(runs: Runs) -> None:
    store, suite = runs
    rows = [{"step": 20, "loss": 3.0}, {"step": 40, "loss": 9.0}, {"step": 40, "loss": 2.0}]
    rows += [{"step": 60, "loss": float("nan")}]
    path = store.run_dir("c-depth-1", 0) / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    curves = learning_curves(collect(store, suite))
    assert curves.panels["loss"]["depth-1"][0] == [(20, 3.0), (40, 2.0)]
    assert curves.dropped == 1


def test_a_users_own_style_changes_nothing() -> None:
    with mpl.rc_context({"font.size": 30.0, "lines.linewidth": 9.0}):
        with figure_style():
            assert mpl.rcParams["font.size"] == 9
            assert mpl.rcParams["lines.linewidth"] == 1.5
        assert mpl.rcParams["font.size"] == 30.0
