"""What a sweep chose, by the numbers that it chose by, beside what holds on the test split."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.report.names import (
    NO_VALUE,
    expand_metrics,
    metric_label,
    metric_unit,
    show_score,
)
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.read.sweeps import sweep_part
from sca_bench.report.tables.tables import Column, Entry, Row, Table
from sca_bench.stats.seeds import seed_summary
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.sweep_record import ConfirmedCell, SweepRecord


def sweep_table(data: SuiteData) -> Table | None:
    """Return every confirmed cell's scores, validation beside test; None for a suite of no sweep.

    Raises:
        InputError: A file of the runs folder cannot be read.
    """
    part = sweep_part(data)
    if part is None or not part.record.confirmed:
        return None
    record = part.record
    rows = [row for cell in record.confirmed for row in _rows(data, record, cell, _metrics(data))]
    columns = (
        Column("Configuration", numeric=False),
        Column("Metric", numeric=False),
        Column("Validation", "1 seed"),
        Column("Test", "mean ± s"),
        Column("Seeds", "done of planned"),
    )
    caption = "Validation chose the trial, so it flatters it; the test split says what holds."
    method = (
        "A trial has one seed and is scored on the validation split. The best one is trained again "
        "with seeds that no trial has used, and scored on the test split. The default is the "
        "sweep's base without what was searched, trained with the same fresh seeds."
    )
    title = "What was chosen, and what it is worth"
    return Table("sweep", "Chosen", title, caption, columns, tuple(rows), method)


def _metrics(data: SuiteData) -> list[str]:
    return expand_metrics(data.manifest.metrics)


def _rows(
    data: SuiteData, record: SweepRecord, cell: ConfirmedCell, metrics: Sequence[str]
) -> list[Row]:
    trial = next((t for t in record.trials if t.number == cell.trial), None)
    chosen = None
    if trial is not None and trial.cell_id:
        chosen = data.store.record(trial.cell_id, record.train_seed)
    runs = [data.store.record(cell.cell_id, seed) for seed in record.seeds]
    done = [run for run in runs if run is not None and run.status == "done"]
    rows = []
    for number, metric in enumerate(metrics):
        before = None if chosen is None else _value(chosen, metric)
        values = [value for run in done if (value := _value(run, metric)) is not None]
        test = NO_VALUE
        if values:
            summary = seed_summary(values)
            test = show_score(summary.mean, summary.sd, metric=metric)
        entries = (
            Entry(cell.name if number == 0 else ""),
            Entry(f"{metric_label(metric)} ({metric_unit(metric)})"),
            Entry(NO_VALUE if before is None else show_score(before, metric=metric)),
            Entry(test),
            Entry(f"{len(values)} of {len(record.seeds)}"),
        )
        rows.append(Row(entries, cell=cell.name))
    return rows


def _value(run: RunRecord, metric: str) -> float | None:
    score = run.scores.get(metric)
    return None if score is None else score.value
