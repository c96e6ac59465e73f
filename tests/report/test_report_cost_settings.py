"""Runs of one table at other costs, which may move last digits: record and row name them."""

from typing import Any

import pytest
from report_fake_runs import record

from sca_bench.report.read.cost_settings import cost_notes
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.tables import Footnotes, score_table
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]
ONE_THREAD = {
    "cpu": "AMD EPYC",
    "threads": 1,
    "frozen_threads": [1],
    "fused_adamw": False,
    "stacked": 3,
}


def save(runs: Runs, machine: Any = ONE_THREAD, settings: Any = None) -> None:
    """Write all runs with one thread and all features kept, those of `c-depth-2` as given."""
    store, suite = runs
    for entry in suite.cells:
        other = entry.cell_id == "c-depth-2"
        for seed in suite.seeds:
            done = record(entry, seed)
            done.provenance["machine"] = machine if other else ONE_THREAD
            runtime = {"eval_regions": 64, "deterministic": False}
            kept = {"features": {"cache": "all"}, "runtime": runtime}
            done.settings.update({**kept, **(settings or {})} if other else kept)
            store.save(done)


def test_equal_costs_are_not_spoken_of(runs: Runs) -> None:
    save(runs)
    assert cost_notes(collect(*runs).cells) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": {**ONE_THREAD, "threads": 2}}, "threads 1 (8), 2 (2)"),
        (
            {"machine": {**ONE_THREAD, "frozen_threads": [2]}},
            "threads of frozen features [1] (8), [2] (2)",
        ),
        ({"settings": {"features": {"cache": "off"}}}, "features.cache all (8), off (2)"),
        ({"settings": {"runtime": {"eval_regions": 8}}}, "runtime.eval_regions 64 (8), 8 (2)"),
        ({"machine": {**ONE_THREAD, "fused_adamw": True}}, "fused AdamW false (8), true (2)"),
        (
            {"machine": {**ONE_THREAD, "stacked": 2}},
            "cells stepped as one 3 (8), 2 (2)",
        ),
        (
            {"settings": {"runtime": {"eval_regions": 64, "deterministic": True}}},
            "runtime.deterministic false (8), true (2)",
        ),
    ],
)
def test_the_row_names_the_costs_that_differ(runs: Runs, change: Any, said: str) -> None:
    save(runs, **change)
    data, notes = collect(*runs), Footnotes()
    table = score_table(data, notes)
    (text,) = [text for text in notes.texts if "settings of cost" in text]
    assert f"({said}, with the number of runs)" in text
    number = notes.texts.index(text) + 1
    marked = [r for r in table.rows if any(number in entry.notes for entry in r.entries)]
    assert [row.entries[0].text for row in marked] == ["depth-2"]


def test_what_an_older_record_lacks_is_no_difference(runs: Runs) -> None:
    save(runs, {"cpu": "AMD EPYC", "threads": 1}, {"runtime": {}})
    assert cost_notes(collect(*runs).cells) == {}


@pytest.mark.parametrize(("used", "notes"), [(64, 0), (512, 1)])
def test_regions_at_a_time_are_those_that_were_used(runs: Runs, used: int, notes: int) -> None:
    """An older record says 64 in its settings; a newer one says 0 there, and how many it was."""
    save(runs, {**ONE_THREAD, "eval_regions": used}, {"runtime": {"eval_regions": 0}})
    said = set(cost_notes(collect(*runs).cells).values())
    assert len(said) == notes
    assert all("runtime.eval_regions 64 (8), 512 (2)" in text for text in said)
