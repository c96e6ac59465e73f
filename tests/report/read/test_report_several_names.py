"""A cell with several names is one row: what its axis columns, figures and claims say of it."""

import io
from pathlib import Path

import pandas as pd
import pytest
from report_fake_runs import axis_manifest, build

from sca_bench.report.figures.axis import axis_plot
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.tables.csv import claims_csv, wide_csv
from sca_bench.report.tables.tables import Footnotes, score_table
from sca_bench.study.runs.record import CellEntry, SuiteManifest

AXES = {"variant": ["sca", "most_frequent"], "train.learning_rate": [0.1, 0.2]}
NAMES = ["variant=most_frequent,learning_rate=0.1", "variant=most_frequent,learning_rate=0.2"]


def says(left: str, right: str) -> dict[str, str]:
    return {"id": f"{left} {right}", "says": f"cider_d({left}) > cider_d({right})"}


def joined(claims: list[dict[str, str]]) -> SuiteManifest:
    """A suite one of whose variants reads no learning rate."""
    cells = [cell for cell in axis_manifest(AXES, controls=False).cells if cell.variant == "sca"]
    one = CellEntry(
        cell_id="c-most",
        name="variant=most_frequent",
        coordinates={"variant": "most_frequent"},
        variant="most_frequent",
        also=NAMES,
        ignored={"train.learning_rate": [0.1, 0.2]},
        note=f"one cell for {' and '.join(NAMES)}",
    )
    return axis_manifest(
        AXES, controls=False, cells=[*cells, one], claims=claims, reference=NAMES[1]
    )


def data_of(tmp_path: Path, manifest: SuiteManifest) -> SuiteData:
    return collect(*build(tmp_path / "runs", manifest))


def rows_of(data: SuiteData, axis: str, notes: Footnotes) -> dict[str, str]:
    table = score_table(data, notes)
    column = [column.label for column in table.columns].index(axis)
    return {row.entries[0].text: row.entries[column].text for row in table.rows}


def test_an_axis_that_a_cell_does_not_read_says_any(tmp_path: Path) -> None:
    data, notes = data_of(tmp_path, joined([])), Footnotes()
    found = rows_of(data, "train.learning_rate", notes)
    assert found["variant=sca,learning_rate=0.1"] == "0.1"
    assert found["variant=most_frequent"] == "any"
    assert f"variant=most_frequent: one cell for {NAMES[0]} and {NAMES[1]}" in notes.texts
    wide = pd.read_csv(io.StringIO(wide_csv(data, Paper("")))).set_index("cell")
    assert wide["train.learning_rate"].to_list() == ["0.1", "0.2", "any"]


def test_it_is_no_point_of_the_axis_that_it_does_not_read(tmp_path: Path) -> None:
    plot = axis_plot(data_of(tmp_path, joined([])))
    assert {point.name for point in plot.points} == {
        "variant=sca,learning_rate=0.1",
        "variant=sca,learning_rate=0.2",
    }
    assert [point.name for point in plot.controls] == ["variant=most_frequent"]


def test_a_second_axis_that_is_not_read_makes_a_line_of_its_own(tmp_path: Path) -> None:
    axes = {"train.steps": [1, 2], "mixer.dropout": [0.0, 0.1]}
    first = axis_manifest(axes, controls=False)
    ignored = {"mixer.dropout": [0.0, 0.1]}
    cells = [
        cell.model_copy(update={"coordinates": {"train.steps": steps}, "ignored": ignored})
        for steps, cell in zip((1, 2), first.cells[:2], strict=True)
    ]
    plot = axis_plot(data_of(tmp_path, first.model_copy(update={"cells": cells})))
    assert [list(panel.series) for panel in plot.panels] == [["dropout any"]]


def test_a_claim_and_the_reference_find_it_by_any_name(tmp_path: Path) -> None:
    low, high = (f"variant=most_frequent, train.learning_rate={rate}" for rate in (0.1, 0.2))
    sca = "variant=sca, train.learning_rate=0.1"
    data = data_of(tmp_path, joined([says(sca, low), says(sca, high), says(low, high)]))
    samples = Samples(data)
    one, two, itself = claim_results(data, samples)
    assert one.sides[1] == two.sides[1] == (data.cells[-1],)
    assert one.comparison is not None
    assert itself.comparison is None
    assert itself.hole.startswith("reads variant=most_frequent on both sides")
    assert differences(data, samples, "cider_d").reference is data.cells[-1]


@pytest.mark.parametrize("flag", [True, False])
def test_single_axes_with_a_common_point_have_a_panel_each(tmp_path: Path, flag: bool) -> None:
    axes = {"train.steps": [1, 2], "mixer.dropout": [0.0, 0.1]}
    suite = axis_manifest(axes, one_at_a_time=True, controls=False)
    common = suite.cells[0].model_copy(
        update={"coordinates": {"train.steps": 1, "mixer.dropout": 0.0}}
    )
    cells = [common, suite.cells[1], suite.cells[3]]
    update = {"cells": cells, "one_at_a_time": flag}
    plot = axis_plot(data_of(tmp_path, suite.model_copy(update=update)))
    drawn = [[point.x for point in panel.series.get("", [])] for panel in plot.panels]
    assert (drawn == [[1, 2], [0.0, 0.1]]) == flag


def test_an_older_manifest_with_two_names_of_one_cell_gives_one_row(tmp_path: Path) -> None:
    suite = axis_manifest({"train.steps": [1, 2, 4]}, controls=False)
    cells = [c.model_copy(update={"cell_id": "c-same"}) for c in suite.cells[:2]]
    data = data_of(tmp_path, suite.model_copy(update={"cells": [*cells, suite.cells[2]]}))
    notes = Footnotes()
    assert rows_of(data, "train.steps", notes) == {
        "steps=1 / steps=2": "any",
        "steps=4": "4",
        "noise floor (A/A)": "–",  # noqa: RUF001
    }
    assert "steps=1 and steps=2 are names of one cell, c-same" in notes.texts[0]
    assert len(data.scores.values("c-same", "cider_d")) == len(suite.seeds)  # each seed once


def test_a_mean_over_an_axis_that_it_does_not_read_names_it_once(tmp_path: Path) -> None:
    data = data_of(tmp_path, joined([says("variant=sca", "variant=most_frequent")]))
    (claim,) = claim_results(data, Samples(data))
    assert claim.note.endswith("right variant=most_frequent alone, which does not read them")
    assert pd.read_csv(io.StringIO(claims_csv([claim])))["right"][0] == "variant=most_frequent"
