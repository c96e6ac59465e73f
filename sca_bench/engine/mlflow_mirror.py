"""MLflow as a view of the files: written as a run goes, with the status it really ended with.

What was mirrored stands in each run folder's `mlflow.json`, so that nothing is written twice and
everything can be rebuilt from the files at any time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sca_bench.digests import file_sha256
from sca_bench.engine.databases import sqlite_file, sqlite_url
from sca_bench.files import write_atomic
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

SUMMARY = "sca_bench.summary"
"""Tag of a summary run: the digest of the report that it holds."""
_ENDED = {"done": "FINISHED", "failed": "FAILED", "killed": "KILLED", "pruned": "KILLED"}
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


def default_uri(store: Store) -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite file in the runs folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri(store)


def own_uri(store: Store) -> str:
    """Return the URI of the SQLite file in the runs folder."""
    return sqlite_url(_own_file(store))


def _own_file(store: Store) -> Path:
    return store.root.resolve() / "mlflow.db"


class Tracker:
    """Mirrors the runs of one suite into one MLflow experiment.

    A fault of the tracking server never stops a run: it is said once, and the mirror can be
    rebuilt with `track sync`. A run is known by its tags, so that a runs folder may be moved or
    copied, with its `mlflow.db` or without; artifacts then belong into the new folder.

    Args:
        store: The runs folder.
        manifest: The suite.
        uri: Tracking URI; never printed, since it may hold credentials.
        say: Prints a line for the user.
        verify: Ask the server whether what was mirrored before is still there.
    """

    def __init__(
        self,
        store: Store,
        manifest: SuiteManifest,
        uri: str,
        say: Callable[[str], None],
        *,
        verify: bool = False,
    ) -> None:
        self._store, self._manifest, self._uri, self._say = store, manifest, uri, say
        self._verify = verify
        self._client: Any = None
        self._experiment = ""
        self._run_of_tags: dict[tuple[str, ...], str] | None = None
        self.broken = False

    def update(self) -> None:
        """Mirror whatever is new in the files of the suite's runs."""
        if self.broken or self._is_closed():
            return
        try:
            for entry in self._manifest.cells:
                for seed in self._manifest.seeds:
                    record = self._store.record(entry.cell_id, seed)
                    if record is not None:
                        self._mirror(entry, record)
        except Exception as error:
            self.broken = True
            self._say(
                f"  MLflow mirror stopped ({type(error).__name__}); the runs go on, "
                "`python -m sca_bench track sync` rebuilds it from the files"
            )

    def summarise(self, report: Path) -> None:
        """Mirror a suite's report as the artifacts of its one summary run.

        A report that is mirrored already is left alone; another one replaces it.

        Args:
            report: Folder of the suite's report.
        """
        if self.broken or self._is_closed():
            return
        try:
            self._summarise(report)
        except Exception as error:
            self.broken = True
            self._say(
                f"  the report could not be mirrored to MLflow ({type(error).__name__}); its "
                "files are complete, and `report` tries again"
            )

    def _is_closed(self) -> bool:
        """Say, once, that the runs folder's own mirror cannot be written."""
        root = self._store.root
        if os.access(root, os.W_OK) or sqlite_file(self._uri) != _own_file(self._store):
            return False
        self.broken = True
        self._say(f"  {root} cannot be written; its MLflow mirror stays as it is")
        return True

    def _summarise(self, report: Path) -> None:
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
        try:
            for path in files:
                client.log_artifact(run.info.run_id, str(path))
            client.set_tag(run.info.run_id, SUMMARY, stamp)
        except BaseException:
            client.set_terminated(run.info.run_id, status="FAILED")
            raise
        client.set_terminated(run.info.run_id, status="FINISHED")
        for old in known:
            client.delete_run(old.info.run_id)

    def _connect(self) -> Any:
        if self._client is None:
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # after the import, which sets its own levels
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self._uri)
            _forget_artifact_places()
            name = self._manifest.report_name
            experiment = self._client.get_experiment_by_name(name)
            file = sqlite_file(self._uri)
            location = None
            if file is not None:
                location = (self._store.root.resolve() / "mlartifacts" / name).as_uri()
            if experiment is None:
                self._experiment = self._client.create_experiment(name, artifact_location=location)
                tags = {
                    "mlflow.note.content": self._manifest.question,
                    "mlflow.experimentKind": "custom_model_development",  # opens on the runs
                }
                for key, value in tags.items():
                    self._client.set_experiment_tag(self._experiment, key, value)
            else:
                self._experiment = experiment.experiment_id
                if file == _own_file(self._store) and location is not None:
                    self._follow_folder(file, str(experiment.artifact_location), location)
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
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (now, self._experiment),
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, self._experiment, len(before) + 1, f"{before}/"),
            )

    def _mirror(self, entry: CellEntry, record: RunRecord) -> None:
        folder = self._store.run_dir(record.cell_id, record.seed)
        state_path = folder / "mlflow.json"
        states = json.loads(state_path.read_text("utf-8")) if state_path.exists() else {}
        report_key = f"{digest_json(self._uri)[:12]}/{self._manifest.report_name}"
        state = states.get(report_key, {"run_id": "", "rows": 0, "ended": ""})
        if self._verify and state["run_id"] and not self._exists(state["run_id"]):
            state = {"run_id": "", "rows": 0, "ended": ""}
        before = dict(state)
        ended = _ENDED.get(record.status, "")
        stamp = f"{ended} {len(record.scores)}" if ended else ""
        rows = self._store.log(record.cell_id, record.seed)
        if state["run_id"] and state["ended"] == stamp and state["rows"] == len(rows):
            return
        client = self._connect()
        goes_on = bool(before["ended"])  # it runs again after a failure
        if not state["run_id"] or not self._exists(state["run_id"]):
            known = self._find(record)
            logged = [s["rows"] for s in states.values() if s["run_id"] == known]
            run_id = known or self._create(entry, record)
            state = {"run_id": run_id, "rows": max(logged, default=0), "ended": ""}
            states = {key: s for key, s in states.items() if s["run_id"] != run_id}
            goes_on = bool(known)
        if goes_on and not ended:
            client.update_run(state["run_id"], status="RUNNING")
        self._log_rows(state["run_id"], rows[min(state["rows"], len(rows)) :])
        state["rows"] = len(rows)
        if ended and state["ended"] != stamp:
            self._end(state["run_id"], record, folder, ended)
        state["ended"] = stamp
        states[report_key] = state
        with contextlib.suppress(OSError):  # only a memory: in a closed folder the tags tell
            write_atomic(state_path, json.dumps(states))

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = self._connect().get_run(run_id)
        except MlflowException:
            return False
        return str(run.info.lifecycle_stage) == "active"

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
            self._run_of_tags, page = {}, None
            while page != "":
                runs = client.search_runs(
                    [self._experiment], order_by=["attributes.start_time"], page_token=page
                )
                for run in runs:
                    found = tuple(run.data.tags.get(name, "") for name in wanted)
                    self._run_of_tags.setdefault(found, str(run.info.run_id))
                page = runs.token or ""
        values = tuple(wanted.values())
        untagged = (*values[:-1], "")  # from before runs had a tag for the revision
        return self._run_of_tags.get(values) or self._run_of_tags.get(untagged, "")

    def _create(self, entry: CellEntry, record: RunRecord) -> str:
        client = self._connect()
        run = client.create_run(
            self._experiment,
            start_time=_milliseconds(record.provenance.get("started")),
            run_name=f"{entry.name}, seed {record.seed}",
            tags={**self._tags(record), "sca_bench.control": str(entry.control).lower()},
        )
        run_id = str(run.info.run_id)
        params = {"seed": record.seed, **{k: _get(record.settings, k) for k in _PARAMS}}
        params |= entry.coordinates | dict.fromkeys(entry.ignored, "any")
        for key, value in params.items():
            client.log_param(run_id, key, str(value)[:250])
        return run_id

    def _log_rows(self, run_id: str, rows: list[dict[str, Any]]) -> None:
        numbers = [
            (key, float(value), int(row["step"]))
            for row in rows
            for key, value in row.items()
            if key != "step" and isinstance(value, int | float)
        ]
        self._log(run_id, numbers, 0.0)

    def _log(self, run_id: str, numbers: list[tuple[str, float, int]], at_s: float) -> None:
        """Log numbers (name, value, step), all with one time in seconds since the epoch."""
        from mlflow.entities import Metric

        metrics = [Metric(key, value, round(at_s * 1000), step) for key, value, step in numbers]
        for first in range(0, len(metrics), 900):
            self._connect().log_batch(run_id, metrics=metrics[first : first + 900])

    def _end(self, run_id: str, record: RunRecord, folder: Path, status: str) -> None:
        client = self._connect()
        split = _get(record.settings, "eval.split") or "test"
        values = {f"{split}/{k}": s.value for k, s in record.scores.items() if s.value is not None}
        values |= {f"cost/{key}": value for key, value in record.cost.items()}
        known = client.get_run(run_id).data.metrics  # what is mirrored again adds nothing
        self._log(run_id, [(k, v, 0) for k, v in values.items() if known.get(k) != v], time.time())
        client.set_tag(run_id, "sca_bench.error", record.error or "none")
        for name in ("record.json", "predictions.jsonl", "region_scores.json", "log.jsonl"):
            if (folder / name).exists():
                client.log_artifact(run_id, str(folder / name))
        ended = _milliseconds(record.provenance.get("finished"))
        client.set_terminated(run_id, status=status, end_time=ended)


def _forget_artifact_places() -> None:
    """Have MLflow ask again where a run's artifacts go: it remembers that by the run's id alone.

    A copy of a runs folder has the same ids.
    """
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()


def _milliseconds(stamp: str | None) -> int | None:
    """Turn a record's time into MLflow's; None (its own clock) where there is none."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000) if stamp else None


def _get(settings: dict[str, Any], path: str) -> Any:
    node: Any = settings
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def sync(store: Store, uri: str, say: Callable[[str], None]) -> int:
    """Rebuild the mirror of every suite in a runs folder; return how many were mirrored."""
    trackers = [Tracker(store, m, uri, say, verify=True) for m in store.manifests()]
    for tracker in trackers:
        tracker.update()
    return sum(not tracker.broken for tracker in trackers)
