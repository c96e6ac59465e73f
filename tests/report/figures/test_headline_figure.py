"""The figure that answers: curve or ranks, intervals over the noise floor, honest limits."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from report_fake_runs import axis_manifest, build, manifest, record

from sca_bench.report.figures.headline.headline import (
    MOST_CELLS,
    HeadlineFigure,
    Mark,
    facts,
)
from sca_bench.report.figures.headline.headline_draw import draw_headline, limits
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import Shown
from sca_bench.report.figures.style import figure_style
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.headline import Headline, Sentence
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.stats.power import noise_floor
from sca_bench.stats.variance import SeedPart
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


def plotted(store: Store, suite: SuiteManifest, headline: Headline | None = None) -> PlottedSuite:
    data = collect(store, suite)
    samples = Samples(data)
    claims = claim_results(data, samples)
    compared = differences(data, samples, data.main_metric)
    return PlottedSuite(data, samples, compared, claims, Paper(""), headline)


def shown_of(tmp_path: Path, suite: SuiteManifest) -> Shown:
    shown = facts(plotted(*build(tmp_path / "runs", suite)))
    assert shown is not None
    return shown


def drawn(figure: HeadlineFigure) -> Figure:
    with figure_style():
        found = draw_headline(figure)
        assert found is not None
        found.draw_without_rendering()
    return found


def test_one_numeric_axis_is_a_curve_over_the_noise_floor(runs: Runs) -> None:
    shown = facts(plotted(*runs))
    assert shown is not None
    figure = shown.facts
    assert (figure.kind, figure.axis, figure.is_log) == ("curve", "number of layers", False)
    assert [(mark.name, mark.x) for mark in figure.own] == [
        *(("depth-1", 1.0), ("depth-2", 2.0), ("depth-4", 4.0))
    ]
    assert [mark.mean for mark in figure.own] == pytest.approx([820.0, 880.0, 830.0])
    assert all(m.low is not None and m.low < m.mean < (m.high or 0) for m in figure.own)
    assert [mark.name for mark in figure.controls] == ["permuted captions", "most frequent caption"]
    # the reference's two seeds, 8.0 and 8.4, against two others of it
    floor = noise_floor([SeedPart(2, True, 0.08)] * 2)
    assert floor is not None
    low, high = figure.band or (0.0, 0.0)
    assert (low, high) == pytest.approx((820 - 100 * floor, min(1000.0, 820 + 100 * floor)))
    assert "Curve of CIDEr-D over number of layers: depth-1 8" in shown.alt
    assert "other seeds" in shown.caption


def test_its_texts_say_what_was_found(runs: Runs) -> None:
    suite = plotted(*runs)
    shown = facts(suite)
    assert shown is not None
    assert "depth-1" in suite.finding
    assert shown.title == suite.finding
    assert shown.alt.startswith(suite.finding)
    words = "Two layers are not shown to beat one."
    answer = Headline("Which?", (Sentence("a", "undecided", "not shown", "two beat one", words),))
    shown = facts(plotted(*runs, answer))
    assert shown is not None
    assert shown.title == words
    assert shown.alt.startswith(words)


@pytest.mark.parametrize(
    ("axes", "kind", "lines"),
    [
        ({"mixer.num_query_tokens": [1, 4, 8, 16]}, "curve", 1),
        ({"mixer.num_layers": [1, 2]}, "cells", 1),
        ({"eval.prompt": ["box", "point", "box_point"]}, "cells", 1),
        ({"mixer.num_layers": [1, 2, 4], "sam.size": ["vit_b", "vit_l"]}, "curve", 2),
        ({"mixer.num_layers": [1, 2, 4], "mixer.mlp_dim": [8, 16]}, "cells", 1),
    ],
)
def test_what_is_a_curve_and_what_a_list(
    tmp_path: Path, axes: dict[str, list[Any]], kind: str, lines: int
) -> None:
    figure = shown_of(tmp_path, axis_manifest(axes)).facts
    assert (figure.kind, len(figure.lines)) == (kind, lines)
    drawn(figure)


def test_cells_are_ranked_with_controls_last(tmp_path: Path) -> None:
    figure = shown_of(tmp_path, manifest(axes={})).facts
    assert [mark.name for mark in figure.marks] == [
        *("depth-2", "depth-4", "depth-1", "most frequent caption", "permuted captions")
    ]
    assert [mark.name for mark in figure.own if mark.is_reference] == ["depth-1"]
    axes = drawn(figure).axes[0]
    labels = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert labels[2] == "depth-1 (reference)"
    low, _ = axes.get_xlim()
    assert low > 200  # controls at 90 and 110 do not push the cells together
    texts = [child.get_text() for child in axes.texts]
    assert sum(text.startswith("←") for text in texts) == 2


def test_many_cells_leave_the_best_and_the_reference(tmp_path: Path) -> None:
    axes = {"mixer.num_layers": [1, 2, 3, 4, 5], "mixer.mlp_dim": [8, 16, 24, 32]}
    suite = axis_manifest(axes)
    data = plotted(*build(tmp_path / "runs", suite))
    worst = min(
        (one for one in data.compared.cells if one.estimate and not one.cell.entry.control),
        key=lambda one: one.estimate.value if one.estimate else 0.0,
    )
    figure = facts(
        plotted(
            Store(data.data.store.root),
            suite.model_copy(update={"reference": worst.cell.entry.name}),
        )
    )
    assert figure is not None
    assert len(figure.facts.own) == MOST_CELLS
    assert figure.facts.own[-1].is_reference
    assert len(figure.facts.left_out) == 4
    assert "Not drawn:" in figure.caption


def test_a_claim_on_another_metric_is_answered_by_that(tmp_path: Path) -> None:
    store, suite = build(tmp_path / "runs")
    says = "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)"
    changed = suite.model_copy(
        update={"metrics": ["exact_match", "cider_d"], "claims": [{"id": "a", "says": says}]}
    )
    shown = facts(plotted(store, changed))
    assert shown is not None
    assert shown.facts.metric == "cider_d"


def test_nothing_is_drawn_of_zeros_or_without_scores(tmp_path: Path) -> None:
    store, suite = build(tmp_path / "runs")
    for entry in suite.cells:
        for seed in suite.seeds:
            empty = record(entry, seed).model_copy(update={"status": "failed"})
            store.save(empty)
    assert facts(plotted(store, suite)) is None
    assert draw_headline(HeadlineFigure("cells", "cider_d", ())) is None


def marks(*means: float, half: float = 5.0) -> tuple[Mark, ...]:
    return tuple(
        Mark(f"cell {i}", mean, mean - half, mean + half, float(2**i), shown=f"{mean:.0f}")
        for i, mean in enumerate(means)
    )


def test_an_axis_holds_intervals_and_band_and_stays_honest() -> None:
    figure = HeadlineFigure("curve", "cider_d", marks(899, 909, 906), "layers", False, (890, 930))
    low, high = limits(figure)
    assert low < 890
    assert high > 930
    assert high - low >= 0.1 * 914
    control = Mark("blank", 880.0, is_control=True, shown="880")
    near = HeadlineFigure("curve", "cider_d", (*marks(899, 909), control), "layers")
    assert limits(near)[0] < 880


@pytest.mark.parametrize("kind", ["curve", "cells"])
def test_labels_keep_clear_of_each_other_and_of_the_edge(kind: Any) -> None:
    long = "a cell whose name takes three lines of a label, num_layers=2,num_query_tokens=8"
    controls = tuple(Mark(f"control {i}", 890.0 + i, is_control=True, shown="89") for i in range(3))
    cells = (*marks(899, 909, 906), Mark(long, 905.0, 900.0, 910.0, 8.0, shown="905"), *controls)
    figure = drawn(HeadlineFigure(kind, "cider_d", cells, "layers", True, (895, 905), "5.0"))
    axes = figure.axes[0]
    labels = axes.get_yticklabels() if kind == "cells" else axes.get_xticklabels()
    texts = [*labels, *(child for child in axes.texts if isinstance(child, Annotation))]
    boxes = [Text.get_window_extent(text) for text in texts if text.get_text()]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 + 1 for box in boxes)
    if kind == "cells":
        pairs = combinations([Text.get_window_extent(text) for text in labels], 2)
        assert not any(one.overlaps(other) for one, other in pairs)
    assert figure.get_size_inches()[0] == pytest.approx(5.2)
