"""Forest, Pareto and region plots: what they hold, and that labels keep clear of each other."""

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from report_fake_runs import axis_manifest, build, record, regions

from sca_bench.metrics.rows import read_rows
from sca_bench.report.figures.axis import axis_plot
from sca_bench.report.figures.axis_draw import draw_axis_plot
from sca_bench.report.figures.distribution import Distribution, distribution, quantile_bins
from sca_bench.report.figures.distribution_draw import draw_distribution_plot
from sca_bench.report.figures.forest import CLAIMS, Facet, Forest, ForestRow
from sca_bench.report.figures.forest_draw import draw_forest_plot
from sca_bench.report.figures.pareto import Pareto, ParetoPanel, pareto
from sca_bench.report.figures.pareto_draw import draw_pareto_plot
from sca_bench.report.figures.picture import KINDS
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.style import COLOURS, figure_style, save
from sca_bench.report.figures.write_figures import is_picture, write_pictures
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.names import shown_number, wrapped
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, Store

Runs = tuple[Store, SuiteManifest]


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def extents(texts: list[Text]) -> list[Bbox]:
    return [Text.get_window_extent(text) for text in texts if text.get_text()]


def shared_area(boxes: list[Bbox]) -> float:
    found = (Bbox.intersection(a, b) for a, b in combinations(boxes, 2))
    return sum(box.width * box.height for box in found if box is not None)


@pytest.mark.parametrize("num_rows", [1, 7, 40])
def test_forest_rows_keep_clear(num_rows: int) -> None:
    draw = random.Random(num_rows)
    rows = []
    for number in range(num_rows):
        mean = draw.uniform(-40, 40)
        label = f"cider_d(mixer.num_layers={number},sam.size=vit_b) > cider_d(mixer.num_layers=2)"
        rows.append(
            ForestRow(
                label if number % 2 else f"cell {number}",
                *(mean, mean - 9, mean + 9),
                group=f"group {number // 4}",
                filled=abs(mean) > 9,
                note="undecided: p = 0.1234" if number % 3 else "",
                published=mean + 5 if number % 4 == 0 else None,
                noise=5.0 + number if number % 3 else None,
            )
        )
    forest = Forest((Facet("left - right", tuple(rows)),))
    with figure_style():
        figure = drawn(draw_forest_plot(forest))
        axes = figure.axes[0]
        beside = [c for c in axes.get_children() if isinstance(c, Annotation)]
        boxes = extents([*axes.get_yticklabels(), *beside])
    assert len(axes.get_yticklabels()) == num_rows
    assert shared_area(boxes) == 0
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1 + 1
    low, high = axes.get_xlim()
    assert all(low < row.difference < high for row in rows)
    bands = [c.get_datalim(axes.transData) for c in axes.collections]
    assert [band.x1 for band in bands] == pytest.approx([row.noise for row in rows if row.noise])
    assert all(band.x0 == pytest.approx(-band.x1) for band in bands)


def one_row(difference: float) -> Forest:
    return Forest((Facet("x", (ForestRow("a", difference),)),))


def test_metrics_share_no_axis_and_a_claim_of_no_better_draws_its_margin() -> None:
    first = ForestRow("a minus b", -3.0, -9.0, 3.0, CLAIMS, False, "undecided", margin=9.1)
    second = ForestRow("a minus c", 0.4, 0.1, 0.7, CLAIMS)
    forest = Forest((Facet("CIDEr-D", (first,)), Facet("Slots", (second,))))
    with figure_style():
        figure = drawn(draw_forest_plot(forest))
    above, below = figure.axes
    assert [axes.get_xlabel() for axes in (above, below)] == ["CIDEr-D", "Slots"]
    assert above.get_xlim()[1] > 9.1 > 1 > below.get_xlim()[1]
    margins = [line for line in above.get_lines() if line.get_color() == COLOURS[1]]
    assert [set(np.atleast_1d(line.get_xdata())) for line in margins] == [{9.1}]
    assert not [line for line in below.get_lines() if line.get_color() == COLOURS[1]]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "margin of the claim" in said


