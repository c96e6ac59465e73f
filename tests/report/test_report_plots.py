"""What the plots show, and that their labels keep clear of each other."""

import json
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.text import Annotation
from report_fake_runs import DEPTHS, build, manifest, record, save_run

from sca_bench.report.axis_draw import draw_axis_plot, spread_labels
from sca_bench.report.axis_plot import AxisPlot, Point, axis_plot
from sca_bench.report.collect import collect
from sca_bench.report.curves_plot import draw_learning_curves, learning_curves
from sca_bench.report.figures import figure_style
from sca_bench.study.record import CellEntry, SuiteManifest
from sca_bench.study.store import Store

Runs = tuple[Store, SuiteManifest]


def test_axis_plot_shows_seeds_and_controls(runs: Runs) -> None:
    plot = axis_plot(collect(*runs))
    assert plot.axis == "mixer.num_layers"
    points = plot.series[""]
    assert [point.x for point in points] == list(DEPTHS)
    assert points[1].seeds == pytest.approx((860.0, 900.0))
    assert points[1].mean == pytest.approx(880.0)
    assert points[1].spread == pytest.approx(28.2842712)
    assert [point.name for point in plot.controls] == ["permuted captions", "most frequent caption"]


def test_cells_without_a_score_are_named(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        store.save(record(suite.cells[1], seed).model_copy(update={"status": "failed"}))
    plot = axis_plot(collect(store, suite))
    assert plot.left_out == ["depth-1"]
    assert [point.x for point in plot.series[""]] == [2, 4]


def test_two_axes_give_one_series_each(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    cells = [
        CellEntry(
            cell_id=f"c-{depth}-{size}",
            name=f"depth-{depth}",
            coordinates={"sam.size": size, "mixer.num_layers": depth},
            variant="sca",
        )
        for size in ("vit_b", "vit_l")
        for depth in DEPTHS
    ]
    axes = {"sam.size": ["vit_b", "vit_l"], "mixer.num_layers": list(DEPTHS)}
    suite = manifest(cells=cells, axes=axes)
    for entry in cells:
        save_run(store, entry, 0)
    plot = axis_plot(collect(store, suite))
    assert list(plot.series) == ["size vit_b", "size vit_l"]
    figure = draw_axis_plot(plot)
    assert figure is not None
    assert len(figure.legends) == 1


def test_names_become_bars(tmp_path: Path) -> None:
    suite = manifest(axes={"variant": ["a", "b"]})
    store, _ = build(tmp_path / "runs", suite)
    plot = axis_plot(collect(store, suite))
    assert plot.axis == ""
    figure = draw_axis_plot(plot)
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "depth-1"
    assert labels[-1] == "most frequent caption (control)"


def test_axes_with_crowded_values_are_spread() -> None:
    points = [Point(str(x), x, (1.0,)) for x in (0.0, 1e-7, 5e-7, 1e-6, 5e-6)]
    figure = draw_axis_plot(AxisPlot("cider_d", "lr", "lr", {"": points}, [], []))
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Lr (evenly spaced)"
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "0",
        "1e-07",
        "5e-07",
        "1e-06",
        "5e-06",
    ]
    assert list(axes.get_xticks()) == [0, 1, 2, 3, 4]


def test_wide_positive_axes_are_logarithmic() -> None:
    points = [Point(str(x), x, (1.0, 2.0)) for x in (2, 4, 8, 12, 24)]
    figure = draw_axis_plot(AxisPlot("cider_d", "n", "layers", {"": points}, [], []))
    assert figure is not None
    assert figure.axes[0].get_xscale() == "log"
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["2", "4", "8", "12", "24"]


def test_controls_of_one_height_have_readable_labels() -> None:
    points = [Point("a", 1, (50.0,)), Point("b", 2, (60.0,))]
    controls = [Point(f"control {i}", None, (10.0 + 0.1 * i,)) for i in range(5)]
    with figure_style():
        figure = draw_axis_plot(AxisPlot("cider_d", "n", "n", {"": points}, controls, []))
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
    assert depth_2[0] == [(300, pytest.approx(688.0)), (600, pytest.approx(774.0))]
    assert curves.without_log == ["most frequent caption"]
    assert draw_learning_curves(curves) is not None


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
