"""Read what a suite left in the runs folder; a run that is lost becomes a stated hole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError, at
from sca_bench.metrics.registry import spec_of_value
from sca_bench.metrics.value_names import SLOT, SLOTS, ValueName
from sca_bench.report.names import expand_metrics
from sca_bench.report.read.read_once import ReadOnce
from sca_bench.report.read.score_frame import MAY_DIFFER, ScoreRow, ScoreTable
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.revisions import OLDER, age_of
from sca_bench.study.runs.store import STATISTICS, Store
from sca_bench.study.suite.merge import get
from sca_bench.study.suite.yaml_values import same_value

COST = "cost/"
ONE_ORDER = (
    "train.order_seed: its seeds share one order of the training data; how far another order would "
    "move it is in no ±, interval, p or noise floor"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One cell and seed of a suite.

    Attributes:
        seed: The seed.
        record: What was written about it, if it was ever started and can be read.
        hole: Why there is no result; empty where the run is done.
        age: What makes it a run of older code; empty where it is of today's.
    """

    seed: int
    record: RunRecord | None
    hole: str
    age: str = ""


@dataclass(frozen=True, slots=True)
class CellRuns:
    """One cell of a suite with its runs, one per seed of the suite."""

    entry: CellEntry
    runs: tuple[Run, ...]

    @property
    def done(self) -> list[RunRecord]:
        """Records of the finished runs, by seed."""
        return [run.record for run in self.runs if run.record is not None and not run.hole]

    @property
    def ages(self) -> list[str]:
        """What makes its finished runs ones of older code, each said once."""
        ages = dict.fromkeys(run.age for run in self.runs if run.age and not run.hole)
        return [f"made with an {OLDER} of the code: {age}; `run` makes it anew" for age in ages]

    @property
    def is_trained(self) -> bool:
        """Whether its finished runs trained anything, so that other seeds give other captions."""
        return any(record.cost.get("num_trainable_params", 1.0) > 0 for record in self.done)

    @property
    def uncovered(self) -> str:
        """Which variance no statistic over its seeds holds; empty where there is none to name.

        Seeds that share the order of the data, of their own training or of a stage before it, do
        not show how far another order would move them.
        """
        for record in self.done if self.is_trained else ():
            for stage in (*(record.settings.get("pretraining") or ()), record.settings):
                if get(stage, "train.order_seed") is not None:
                    return ONE_ORDER
        return ""


@dataclass(frozen=True, slots=True)
class SuiteData:
    """All that a report is made of.

    Attributes:
        store: Where predictions, logs and region scores are read from.
        manifest: The suite as it was last run.
        cells: Its cells, controls last.
        scores: Every score and cost of every run; missing ones with their reason.
    """

    store: ReadOnce
    manifest: SuiteManifest
    cells: tuple[CellRuns, ...]
    scores: ScoreTable

    @property
    def metrics(self) -> list[str]:
        """The suite's metrics one by one, without the slots."""
        return expand_metrics(self.manifest.metrics)

    @property
    def main_metric(self) -> str:
        """First metric of the suite; the first slot where the suite has slots only."""
        return next(iter(self.metrics or self.scores.metrics(SLOT)), SLOTS)


def collect(store: Store, manifest: SuiteManifest) -> SuiteData:
    """Read every record that a suite's manifest names.

    Raises:
        InputError: Numbers of one metric have different signatures.
    """
    reading = ReadOnce(store)
    cells = [cell_runs(reading, entry, manifest.seeds) for entry in each_once(manifest.cells)]
    cells.sort(key=lambda cell: cell.entry.control)  # stable: keeps the suite's own order
    rows = list(_score_rows(manifest, cells))
    asked = {"decoding", "prompt"} if any(a.startswith("eval.") for a in manifest.axes) else set()
    with at(manifest.file):
        table = ScoreTable(rows, MAY_DIFFER | asked)
    return SuiteData(reading, manifest, tuple(cells), table)


