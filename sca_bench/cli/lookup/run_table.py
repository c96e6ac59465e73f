"""`list runs`: every run by the name that commands take, how it ended, and its main score."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import num_text, print_json, text_table
from sca_bench.report.names import metric_label, show_score
from sca_bench.study.find_run import CellName, cell_names
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import OLDER, age_of
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.merge import get

_STEPS = ((86400.0 * 365, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class _Row:
    """A run that was asked for.

    Attributes:
        record: Its record.
        name: What commands call it.
        metric: The first metric of its suite; empty where it has none.
    """

    record: RunRecord
    name: str
    metric: str


def runs_as_json(
    store: Store, suite: str | None, status: str | None, beginning: str = ""
) -> list[InputError]:
    """Print runs as a list of objects, the newest last; return what is wrong with files.

    Args:
        store: The runs folder.
        suite: As for `print_runs`.
        status: As for `print_runs`.
        beginning: As for `print_runs`.

    Raises:
        InputError: No suite of that name was run here.
    """
    rows, _, faults = _rows(store, suite, status, beginning)
    print_json([_facts(row, store) for row in rows])
    return faults


def _facts(row: _Row, store: Store) -> dict[str, Any]:
    record = row.record
    begun, ended = (_time(str(record.provenance.get(k, ""))) for k in ("started", "finished"))
    score = record.scores.get(row.metric)
    return {
        "run": row.name,
        "id": record.cell_id,
        "seed": record.seed,
        "status": record.status,
        "older_code": bool(age_of(record)),
        "step": _step(record, store),
        "steps": get(record.settings, "train.steps"),
        "metric": row.metric,
        "score": None if score is None else score.value,
        "started": record.provenance.get("started"),
        "seconds": None if begun is None or ended is None else (ended - begun).total_seconds(),
        "error": record.error,
    }


def _step(record: RunRecord, store: Store) -> int | None:
    """Return the last step of a run that its log has; None where that is damaged."""
    try:
        rows = store.log(record.cell_id, record.seed)
    except InputError:
        return None
    return max((row["step"] for row in rows), default=0)


def _rows(
    store: Store, suite: str | None, status: str | None, beginning: str
) -> tuple[list[_Row], int, list[InputError]]:
    """Return the runs asked for, how many there are in all, and what is wrong with files."""
    faults: list[InputError] = []
    records = sorted(store.records(faults), key=lambda record: (_started(record), record.seed))
    if any(record.status == "running" for record in records) and not store.is_in_use():
        records = [_settled(record) for record in records]
    manifests = store.manifests(faults=faults)
    names, metrics = cell_names(store), {m.report_name: m.metrics[0] for m in manifests}
    if suite is not None and suite not in metrics and (records or faults):
        hint = did_you_mean(suite, metrics)
        raise InputError("list runs", "--suite", f"{suite!r} was not run in {store.root}", hint)
    rows = []
    for record in records:
        own = _own_name(names.get(record.cell_id, []), suite)
        name = f"{own or record.cell_id}/{record.seed}" + ("" if own else _nameless(record))
        if (suite is not None and own is None) or not name.startswith(beginning):
            continue
        if status is None or record.status == status:
            rows.append(_Row(record, name, metrics[own.suite] if own else ""))
    return rows, len(records), faults


def print_runs(
    console: Console, store: Store, suite: str | None, status: str | None, beginning: str = ""
) -> list[InputError]:
    """Print a table of runs, the newest last; return what is wrong with files that it leaves out.

    Args:
        console: Where it goes.
        store: The runs folder.
        suite: Only runs of this suite.
        status: Only runs that ended so.
        beginning: Only runs whose name begins so.

    Raises:
        InputError: No suite of that name was run here.
    """
    rows, count, faults = _rows(store, suite, status, beginning)
    if not count and not faults:
        console.print(
            f"no run is in {store.root}; begin with: python -m sca_bench run mixer_layers"
        )
        return faults
    if not rows:
        console.print(f"none of {num_text(count, 'run')} in {store.root} is such a run")
        return faults
    shown = {row.metric for row in rows if row.metric}
    label = metric_label(next(iter(shown))) if len(shown) == 1 else "score"
    table = text_table("run", "status", label, "age", "took", "id", right=(label, "age", "took"))
    for column in table.columns[1:]:
        column.no_wrap = True
    for row in rows:
        record, name = row.record, row.name
        score = _score(record, row.metric)
        if score and len(shown) > 1:
            score = f"{metric_label(row.metric)} {score}"
        older = f", {OLDER}" if age_of(record) else ""
        table.add_row(
            name,
            _state(record, store) + older,
            score or "-",
            _age(_started(record)),
            _duration(record),
            record.cell_id,
        )
    console.print(table)
    return faults


def _own_name(names: list[CellName], suite: str | None) -> CellName | None:
    fitting = [name for name in names if suite in (None, name.suite)]
    return fitting[0] if fitting else None


def _nameless(record: RunRecord) -> str:
    """Return what says more of a run that no suite has (any more): its stage, or its variant."""
    return f" (stage {record.stage})" if record.stage else f" ({record.variant})"


def _settled(record: RunRecord) -> RunRecord:
    """Return the record of a run whose command was killed and could not say so."""
    return record.model_copy(update={"status": "killed"}) if record.status == "running" else record


def _state(record: RunRecord, store: Store) -> str:
    if record.status != "running":
        return record.status
    step = _step(record, store)
    if step is None:
        return "running, its log is damaged"
    return f"running, step {step} of {get(record.settings, 'train.steps')}"


def _score(record: RunRecord, metric: str) -> str:
    score = record.scores.get(metric)
    return "" if score is None or score.value is None else show_score(score.value, metric=metric)


def _started(record: RunRecord) -> str:
    return str(record.provenance.get("started", ""))


def _age(started: str) -> str:
    """Return how long ago a run began, in its largest unit."""
    begun = _time(started)
    if begun is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - begun).total_seconds())
    return _short(seconds)


def _duration(record: RunRecord) -> str:
    begun, ended = _time(_started(record)), _time(str(record.provenance.get("finished", "")))
    return "-" if begun is None or ended is None else _short((ended - begun).total_seconds())


def _short(seconds: float) -> str:
    """Return a time in one unit: `45 s`, `12 min`, `3 h`, `2 d`, `1 y`."""
    size, unit = next(((s, u) for s, u in _STEPS if seconds >= s), _STEPS[-1])
    return f"{seconds / size:.0f} {unit}"


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
