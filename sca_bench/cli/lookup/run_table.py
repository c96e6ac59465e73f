"""`list runs`: every run by the name that commands take, how it ended, and its main score."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import num_text, text_table
from sca_bench.report.names import metric_label, show_score
from sca_bench.study.find_run import CellName, cell_names
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import OLDER, age_of
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.merge import get

_STEPS = ((86400.0 * 365, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


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
    faults: list[InputError] = []
    records = sorted(store.records(faults), key=lambda record: (_started(record), record.seed))
    if not records and not faults:
        console.print(
            f"no run is in {store.root}; begin with: python -m sca_bench run mixer_layers"
        )
        return faults
    manifests = store.manifests(faults=faults)
    names, metrics = cell_names(store), {m.report_name: m.metrics[0] for m in manifests}
    if suite is not None and suite not in metrics:
        hint = did_you_mean(suite, metrics)
        raise InputError("list runs", "--suite", f"{suite!r} was not run in {store.root}", hint)
    rows = []
    for record in records:
        own = _own_name(names.get(record.cell_id, []), suite)
        name = f"{own or record.cell_id}/{record.seed}" + ("" if own else _nameless(record))
        if (suite is not None and own is None) or not name.startswith(beginning):
            continue
        if status is None or record.status == status:
            metric = metrics[own.suite] if own else ""
            rows.append((record, name, metric, own))
    if not rows:
        console.print(f"none of {num_text(len(records), 'run')} in {store.root} is such a run")
        return faults
    shown = {metric for *_, metric, _ in rows if metric}
    label = metric_label(next(iter(shown))) if len(shown) == 1 else "score"
    table = text_table("run", "status", label, "age", "took", "id", right=(label, "age", "took"))
    for column in table.columns[1:]:
        column.no_wrap = True
    for record, name, metric, _ in rows:
        score = _score(record, metric)
        if score and len(shown) > 1:
            score = f"{metric_label(metric)} {score}"
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


def _state(record: RunRecord, store: Store) -> str:
    if record.status != "running":
        return record.status
    try:
        rows = store.log(record.cell_id, record.seed)
    except InputError:
        return "running, its log is damaged"
    step = max((row["step"] for row in rows), default=0)
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