def each_once(entries: Sequence[CellEntry]) -> list[CellEntry]:
    """Return every cell once: older manifests may list it under several names."""
    groups: dict[str, list[CellEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.cell_id, []).append(entry)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def _joined(group: Sequence[CellEntry]) -> CellEntry:
    first, names = group[0], [entry.name for entry in group]
    values: dict[str, list[Any]] = {}
    for entry in group:
        for axis, value in entry.coordinates.items():
            known = values.setdefault(axis, [])
            known += [] if any(same_value(value, other) for other in known) else [value]
    update = {
        "name": " / ".join(names),
        "coordinates": {axis: found[0] for axis, found in values.items() if len(found) == 1},
        "ignored": {axis: found for axis, found in values.items() if len(found) > 1},
        "control": all(entry.control for entry in group),
        "also": names,
        "note": f"{' and '.join(names)} are names of one cell, {first.cell_id}: its scores say "
        "nothing of a difference between them",
    }
    return first.model_copy(update=update)


def cell_runs(store: ReadOnce, entry: CellEntry, seeds: Iterable[int]) -> CellRuns:
    """Return a cell with its runs of some seeds; one without a result has its reason."""
    runs: list[Run] = []
    for seed in seeds:
        record = store.record(entry.cell_id, seed)
        lost = store.lost(store.place(entry.cell_id, seed, "record.json"))
        runs.append(Run(seed, record, lost or _hole(record), _age(record, runs)))
    return CellRuns(entry, tuple(runs))


def _age(record: RunRecord | None, others: Iterable[Run]) -> str:
    """Return what makes a run one of older code; of another seed it is mostly known."""
    if record is None:
        return ""
    asked = ("cell_id", "settings", "inputs", "variant", "revision", "revisions", "stage")
    for run in others:
        if run.record is not None and all(
            getattr(run.record, name) == getattr(record, name) for name in asked
        ):
            return run.age
    return age_of(record)


def _hole(record: RunRecord | None) -> str:
    if record is None:
        return "missing: never started"
    if record.status == "done":
        return ""
    reason = f": {record.error}" if record.error else ""
    if record.status == "running":
        return "not finished: still running, or interrupted" + reason
    return record.status + reason


def _score_rows(manifest: SuiteManifest, cells: list[CellRuns]) -> Iterator[ScoreRow]:
    planned = expand_metrics(manifest.metrics)
    for cell in cells:
        for run in cell.runs:
            head = (manifest.suite, cell.entry.name, cell.entry.cell_id, cell.entry.control)
            if run.hole or run.record is None:
                for metric in planned:
                    yield ScoreRow(*head, run.seed, metric, None, {}, run.hole)
                continue
            record = run.record
            extra = [name for name in record.scores if name not in planned]
            for metric in [*planned, *sorted(extra, key=_metric_order)]:
                score = record.scores.get(metric)
                if score is None:
                    yield ScoreRow(*head, run.seed, metric, None, {}, "not computed")
                elif score.value is None or not math.isfinite(score.value):
                    why = "not computed" if score.value is None else f"is {score.value}"
                    reason = f"{why}: {score.reason}" if score.reason else why
                    yield ScoreRow(*head, run.seed, metric, None, score.signature, reason)
                else:
                    yield ScoreRow(*head, run.seed, metric, score.value, score.signature)
            for name, value in record.cost.items():
                yield ScoreRow(*head, run.seed, COST + name, value)


def _metric_order(metric: str) -> tuple[bool, bool]:
    # sorted() is stable: inside each group the record's own order of slots is kept.
    name = ValueName.parse(metric)
    by_objects = name.num_objects is not None
    return by_objects and not name.part, bool(name.slot) and not by_objects and not name.part


def load_region_scores(store: Store, cell_id: str, seed: int, metric: str) -> dict[str, float]:
    """Return region id -> score (natural units) of one run; empty where it was not scored.

    Raises:
        InputError: The file is damaged, or its lists do not fit together.
    """
    path = store.run_dir(cell_id, seed) / "region_scores.json"
    fix, stored = "score the run again", store.region_scores(cell_id, seed)
    table, name = _table_of(stored, metric)
    values = table.get("scores", {}).get(name)
    if values is None:
        return {}
    ids = table.get("region_ids", [])
    if len(ids) != len(values) or len(set(ids)) != len(ids):
        problem = f"{len(values)} values for {len(set(ids))} different region ids"
        raise InputError(path, metric, problem, fix)
    if any(value is None or not math.isfinite(value) for value in values):
        raise InputError(path, metric, "a region's score is not a number", fix)
    return dict(zip(ids, map(float, values), strict=True))


def _table_of(stored: dict[str, Any], metric: str) -> tuple[dict[str, Any], str]:
    """Return the regions a metric was scored on, and its name there: `name/metric` of a subset."""
    name = ValueName.parse(metric)
    parts = stored.get("parts", {})
    return (parts[name.part], str(name.whole)) if name.part in parts else (stored, metric)


def sound_region_scores(
    store: ReadOnce, cell_id: str, seed: int, metric: str
) -> tuple[dict[str, float], str]:
    """Return what `load_region_scores` does, or nothing and why, where it is damaged."""
    file = store.place(cell_id, seed, "region_scores.json")
    of_metric, nothing = f"{file}: {metric}", dict[str, float]()
    scores = store.sound(
        lambda: load_region_scores(store, cell_id, seed, metric), nothing, of_metric
    )
    return scores, store.lost(file) or store.lost(of_metric)


def load_statistics(
    store: Store, cell_id: str, seed: int, metric: str
) -> dict[str, NDArray[np.float64]] | None:
    """Return region id -> what it adds to a corpus score.

    None where a score is the mean over regions, or a run did not keep that.

    Raises:
        InputError: The file is damaged, or does not fit the region scores.
    """
    path = store.run_dir(cell_id, seed) / STATISTICS
    table, name = _table_of(store.region_scores(cell_id, seed), metric)
    spec = spec_of_value(name)
    if spec is None or not spec.statistics:
        return None
    kept_as = metric.removesuffix(name) + spec.statistics_name
    tables = store.statistics(cell_id, seed)
    if kept_as not in tables:
        return None
    ids = table.get("region_ids", [])
    rows = tables[kept_as]
    if rows.ndim != 2 or len(rows) != len(ids) or not np.isfinite(rows).all():
        raise InputError(path, kept_as, f"{len(rows)} rows for {len(ids)} regions", "delete it")
    return dict(zip(ids, rows.astype(np.float64), strict=True))