def test_forest_without_rows_or_intervals() -> None:
    assert draw_forest_plot(Forest(())) is None
    with figure_style():
        assert not drawn(draw_forest_plot(one_row(0.0))).legends


def suite_with_costs(root: Path) -> SuiteData:
    suite = axis_manifest({"mixer.num_layers": list(range(1, 7))})
    store, _ = build(root, suite)
    for number, entry in enumerate(suite.cells):
        for seed in suite.seeds:
            changed = record(entry, seed)
            changed.scores["cider_d"].value = (
                5.0 + [0.0, 2.0, 1.0, 3.0, 3.0, 2.5, -4.9, 1.5][number]
            )
            changed.cost |= {"num_trainable_params": 10.0**number, "captions_per_s": 9.0 - number}
            changed.cost |= {"peak_memory_mib": 512.0}
            changed.cost.pop("step_s", None)
            store.save(changed)
    return collect(store, suite)


def front(panel: ParetoPanel) -> list[str]:
    return [point.name for point in panel.front]


def test_pareto_panels_and_front(tmp_path: Path) -> None:
    plot = pareto(suite_with_costs(tmp_path / "runs"))
    assert [panel.axis.key for panel in plot.panels] == ["num_trainable_params", "captions_per_s"]
    assert plot.not_measured == ("Step time (ms)",)
    assert plot.not_varied == ("Peak memory (MiB)",)
    assert plot.far_below == ("permuted captions",)
    fewer, faster = plot.panels
    assert front(fewer) == ["num_layers=1", "num_layers=2", "num_layers=4"]
    assert fewer.is_log
    # The first cell is the fastest one, too; slower ones must score more.
    assert front(faster) == ["num_layers=4", "num_layers=2", "num_layers=1"]
    controls = [point for point in fewer.points if point.is_control]
    assert [point.name for point in controls] == ["most frequent caption"]
    assert not controls[0].in_front


@pytest.mark.parametrize("num_cells", [2, 8, 20])
def test_pareto_labels_keep_clear(tmp_path: Path, num_cells: int) -> None:
    suite = axis_manifest({"mixer.num_layers": list(range(1, num_cells + 1))}, controls=False)
    store, _ = build(tmp_path / "runs", suite)
    for entry in suite.cells:
        draw = random.Random(entry.name)
        for seed in suite.seeds:
            changed = record(entry, seed)
            changed.cost["step_s"] = draw.uniform(0.01, 0.2)
            store.save(changed)
    with figure_style():
        figure = drawn(draw_pareto_plot(pareto(collect(store, suite))))
        for axes in figure.axes:
            texts = [c for c in axes.get_children() if isinstance(c, Annotation)]
            assert len(texts) in (0, num_cells)
            boxes = extents(texts)
            assert shared_area(boxes) == 0
            assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    named = num_cells <= 8
    assert len(figure.legends) == (1 if named else 2)


def test_pareto_without_costs_draws_nothing(runs: Runs) -> None:
    assert draw_pareto_plot(Pareto("cider_d", (), (), (), ())) is None


def regions_plot(store: Store, suite: SuiteManifest) -> Distribution:
    data = collect(store, suite)
    samples = Samples(data)
    return distribution(data, [samples.of(cell, data.main_metric) for cell in data.cells])


def test_quantile_bins() -> None:
    place = quantile_bins(np.arange(100.0))
    assert [int((place == n).sum()) for n in range(5)] == [20] * 5
    assert list(quantile_bins(np.array([1.0] * 50 + [2.0, 3.0]))) == [0] * 50 + [1, 1]
    assert set(quantile_bins(np.array([4.0, 4.0]))) == {0}


