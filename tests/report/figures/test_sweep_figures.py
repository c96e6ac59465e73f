"""A sweep in the report: its search in Optuna's figures, and its choice beside the test split."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from report_fake_runs import build, manifest, record

from sca_bench.errors import InputError
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.style import figure_style
from sca_bench.report.figures.sweep import trials, trials_draw
from sca_bench.report.figures.write_figures import NOT_DRAWN, write_pictures
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.read.sweeps import related_suites, sweep_part
from sca_bench.report.tables.sweep_table import sweep_table
from sca_bench.study.runs.record import CellEntry, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.sweep_record import (
    ConfirmedCell,
    SweepRecord,
    SweptAxis,
    SweptObjective,
    SweptTrial,
    read_sweep,
    save_sweep,
    sweep_path,
)
from sca_bench.study.suite.sweep import CHOSEN_BY

RATES = (0.002241659638465149, 0.0187654321, 0.00051234567, 0.0061234567, 0.001, 0.015)
LAYERS = (1, 2, 1, 2, 4, 4)
VALUES = (8.1, 8.9, 7.0, 9.1)
NUM_COMPLETE = len(VALUES)


def the_record(**changes: Any) -> SweepRecord:
    """Four complete trials, the last of them best, then a pruned and a failed one."""
    params = [
        {"train.learning_rate": rate, "mixer.num_layers": layers}
        for rate, layers in zip(RATES, LAYERS, strict=True)
    ]
    states = ["complete"] * NUM_COMPLETE + ["pruned", "fail"]
    fields: dict[str, Any] = {
        "sweep": "lr_depth",
        "profile": "tiny",
        "question": "Which rate?",
        "objectives": [SweptObjective(metric="cider_d", direction="maximize")],
        "axes": [
            SweptAxis(key="mixer.num_layers", kind="choices", choices=[4, 1, 2]),
            SweptAxis(key="train.learning_rate", kind="float", low=5e-4, high=2e-2, log=True),
        ],
        "trials": [
            SweptTrial(
                number=number,
                state=state,
                values=[VALUES[number]] if state == "complete" else [],
                params=params[number],
                name=f"#{number}",
                cell_id=f"c-{number}",
            )
            for number, state in enumerate(states)
        ],
        "best": [3],
        "importances": [{"train.learning_rate": 0.9, "mixer.num_layers": 0.1}],
        "seeds": [0, 1],
        "confirmed": [
            ConfirmedCell(name="#3", cell_id="c-best", trial=3),
            ConfirmedCell(name="default num_layers=2", cell_id="c-default"),
        ],
    }
    return SweepRecord(**{**fields, **changes})


def suite_of_trials() -> SuiteManifest:
    cells = [
        CellEntry(
            cell_id=f"c-{number}",
            name=f"#{number}",
            coordinates={"train.learning_rate": rate, "mixer.num_layers": layers},
            variant="sca",
        )
        for number, (rate, layers) in enumerate(zip(RATES, LAYERS, strict=True))
    ]
    return manifest(
        suite="lr_depth",
        statement=f"Rendered scenes. {CHOSEN_BY}",
        axes={"train.learning_rate": sorted(RATES), "mixer.num_layers": [1, 2, 4]},
        seeds=[0],
        cells=cells,
        claims=[],
        metrics=["cider_d", "exact_match"],
    )


def confirmation() -> SuiteManifest:
    cells = [
        CellEntry(cell_id=key, name=name, coordinates={}, variant="sca")
        for key, name in (("c-best", "#3"), ("c-default", "default num_layers=2"))
    ]
    return manifest(
        suite="lr_depth_confirmed",
        axes={},
        cells=cells,
        claims=[],
        reference="default num_layers=2",
        metrics=["cider_d", "exact_match"],
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found, _ = build(tmp_path / "runs", suite_of_trials())
    build(tmp_path / "runs", confirmation())
    return found


def plotted(store: Store, suite: SuiteManifest) -> PlottedSuite:
    data = collect(store, suite)
    samples = Samples(data)
    claims = claim_results(data, samples)
    compared = differences(data, samples, data.main_metric)
    return PlottedSuite(data, samples, compared, claims, Paper(""))


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def test_the_trials_page_begins_with_the_search(store: Store, tmp_path: Path) -> None:
    save_sweep(store, the_record())
    out = tmp_path / "out"
    out.mkdir()
    pictures = write_pictures(plotted(store, suite_of_trials()), out)
    ids = [picture.id for picture in pictures]
    assert ids[:3] == ["sweep-slices", "sweep-history", "sweep-importance"]
    assert not {"headline-figure", "forest", "metric-over-axis", "sweep-front"} & set(ids)
    best = "Best trial: #3 (learning rate 0.00612, number of layers 2) with CIDEr-D 910.0."
    assert pictures[0].caption.startswith(best)
    assert best in pictures[0].alt
    assert best in pictures[1].alt
    assert "6 trials: 4 complete, 1 pruned, 1 failed." in pictures[1].caption
    assert "learning rate 0.90, number of layers 0.10" in pictures[2].alt
    assert "hint" in pictures[2].caption


def test_slices_have_the_declared_scale_and_three_digits(store: Store) -> None:
    save_sweep(store, the_record())
    shown = trials.slices(plotted(store, suite_of_trials()))
    assert shown is not None
    rate, layers = shown.facts.settings  # the more important one first
    assert (rate.is_log, rate.choices) == (True, ())
    assert rate.at == dict(enumerate(RATES[:NUM_COMPLETE]))
    assert (layers.is_log, layers.choices) == (False, ("1", "2", "4"))
    assert layers.at == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0}
    with figure_style():
        figure = drawn(trials_draw.draw_slices(shown.facts))
    left, right = figure.axes
    assert left.get_xscale() == "log"
    ticks = [t.get_text() for t in left.get_xticklabels() if t.get_text()]
    assert ticks
    assert all(len(re.sub(r"e.*|[0.]", "", text)) <= 3 for text in ticks)
    assert [t.get_text() for t in right.get_xticklabels()] == ["1", "2", "4"]


def test_history_shows_what_was_pruned_or_failed(store: Store) -> None:
    save_sweep(store, the_record())
    shown = trials.history(plotted(store, suite_of_trials()))
    assert shown is not None
    found: trials.Trials = shown.facts
    assert [one.state for one in found.tried] == ["complete"] * NUM_COMPLETE + ["pruned", "fail"]
    assert found.best_so_far(0) == pytest.approx([810.0, 890.0, 890.0, 910.0])
    with figure_style():
        figure = drawn(trials_draw.draw_history(found))
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["trial", "best", "pruned", "failed"]
    lowest = the_record(objectives=[SweptObjective(metric="cider_d", direction="minimize")])
    assert trials.trials_of(lowest).best_so_far(0) == pytest.approx([810.0, 810.0, 700.0, 700.0])


def test_two_objectives_have_a_front(store: Store) -> None:
    goals = [
        SweptObjective(metric="cider_d", direction="maximize"),
        SweptObjective(metric="cost.num_trainable_params", direction="minimize"),
    ]
    tried = [
        trial.model_copy(update={"values": [*trial.values, 1e5 * LAYERS[trial.number]]})
        if trial.values
        else trial
        for trial in the_record().trials
    ]
    save_sweep(store, the_record(objectives=goals, trials=tried, best=[0, 3], importances=[]))
    suite = plotted(store, suite_of_trials())
    shown = trials.front(suite)
    assert shown is not None
    assert "On the front: #0 " in shown.alt
    assert "trainable parameters 200k" in shown.alt.lower()
    with figure_style():
        axes = drawn(trials_draw.draw_front(shown.facts)).axes[0]
        assert drawn(trials_draw.draw_history(shown.facts))
        sliced = trials.slices(suite)
        assert sliced is not None
        assert len(drawn(trials_draw.draw_slices(sliced.facts)).axes) == 4
    assert axes.get_xlabel().endswith("less is better")
    assert trials.importance(suite) is None
    steps = next(line for line in axes.get_lines() if line.get_linestyle() == "--")
    assert list(steps.get_ydata()) == pytest.approx([810.0, 910.0])  # type: ignore[arg-type]


def test_an_older_sweep_is_reported_and_says_how_to_get_the_figures(
    store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    pictures = write_pictures(plotted(store, suite_of_trials()), out)
    ids = [picture.id for picture in pictures]
    assert ids[0] == "headline-figure"
    assert not [name for name in ids if name.startswith("sweep")]
    assert pictures[-1].id == NOT_DRAWN
    assert "Run it again to get them" in pictures[-1].caption


def test_a_damaged_file_costs_its_figures_alone(store: Store) -> None:
    path = save_sweep(store, the_record())
    whole = json.loads(path.read_text(encoding="utf-8"))
    for changes, reason in (
        ({"trials": 7}, "damaged file"),
        ({"sweep": "other"}, "is the record of other.tiny"),
        ({"version": 99}, "newer version"),
        ({"confirmed": [{"name": "x", "cell_id": "../x"}]}, "confirmed: 1: cell_id"),
    ):
        path.write_text(json.dumps({**whole, **changes}), encoding="utf-8")
        with pytest.raises(InputError, match=reason):
            read_sweep(store, "lr_depth", "tiny")
        data = collect(store, suite_of_trials())
        assert sweep_part(data) is None
        assert reason in str(data.store.faults[str(sweep_path(store, "lr_depth", "tiny"))])


def test_validation_stands_beside_test(store: Store) -> None:
    save_sweep(store, the_record())
    both: list[tuple[SuiteData, list[tuple[str, str]]]] = []
    for suite in (suite_of_trials(), confirmation()):
        data = collect(store, suite)
        table = sweep_table(data)
        assert table is not None
        rows = [[entry.text for entry in row.entries] for row in table.rows]
        chosen = record(suite_of_trials().cells[3], 0).scores["cider_d"].value
        tests = [record(confirmation().cells[0], s).scores["cider_d"].value for s in (0, 1)]
        assert chosen is not None
        mean = sum(100 * (value or 0.0) for value in tests) / 2
        assert rows[0][0] == "#3"
        assert rows[0][2] == f"{100 * chosen:.1f}"
        assert rows[0][3].startswith(f"{mean:.1f} ± ")
        assert rows[0][4] == "2 of 2"
        assert rows[2][0] == "default num_layers=2"
        assert rows[2][2] == "–"  # noqa: RUF001
        both.append((data, related_suites(data)))
    assert [names[0][1] for _, names in both] == ["lr_depth_confirmed", "lr_depth"]
    assert sweep_table(collect(*build(store.root / "other", manifest()))) is None


def test_the_confirmation_is_drawn_beside_the_default(store: Store, tmp_path: Path) -> None:
    save_sweep(store, the_record())
    out = tmp_path / "out"
    out.mkdir()
    pictures = write_pictures(plotted(store, confirmation()), out)
    assert pictures[0].id == "headline-figure"
    assert "default num_layers=2" in pictures[0].alt
    assert "other seeds" in pictures[0].caption
