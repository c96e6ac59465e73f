"""Settings of cost that may move a number's last digits, as far as the runs of a table differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sca_bench.report.read.suite_data import CellRuns
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.suite.yaml_values import show_value

_MACHINE = {
    "threads": "threads",
    "frozen_threads": "threads of frozen features",
    "fused_adamw": "fused AdamW",
    "stacked": "cells stepped as one",
    "eval_regions": "runtime.eval_regions",
}
"""Of `machine` in a record's provenance -> what it is called: what was used, whoever decided it."""
_SETTINGS = (
    "runtime.eval_regions",
    "features.cache",
    "runtime.compile",
    "runtime.deterministic",
)
"""Others, as they were set, where the record does not say what was used."""


def cost_notes(cells: Iterable[CellRuns]) -> dict[str, str]:
    """Return cell id -> the note on cells with a run at other costs than most runs have.

    All have the same note; there is none where all runs agree. What a record does not say (older
    ones lack some) counts as what most runs have.
    """
    found = [(cell.entry.cell_id, _stated(record)) for cell in cells for record in cell.done]
    differing: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys((*_MACHINE.values(), *_SETTINGS)):
        counts: dict[str, int] = {}
        for _, stated in found:
            if name in stated:
                counts[stated[name]] = counts.get(stated[name], 0) + 1
        if len(counts) > 1:
            differing[name] = dict(sorted(counts.items(), key=lambda item: -item[1]))
    if not differing:
        return {}
    said = "; ".join(
        f"{name} {', '.join(f'{value} ({count})' for value, count in counts.items())}"
        for name, counts in differing.items()
    )
    note = (
        f"runs differ in settings of cost, which no key holds ({said}, with the number of runs): "
        "last digits, and through training more than these, may differ by that alone; marked are "
        "the cells with runs at other costs than most"
    )
    usual = {name: next(iter(counts)) for name, counts in differing.items()}
    return {
        cell_id: note
        for cell_id, stated in found
        if any(stated.get(name, value) != value for name, value in usual.items())
    }


def _stated(record: RunRecord) -> dict[str, str]:
    machine = record.provenance.get("machine")
    facts = machine if isinstance(machine, dict) else {}
    stated = {says: show_value(facts[name]) for name, says in _MACHINE.items() if name in facts}
    for path in _SETTINGS:
        section, _, name = path.partition(".")
        values: Any = record.settings.get(section)
        if isinstance(values, dict) and name in values and path not in stated:
            stated[path] = show_value(values[name])
    return stated