def test_region_plot_bins_by_rarity_and_states_what_is_left_out(runs: Runs) -> None:
    plot = regions_plot(*runs)
    (panel,) = plot.panels  # boxes are of one size and references of one length
    assert panel.label == "Frequency of the rarest word (regions)"
    assert plot.same == ("Box area (% of the image)", "Reference length (words)")
    assert list(panel.lines) == ["depth-1", "depth-2", "depth-4"]
    assert plot.left_out == ("permuted captions", "most frequent caption")
    assert sum(panel.counts) == plot.num_regions == len(regions())
    means = [each.mean for each in panel.lines["depth-2"]]
    whole = sum(m * n for m, n in zip(means, panel.counts, strict=True)) / plot.num_regions
    assert whole == pytest.approx(880.0)
    for each in panel.lines["depth-2"]:
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.mean <= each.high


def test_box_areas_are_pixels_where_an_image_has_no_size(runs: Runs) -> None:
    store, suite = runs
    (store.root / "images" / "feed" / "sizes.json").unlink()
    assert regions_plot(store, suite).same[0] == "Box area (px²)"


def test_region_plot_without_scores(runs: Runs) -> None:
    store, suite = runs
    for path in store.root.glob("cells/*/*/region_scores.json"):
        path.unlink()
    plot = regions_plot(store, suite)
    assert draw_distribution_plot(plot) is None
    assert len(plot.without) == 5


def test_axis_whiskers_take_intervals_where_given(runs: Runs) -> None:
    plot = axis_plot(collect(*runs), {"depth-1": (800.0, 830.0)})
    first, second = plot.points[:2]
    assert first.whisker == (800.0, 830.0)
    assert second.whisker == pytest.approx((880.0 - 28.284271, 880.0 + 28.284271))
    with figure_style():
        drawn(draw_axis_plot(plot))


@pytest.mark.usefixtures("every_kind")
def test_pictures_are_written_in_every_kind(runs: Runs, tmp_path: Path) -> None:
    data = collect(*runs)
    samples = Samples(data)
    compared = differences(data, samples, data.main_metric)
    claims = claim_results(data, samples)
    pictures = write_pictures(PlottedSuite(data, samples, compared, claims, Paper("")), tmp_path)
    assert [picture.id for picture in pictures] == [
        *("headline-figure", "forest", "metric-over-axis", "pareto", "distribution"),
        "learning-curves",
    ]
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"headline_figure.{kind}" for kind in KINDS} <= names
    assert {f"learning_curves.{kind}" for kind in KINDS} <= names
    assert is_picture(tmp_path / "forest_old.png")
    assert not is_picture(tmp_path / "forest_old.md")
    assert "rarest word" in pictures[4].caption


@pytest.mark.usefixtures("every_kind")
def test_files_hold_no_date(tmp_path: Path) -> None:
    with figure_style():
        figure = drawn(draw_forest_plot(one_row(1.0)))
        texts = [path.read_bytes() for path in save(figure, tmp_path, "one")]
        again = [path.read_bytes() for path in save(figure, tmp_path, "two")]
    assert texts == again
    assert not any(word in text for text in texts for word in (b"CreationDate", b"dc:date"))


def test_short_numbers_and_wrapped_names() -> None:
    assert [shown_number(v) for v in (0.03, 12.34, 999.9, 1500, 2e6)] == [
        *("0.03", "12.3", "1k", "1.5k", "2M")
    ]
    assert wrapped("a=1,b=2,c=3", 8) == "a=1,b=2,\nc=3"
    assert wrapped("abcdefghij", 4) == "abcd\nefgh\nij"


def test_large_files_are_read_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    data = collect(*runs)
    key = ("c-depth-1", 0)
    rows = data.store.predictions(*key)
    assert data.store.predictions(*key) is rows
    assert data.store.region_scores(*key) is data.store.region_scores(*key)
    other = data.store.predictions("c-depth-2", 1)
    region_id = list(rows)[3]
    assert other[region_id].references is rows[region_id].references
    path = runs[0].run_dir("c-depth-2", 1) / PREDICTIONS
    assert list(other.values()) == read_rows(path)
