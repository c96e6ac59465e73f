"""One MLflow experiment, as a mirror writes it: found or made, its runs, and where its files go."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from sca_bench.engine.databases import sqlite_file
from sca_bench.engine.mlflow_mirror.addresses import own_file
from sca_bench.engine.mlflow_mirror.faults import MirrorFault
from sca_bench.engine.mlflow_mirror.opening import open_client
from sca_bench.files import connect as connect_file
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

NOTE, NOTE_DIGEST = "mlflow.note.content", "sca_bench.note"
"""Tags: a description, and the digest of what the mirror wrote there, since people write it too."""
_MOST_METRICS, _MOST_PARAMS = 800, 90
"""Of one request; the server takes 1,000 and 100, and 1,000 together."""

_LONGEST_NOTE = 4000
Numbers = Sequence[tuple[str, float, int, float]]
"""Name, value, step, and when in seconds since the epoch."""


class Experiment:
    """The experiment of one suite.

    Args:
        store: The runs folder.
        manifest: The suite.
        uri: Tracking URI; never printed, since it may hold credentials.
        say: Prints a line for the user.
        restore: Bring the experiment back where it was deleted.
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
        restore: bool,
        named: bool,
        connect: Callable[[Store, str], Any] = open_client,
    ) -> None:
        self._store, self._manifest, self._uri, self._say = store, manifest, uri, say
        self._restore, self._named, self._open_client = restore, named, connect
        self._client: Any = None
        self._id = ""
        self._tags: dict[str, str] = {}
        self._location: str | None = None
        self._runs: dict[str, Any] | None = None
        self._of_seed: dict[tuple[str, str], list[str]] = {}
        self._takes_inputs = True

    def check_open(self) -> None:
        """Refuse the folder's own database where the folder cannot be written."""
        root = self._store.root
        if not os.access(root, os.W_OK) and self._is_own:
            raise MirrorFault("the folder cannot be written")

    @property
    def _is_own(self) -> bool:
        return sqlite_file(self._uri) == own_file(self._store)

    # --- the experiment -------------------------------------------------------------------------

    @property
    def client(self) -> Any:
        """A client; the experiment is there when this returns."""
        if self._client is None:
            client = self._open_client(self._store, self._uri)
            name = self._manifest.report_name
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                if not self._restore:
                    raise MirrorFault(f"the experiment {name!r} was deleted there")
                client.restore_experiment(experiment.experiment_id)
            file = sqlite_file(self._uri)
            location = None
            if file is not None:
                location = (self._store.root.resolve() / "mlartifacts" / name).as_uri()
            if experiment is None:
                self._id = str(client.create_experiment(name, artifact_location=location))
            else:
                self._id = str(experiment.experiment_id)
                self._tags = dict(getattr(experiment, "tags", None) or {})
                if file == own_file(self._store) and location is not None:
                    self._follow_folder(file, str(experiment.artifact_location), location)
                    if not self._named:
                        self._check_inside(client.get_experiment(self._id))
            self._client = client
        return self._client

    @property
    def is_open(self) -> bool:
        """Whether there was a reason to ask for it."""
        return self._client is not None

    @property
    def id(self) -> str:
        """What MLflow calls it."""
        assert self.client is not None
        return self._id

    def describe(self, tags: Mapping[str, str], note: str, *, ours: Iterable[str] = ()) -> None:
        """Set tags of the experiment that are others there; a description of a user's stays.

        Args:
            tags: The tags.
            note: What describes it, Markdown.
            ours: Descriptions that an earlier version wrote.
        """
        client = self.client
        wanted = {**tags, **changed_note(self._tags, note, ours=ours)}
        for key, value in wanted.items():
            if self._tags.get(key) != value:
                client.set_experiment_tag(self._id, key, value)
                self._tags[key] = value

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
        with contextlib.closing(connect_file(database, timeout=30)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (now, self._id),
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, self._id, len(before) + 1, f"{before}/"),
            )

    def _check_inside(self, experiment: Any) -> None:
        """Refuse an experiment of the folder's own database whose files belong elsewhere."""
        place = str(experiment.artifact_location)
        scheme, _, path = place.partition("://")
        there = Path(url2pathname(path)).resolve()  # links lead on, and dots up
        if scheme != "file" or self._store.root.resolve() not in there.parents:
            problem = f"{own_file(self._store)} would have files copied to {place}"
            raise MirrorFault(f"{problem}; if that is wanted, name it with --tracking-uri")

    # --- its runs -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Look for its runs again when they are asked for next."""
        self._runs = None

    @property
    def has_looked(self) -> bool:
        """Whether its runs are known."""
        return self._runs is not None

    def runs(self) -> dict[str, Any]:
        """Return its runs that are not deleted, by id, the oldest first."""
        if self._runs is None:
            client, page = self.client, None
            found: dict[str, Any] = {}
            while page != "":
                runs = client.search_runs(
                    [self._id], order_by=["attributes.start_time"], page_token=page
                )
                found.update({str(run.info.run_id): run for run in runs})
                page = runs.token or ""
            self._runs, self._of_seed = found, {}
            for run in found.values():
                self._enter(run)
        return self._runs

    def _enter(self, run: Any) -> None:
        tags = run.data.tags
        key = tags.get("sca_bench.cell_id", ""), tags.get("sca_bench.seed", "")
        self._of_seed.setdefault(key, []).append(str(run.info.run_id))

    def runs_of(self, cell_id: str, seed: str) -> list[Any]:
        """Return its runs with the tags of a cell and a seed (empty: none), the oldest first."""
        runs = self.runs()
        return [runs[name] for name in self._of_seed.get((cell_id, seed), []) if name in runs]

    def active(self, run_id: str) -> Any:
        """Return a run; None where it was deleted, or never was."""
        from mlflow.exceptions import MlflowException

        if not run_id:
            return None
        if self._runs is not None:
            return self._runs.get(run_id)
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return run if str(run.info.lifecycle_stage) == "active" else None

    def create(self, name: str, tags: Mapping[str, str], started_ms: int | None) -> Any:
        """Make a run and return it; it is running."""
        run = self.client.create_run(self.id, start_time=started_ms, run_name=name, tags=dict(tags))
        if self._runs is not None:
            self._runs[str(run.info.run_id)] = run
            self._enter(run)
        return run

    def log(
        self,
        run_id: str,
        numbers: Numbers = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log numbers, parameters and tags of a run, in as few requests as a server takes."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(name, value, round(at_s * 1000), step) for name, value, step, at_s in numbers
        ]
        named = [Param(key, value) for key, value in (params or {}).items()]
        marks = [RunTag(key, value) for key, value in (tags or {}).items()]
        while metrics or named or marks:
            self.client.log_batch(
                run_id,
                metrics=metrics[:_MOST_METRICS],
                params=named[:_MOST_PARAMS],
                tags=marks[:_MOST_PARAMS],
                synchronous=True,
            )
            metrics, named = metrics[_MOST_METRICS:], named[_MOST_PARAMS:]
            marks = marks[_MOST_PARAMS:]

    def log_inputs(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Log what data a run read: name, digest, source and profile of each, and its context.

        A server from before MLflow knew of such inputs goes without.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        if not datasets or not self._takes_inputs:
            return
        inputs = [
            DatasetInput(
                Dataset(one["name"], one["digest"], "local", one["source"], None, one["profile"]),
                [InputTag("mlflow.data.context", one["context"])],
            )
            for one in datasets
        ]
        try:
            self.client.log_inputs(run_id, datasets=inputs)
        except MlflowException as error:
            if error.error_code not in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"):
                raise
            self._takes_inputs = False

    def upload(self, run: Any, files: Iterable[Path]) -> None:
        """Copy files to where a run's artifacts belong."""
        self._check_place(run)
        for path in files:
            self.client.log_artifact(str(run.info.run_id), str(path))

    def _check_place(self, run: Any) -> None:
        """Refuse to copy files to where a database of somebody else says they belong.

        Of the runs folder's own, which may have come with the folder: MLflow gives every run a
        folder of its own below its experiment's, and its name is no path.
        """
        if not self._is_own:
            return
        name, place = str(run.info.run_id), str(run.info.artifact_uri)
        if self._location is None:
            self._location = str(self.client.get_experiment(self.id).artifact_location)
        own = f"{self._location.rstrip('/')}/{name}/artifacts"
        if not re.fullmatch("[0-9a-f]{32}", name) or place != own or ".." in own.split("/"):
            problem = f"{own_file(self._store)} would have files copied to {place}"
            raise MirrorFault(f"{problem}; delete it, it is made anew from the files")

    def delete(self, run_id: str) -> None:
        """Delete a run, as MLflow does: it stays in its bin until that is emptied."""
        self.client.delete_run(run_id)
        if self._runs is not None:
            self._runs.pop(run_id, None)


def changed_note(
    known: Mapping[str, str], note: str, *, ours: Iterable[str] = ()
) -> dict[str, str]:
    """Return the tags that describe something anew; none where a user has described it since.

    Args:
        known: Its tags so far.
        note: What describes it, Markdown.
        ours: Descriptions that an earlier version wrote.
    """
    note = note[:_LONGEST_NOTE]
    there = known.get(NOTE, "")
    if there == note or (there not in ours and users_note(known)):
        return {}
    return {NOTE: note, NOTE_DIGEST: digest_json(note)[:12]}


def users_note(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag with a description that a user wrote; empty where there is none."""
    note = tags.get(NOTE, "")
    return {NOTE: note} if note and digest_json(note)[:12] != tags.get(NOTE_DIGEST) else {}
