"""MLflow as a view of the files: written as a run goes, with the status it really ended with.

What was mirrored stands in each run folder's `mlflow.json`, so that nothing is written twice and
everything can be rebuilt from the files at any time.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from sca_bench.digests import file_sha256
from sca_bench.engine.databases import sqlite_file
from sca_bench.engine.mlflow_mirror.addresses import own_file
from sca_bench.engine.mlflow_mirror.faults import MirrorFault
from sca_bench.engine.mlflow_mirror.notes import (
    STATUS,
    Note,
    ending_of,
    place_key,
    read_notes,
    write_notes,
)
from sca_bench.engine.mlflow_mirror.opening import open_client
from sca_bench.errors import InputError
from sca_bench.files import connect
from sca_bench.output import num_text
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

SUMMARY = "sca_bench.summary"
"""Tag of a summary run: the digest of the report that it holds."""
_MOST_METRICS, _MOST_PARAMS = 800, 90
"""Of one request; the server takes 1,000 and 100, and 1,000 together."""
_LONGEST_TAG = 4000
_PARAMS = (
    "variant",
    "mixer.num_layers",
    "mixer.num_query_tokens",
    "sam.size",
    "sam.weights",
    "encoder.type",
    "text_decoder.weights",
    "text_decoder.trainable",
    "train.steps",
    "train.learning_rate",
    "train.images_per_batch",
    "train.precision",
    "eval.prompt",
    "eval.num_beams",
)


class Tracker:
    """Writes the runs of one suite into one MLflow experiment.

    A run is known by its tags, so that a runs folder may be moved or copied, with its `mlflow.db`
    or without; artifacts then belong into the new folder. Every step may be repeated: what is
    there is not written again. Errors are those of MLflow, of its drivers and of the files.

    Args:
        store: The runs folder.
        manifest: The suite.
        uri: Tracking URI; never printed, since it may hold credentials.
        say: Prints a line for the user.
        verify: Ask the server whether what was mirrored before is still there, and bring back an
            experiment that was deleted.
        named: The user named the URI; of the runs folder's own file, which may have come with the
            folder, artifacts are else copied into that folder only.
        connect: Returns a client of the store.
    """

    def __init__(
        self,
        store: Store,
        manifest: SuiteManifest,
        uri: str,
        say: Callable[[str], None],
        *,
        verify: bool = False,
        named: bool = False,
        connect: Callable[[Store, str], Any] = open_client,
    ) -> None:
        self._store, self._manifest, self._uri, self._say = store, manifest, uri, say
        self._verify, self._named, self._open_client = verify, named, connect
        self._client: Any = None
        self._experiment = ""
        self._run_of_tags: dict[tuple[str, ...], str] | None = None

    def update(self) -> None:
        """Mirror whatever is new in the files of the suite's runs.

        Raises:
            MirrorFault: A run's files are damaged; all other runs were mirrored.
        """
        self._check_open()
        self._run_of_tags = None
        damaged: list[InputError] = []
        for entry in self._manifest.cells:
            for seed in self._manifest.seeds:
                try:
                    record = self._store.record(entry.cell_id, seed)
                    if record is not None:
                        self._mirror(entry, record)
                except InputError as fault:
                    damaged.append(fault)
        if damaged:
            count = f"{num_text(len(damaged), 'run')} left out, the others are mirrored"
            raise MirrorFault(f"{damaged[0]} ({count})")

    def summarise(self, report: Path) -> None:
        """Mirror a suite's report as the artifacts of its one summary run.

        A report that is mirrored already is left alone; another one replaces it.

        Args:
            report: Folder of the suite's report.
        """
        self._check_open()
        files = sorted(path for path in report.iterdir() if path.is_file())
        stamp = digest_json({path.name: file_sha256(path) for path in files})
        client = self._connect()
        known = client.search_runs(
            [self._experiment], filter_string=f"tags.`{SUMMARY}` != ''", max_results=100
        )
        if [run.data.tags[SUMMARY] for run in known] == [stamp]:
            return
        tags = {
            "sca_bench.suite": self._manifest.suite,
            "sca_bench.profile": self._manifest.profile,
            SUMMARY: "incomplete",
        }
        run = client.create_run(self._experiment, run_name="summary", tags=tags)
        self._check_place(run)
        try:
            for path in files:
                client.log_artifact(run.info.run_id, str(path))
            client.set_tag(run.info.run_id, SUMMARY, stamp)
        except BaseException:
            with contextlib.suppress(Exception):  # the reason is the first fault
                client.set_terminated(run.info.run_id, status="FAILED")
            raise
        client.set_terminated(run.info.run_id, status="FINISHED")
        for old in known:
            client.delete_run(old.info.run_id)

    def _check_open(self) -> None:
        root = self._store.root
        if not os.access(root, os.W_OK) and sqlite_file(self._uri) == own_file(self._store):
            raise MirrorFault("the folder cannot be written")

    def _connect(self) -> Any:
        if self._client is None:
            client = self._open_client(self._store, self._uri)
            name = self._manifest.report_name
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                if not self._verify:
                    raise MirrorFault(f"the experiment {name!r} was deleted there")
                client.restore_experiment(experiment.experiment_id)
            file = sqlite_file(self._uri)
            location = None
            if file is not None:
                location = (self._store.root.resolve() / "mlartifacts" / name).as_uri()
            if experiment is None:
                self._experiment = client.create_experiment(name, artifact_location=location)
                tags = {
                    "mlflow.note.content": self._manifest.question,
                    "mlflow.experimentKind": "custom_model_development",  # opens on the runs
                }
                for key, value in tags.items():
                    client.set_experiment_tag(self._experiment, key, value)
            else:
                self._experiment = experiment.experiment_id
                if file == own_file(self._store) and location is not None:
                    self._follow_folder(file, str(experiment.artifact_location), location)
                    if not self._named:
                        self._check_inside(client.get_experiment(self._experiment))
            self._client = client
        return self._client

    def _follow_folder(self, database: Path, before: str, now: str) -> None:
        """Let artifacts lie in the runs folder again, which may have been moved or copied.

        MLflow keeps their absolute places, of the experiment and of every run, and has no way to
        change them, so its tables are written to.

        Args:
            database: The runs folder's own.
            before: Where the experiment's artifacts lie, as MLflow has it.
            now: Where they belong.
        """
        ours = now.rsplit("/", 2)[1:]  # mlartifacts/NAME; another place was the user's choice
        if before == now or before.rsplit("/", 2)[1:] != ours:
            return
        root = self._store.root.resolve()
        self._say(f"  {self._manifest.report_name}: its artifacts in MLflow now lie in {root}")
        with contextlib.closing(connect(database, timeout=30)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (now, self._experiment),
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, self._experiment, len(before) + 1, f"{before}/"),
            )

    def _check_inside(self, experiment: Any) -> None:
        """Refuse an experiment of the folder's own database whose files belong elsewhere."""
        place = str(experiment.artifact_location)
        scheme, _, path = place.partition("://")
        there = Path(url2pathname(path)).resolve()  # links lead on, and dots up
        if scheme != "file" or self._store.root.resolve() not in there.parents:
            problem = f"{own_file(self._store)} would have files copied to {place}"
            raise MirrorFault(f"{problem}; if that is wanted, name it with --tracking-uri")

    def _check_place(self, run: Any) -> None:
        """Refuse to copy files to where a database of somebody else says they belong.

        Of the runs folder's own, which may have come with the folder: MLflow gives every run a
        folder of its own below its experiment's, and its name is no path.
        """
        if sqlite_file(self._uri) != own_file(self._store):
            return
        name, place = str(run.info.run_id), str(run.info.artifact_uri)
        experiment = self._client.get_experiment(self._experiment)
        own = f"{str(experiment.artifact_location).rstrip('/')}/{name}/artifacts"
        if not re.fullmatch("[0-9a-f]{32}", name) or place != own or ".." in own.split("/"):
            problem = f"{own_file(self._store)} would have files copied to {place}"
            raise MirrorFault(f"{problem}; delete it, it is made anew from the files")

    def _mirror(self, entry: CellEntry, record: RunRecord) -> None:
        folder = self._store.run_dir(record.cell_id, record.seed)
        notes = read_notes(folder)
        key = place_key(self._uri, self._manifest.report_name)
        note = notes.get(key, Note())
        status, ended = STATUS.get(record.status, ""), ending_of(record)
        rows = self._store.log(record.cell_id, record.seed)
        same = note.run_id and note.ended == ended and note.rows == len(rows)
        if same and not self._verify:
            return
        run, goes_on = self._active(note.run_id), bool(note.ended)  # it runs again after a failure
        if run is not None and self._verify and not self._is_whole(run, record, rows, status):
            note, goes_on = Note(run_id=note.run_id), True
        elif run is not None and same:
            return
        if run is None:
            goes_on = bool(known := self._find(record))
            if known:
                run = self._client.get_run(known)
                logged = [one.rows for one in notes.values() if one.run_id == known]
                note = Note(run_id=known, rows=max(logged, default=0))
            else:
                note = Note(run_id=self._create(entry, record))
            notes = {name: one for name, one in notes.items() if one.run_id != note.run_id}
        if goes_on and not status:
            self._connect().update_run(note.run_id, status="RUNNING")
        there = {} if run is None else run.data.params
        params = {k: v for k, v in self._params(entry, record).items() if k not in there}
        self._log(note.run_id, _numbers(rows[min(note.rows, len(rows)) :]), params)
        note.rows = len(rows)
        if status and note.ended != ended:
            self._end(note.run_id, record, folder, status)
        note.ended = ended
        notes[key] = note
        write_notes(folder, notes)

    def _active(self, run_id: str) -> Any:
        """Return a run; None where it was deleted, or never was."""
        from mlflow.exceptions import MlflowException

        client = self._connect()
        if not run_id:
            return None
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return run if str(run.info.lifecycle_stage) == "active" else None

    def _is_whole(self, run: Any, record: RunRecord, rows: list[Any], status: str) -> bool:
        """Say whether a run has what its record says, as far as one answer tells."""
        wanted: dict[str, float | None] = {}
        if status:
            wanted |= _last_values(record)
        wanted |= dict.fromkeys(name for name, *_ in _numbers(rows))
        has = run.data.metrics
        return str(run.info.status) == (status or "RUNNING") and all(
            name in has if value is None else _stands(has, name, value)
            for name, value in wanted.items()
        )

    def _tags(self, record: RunRecord) -> dict[str, str]:
        """Return the tags that tell a run from all others."""
        return {
            "sca_bench.cell_id": record.cell_id,
            "sca_bench.seed": str(record.seed),
            "sca_bench.suite": self._manifest.suite,
            "sca_bench.profile": self._manifest.profile,
            "sca_bench.revision": record.revision,
        }

    def _find(self, record: RunRecord) -> str:
        """Return the MLflow run of a record by its tags, the oldest of several; empty if none."""
        client, wanted = self._connect(), self._tags(record)
        if self._run_of_tags is None:
            found_runs: dict[tuple[str, ...], str] = {}
            page = None
            while page != "":
                runs = client.search_runs(
                    [self._experiment], order_by=["attributes.start_time"], page_token=page
                )
                for run in runs:
                    found = tuple(run.data.tags.get(name, "") for name in wanted)
                    found_runs.setdefault(found, str(run.info.run_id))
                page = runs.token or ""
            self._run_of_tags = found_runs
        values = tuple(wanted.values())
        untagged = (*values[:-1], "")  # from before runs had a tag for the revision
        return self._run_of_tags.get(values) or self._run_of_tags.get(untagged, "")

    def _create(self, entry: CellEntry, record: RunRecord) -> str:
        run = self._connect().create_run(
            self._experiment,
            start_time=_milliseconds(record.provenance.get("started")),
            run_name=f"{entry.name}, seed {record.seed}",
            tags={**self._tags(record), "sca_bench.control": str(entry.control).lower()},
        )
        return str(run.info.run_id)

    def _params(self, entry: CellEntry, record: RunRecord) -> dict[str, str]:
        params = {"seed": record.seed, **{k: _get(record.settings, k) for k in _PARAMS}}
        params |= entry.coordinates | dict.fromkeys(entry.ignored, "any")
        return {key: str(value)[:250] for key, value in params.items()}

    def _log(
        self,
        run_id: str,
        numbers: list[tuple[str, float, int]],
        params: dict[str, str],
        tags: dict[str, str] | None = None,
        at_s: float = 0.0,
    ) -> None:
        """Log numbers (name, value, step), all with one time in seconds since the epoch."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(key, value, round(at_s * 1000), step) for key, value, step in numbers]
        named = [Param(key, value) for key, value in params.items()]
        marks = [RunTag(key, value) for key, value in (tags or {}).items()]
        while metrics or named or marks:
            self._connect().log_batch(
                run_id,
                metrics=metrics[:_MOST_METRICS],
                params=named[:_MOST_PARAMS],
                tags=marks,
                synchronous=True,
            )
            metrics, named, marks = metrics[_MOST_METRICS:], named[_MOST_PARAMS:], []

    def _end(self, run_id: str, record: RunRecord, folder: Path, status: str) -> None:
        client = self._connect()
        run = client.get_run(run_id)
        known = run.data.metrics  # what is mirrored again adds nothing
        new = [(k, v, 0) for k, v in _last_values(record).items() if not _stands(known, k, v)]
        error = record.error[:_LONGEST_TAG] or "none"
        self._log(run_id, new, {}, {"sca_bench.error": error}, time.time())
        self._check_place(run)
        for name in ("record.json", "predictions.jsonl", "region_scores.json", "log.jsonl"):
            if (folder / name).exists():
                client.log_artifact(run_id, str(folder / name))
        ended = _milliseconds(record.provenance.get("finished"))
        client.set_terminated(run_id, status=status, end_time=ended)


def _numbers(rows: list[dict[str, Any]]) -> list[tuple[str, float, int]]:
    """Return name, value and step of every number in rows of a log."""
    return [
        (key, float(value), int(row["step"]))
        for row in rows
        for key, value in row.items()
        if key != "step" and isinstance(value, int | float)
    ]


def _stands(known: dict[str, float], name: str, value: float) -> bool:
    """Say whether MLflow has a value; it keeps another number for one that is not finite."""
    return name in known and (known[name] == value or not math.isfinite(value))


def _last_values(record: RunRecord) -> dict[str, float]:
    """Return what is known of a run when it has ended: its scores and costs."""
    split = _get(record.settings, "eval.split") or "test"
    values = {f"{split}/{k}": s.value for k, s in record.scores.items() if s.value is not None}
    return values | {f"cost/{key}": value for key, value in record.cost.items()}


def _milliseconds(stamp: str | None) -> int | None:
    """Turn a record's time into MLflow's; None (its own clock) where there is none."""
    try:
        return round(datetime.fromisoformat(stamp).timestamp() * 1000) if stamp else None
    except (ValueError, OverflowError):
        return None


def _get(settings: dict[str, Any], path: str) -> Any:
    node: Any = settings
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
