"""MLflow as a view of the files: written as a run goes, with the status it really ended with.

A run of MLflow stands for a cell, and has the runs of its seeds as children; one more, the
summary, has the suite's verdicts and report. What was mirrored stands in each run folder's
`mlflow.json`, so that nothing is written twice and everything can be rebuilt from the files at any
time. Runs that an earlier version wrote, flat and with other names, are written anew by `track
sync`, since MLflow can neither rename nor delete a number.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sca_bench.digests import file_sha256
from sca_bench.engine.mlflow_mirror.cells import Cells
from sca_bench.engine.mlflow_mirror.experiment import Experiment, changed_note, users_note
from sca_bench.engine.mlflow_mirror.faults import MirrorFault
from sca_bench.engine.mlflow_mirror.layout import (
    CELL_TAG,
    KIND_TAG,
    LAYOUT,
    LAYOUT_TAG,
    PARENT_TAG,
    SEED_RUN,
    STANDING_TAG,
    VIEW,
    curve_points,
    datasets,
    experiment_note,
    identity_tags,
    is_higher_better,
    is_ours,
    last_values,
    milliseconds,
    param_names,
    params,
    seed_note,
    shown_values,
    source_tags,
    split_of,
    table_view,
)
from sca_bench.engine.mlflow_mirror.notes import (
    STATUS,
    Note,
    ending_of,
    place_key,
    read_notes,
    write_notes,
)
from sca_bench.engine.mlflow_mirror.opening import open_client
from sca_bench.engine.mlflow_mirror.previews import CAPTIONS, TABLE_TAG, TABLES, write_captions
from sca_bench.engine.mlflow_mirror.summary import Summary
from sca_bench.errors import InputError
from sca_bench.output import num_text
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, Store

_LONGEST_TAG = 4000
_FILES = ("record.json", PREDICTIONS, "region_scores.json", "log.jsonl")
_TABLE_METRICS = 2
"""Metrics whose scores stand in the table of captions: the main one and this many in all."""


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
        self._store, self._manifest, self._verify = store, manifest, verify
        self._at = Experiment(
            store, manifest, uri, say, restore=verify, named=named, connect=connect
        )
        self._cells = Cells(store, manifest, self._at)
        self._summary = Summary(manifest, self._at)
        self._key = place_key(uri, manifest.report_name)
        self._names: list[str] | None = None
        self._heads: dict[str, str] = {}

    def update(self, found: SuiteFindings | None = None) -> None:
        """Mirror whatever is new in the files of the suite's runs.

        Args:
            found: What they say; without it cells' runs keep what they have.

        Raises:
            MirrorFault: A run's files are damaged; all other runs were mirrored.
        """
        self._begin()
        if self._verify:
            self._at.runs()
            if found is not None:
                self._cells.drop_outdated(found)
        damaged: list[InputError] = []
        for entry in self._manifest.cells:
            for seed in self._manifest.seeds:
                try:
                    record = self._store.record(entry.cell_id, seed)
                    if record is not None:
                        self._mirror(entry, record)
                except InputError as fault:
                    damaged.append(fault)
            if self._verify:
                self._cells.settle_known(entry)
        if found is not None:
            self._show(found)
            self._summary.update(found, make=self._verify)
        self._describe()
        if damaged:
            count = f"{num_text(len(damaged), 'run')} left out, the others are mirrored"
            raise MirrorFault(f"{damaged[0]} ({count})")

    def summarise(self, report: Path, found: SuiteFindings | None = None) -> None:
        """Mirror a suite's report as the artifacts of its one summary run.

        A report that is mirrored already is left alone; another one replaces it.

        Args:
            report: Folder of the suite's report.
            found: What it says of cells and claims.
        """
        self._begin()
        files = sorted(path for path in report.iterdir() if path.is_file())
        stamp = digest_json({path.name: file_sha256(path) for path in files})
        if found is not None:
            for entry in self._manifest.cells:
                for record in self._records(entry):
                    note = read_notes(self._store.run_dir(record.cell_id, record.seed))
                    self._heads[entry.cell_id] = self._head(note.get(self._key, Note()))
            self._show(found)
        self._summary.replace(files, stamp, found)
        self._describe()

    def _begin(self) -> None:
        self._at.check_open()
        self._at.forget()
        self._cells.forget()
        self._names, self._heads = None, {}

    def _param_names(self) -> list[str]:
        if self._names is None:
            first = (next(self._records(entry), None) for entry in self._manifest.cells)
            self._names = param_names(self._manifest, (one for one in first if one is not None))
        return self._names

    def _records(self, entry: CellEntry) -> Iterator[RunRecord]:
        """Yield the records of a cell that can be read, by seed."""
        for seed in self._manifest.seeds:
            with contextlib.suppress(InputError):
                record = self._store.record(entry.cell_id, seed)
                if record is not None:
                    yield record

    def _describe(self) -> None:
        """Say what the experiment asks, and which columns of its table matter."""
        if not self._at.is_open:
            return
        records = (record for entry in self._manifest.cells for record in self._records(entry))
        first = next(records, None)
        if first is None:
            return
        split, main = split_of(first), shown_values(self._manifest)[0]
        tags = {
            "mlflow.experimentKind": "custom_model_development",  # opens on the runs
            "mlflow.experiment.primaryMetric.name": f"{split}/{main}",
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(is_higher_better(main)),
            f"mlflow.sharedViewState.{VIEW}": table_view(
                self._manifest, self._param_names(), split
            ),
        }
        note = experiment_note(self._manifest, self._at.id)
        self._at.describe(tags, note, ours=[self._manifest.question])

    # --- the run of a seed ----------------------------------------------------------------------

    def _mirror(self, entry: CellEntry, record: RunRecord) -> None:
        folder = self._store.run_dir(record.cell_id, record.seed)
        notes = read_notes(folder)
        note = notes.get(self._key, Note())
        status, ended = STATUS.get(record.status, ""), ending_of(record)
        rows = self._store.log(record.cell_id, record.seed)
        same = note.run_id and note.ended == ended and note.rows == len(rows)
        if same and not self._verify and not self._lacks_parent(note):
            self._heads[entry.cell_id] = self._head(note)
            return
        if note.layout != LAYOUT:
            note = Note(layout=LAYOUT)  # the run has other names: another one takes its place
        run, goes_on = self._at.active(note.run_id), bool(note.ended)
        if run is not None and self._stood_for_cell(run):
            run, note = None, Note(layout=LAYOUT)
        parent = note.parent
        if run is None or self._verify or self._lacks_parent(note):
            parent = self._cells.parent(entry, record, self._param_names())
        whole = run is None or not self._verify
        if not (whole or self._is_whole(run, entry, record, rows, status, parent)):
            note, goes_on = Note(run_id=note.run_id, layout=LAYOUT), True
        elif run is not None and same and note.parent == parent:
            self._heads[entry.cell_id] = self._head(note)
            self._drop_older(record)
            return
        if run is None:
            run = self._find(record)
            goes_on = run is not None
            if run is not None:
                known = str(run.info.run_id)
                logged = [one.rows for one in notes.values() if one.run_id == known]
                note = Note(run_id=known, rows=max(logged, default=0), layout=LAYOUT)
            else:
                run = self._create(entry, record, parent)
                note = Note(run_id=str(run.info.run_id), layout=LAYOUT)
            notes = {name: one for name, one in notes.items() if one.run_id != note.run_id}
        if goes_on and not status:
            self._at.client.update_run(note.run_id, status="RUNNING")
        with contextlib.ExitStack() as stack:
            files: list[Path] = []
            if status and note.ended != ended:
                made = stack.enter_context(tempfile.TemporaryDirectory())
                files = self._files(record, folder, Path(made))
            self._write(run, entry, record, rows[min(note.rows, len(rows)) :], parent, files)
            if files:
                self._end(run, record, files, status)
        if parent:
            self._cells.settle(entry, parent)
        note.rows, note.ended, note.parent = len(rows), ended, parent
        notes[self._key] = note
        write_notes(folder, notes)
        self._heads[entry.cell_id] = self._head(note)
        self._drop_older(record)

    def _lacks_parent(self, note: Note) -> bool:
        return len(self._manifest.seeds) > 1 and note.layout == LAYOUT and not note.parent

    def _stood_for_cell(self, run: Any) -> bool:
        """Say whether a seed's run has what is its cell's, as in a suite of one seed it has.

        It is written anew where the suite has more seeds since: MLflow can take no number back.
        """
        return len(self._manifest.seeds) > 1 and STANDING_TAG in run.data.tags

    def _head(self, note: Note) -> str:
        """Return the run that stands for a cell, by what is noted of one of its seeds."""
        return (note.parent or note.run_id) if note.layout == LAYOUT else ""

    def _files(self, record: RunRecord, folder: Path, made: Path) -> list[Path]:
        """Return the files of a run that has ended, and a table of its captions in a folder."""
        files = [folder / name for name in _FILES if (folder / name).exists()]
        if folder / PREDICTIONS in files:
            shown = shown_values(self._manifest)[:_TABLE_METRICS]
            with contextlib.suppress(InputError, OSError):  # the file itself is copied as it is
                files.append(write_captions(self._store, record, shown, made))
        return files

    def _write(
        self,
        run: Any,
        entry: CellEntry,
        record: RunRecord,
        rows: list[dict[str, Any]],
        parent: str,
        files: list[Path],
    ) -> None:
        """Log what is known of a run, in one request where that is possible.

        Args:
            run: MLflow's, as it was before.
            entry: Its cell.
            record: Its record.
            rows: Of its log, what is new.
            parent: The run of the cell; empty where there is none.
            files: What is copied beside it; none while it goes on.
        """
        there = run.data
        numbers: list[tuple[str, float, int, float]] = curve_points(rows)
        tags = {PARENT_TAG: parent} if parent and there.tags.get(PARENT_TAG) != parent else {}
        if files:
            values, now = last_values(self._manifest, record), time.time()
            # What is mirrored again adds nothing.
            new = {k: v for k, v in values.items() if not _stands(there.metrics, k, v)}
            numbers += [(key, value, 0, now) for key, value in new.items()]
            tags["sca_bench.error"] = record.error[:_LONGEST_TAG] or "none"
        if any(path.name == CAPTIONS for path in files):
            tags[TABLE_TAG] = TABLES
        named = {"seed": str(record.seed), **params(entry, record, self._param_names())}
        named = {key: value for key, value in named.items() if key not in there.params}
        self._at.log(str(run.info.run_id), numbers, named, tags)

    def _is_whole(
        self,
        run: Any,
        entry: CellEntry,
        record: RunRecord,
        rows: list[dict[str, Any]],
        status: str,
        parent: str,
    ) -> bool:
        """Say whether a run has what its record says, as far as one answer tells."""
        wanted: dict[str, float | None] = {}
        if status:
            wanted |= last_values(self._manifest, record)
        wanted |= dict.fromkeys(name for name, *_ in curve_points(rows))
        has, named = run.data.metrics, params(entry, record, self._param_names())
        return (
            str(run.info.status) == (status or "RUNNING")
            and named.keys() <= run.data.params.keys()
            and (not parent or run.data.tags.get(PARENT_TAG) == parent)
            and all(
                name in has if value is None else _stands(has, name, value)
                for name, value in wanted.items()
            )
        )

    def _create(self, entry: CellEntry, record: RunRecord, parent: str) -> Any:
        kept = self._of_users(record)
        tags = {
            **kept,
            **identity_tags(self._manifest, record),
            **source_tags(self._manifest, record),
            LAYOUT_TAG: str(LAYOUT),
            KIND_TAG: SEED_RUN,
            "sca_bench.control": str(entry.control).lower(),
            CELL_TAG: entry.name,
            **changed_note(kept, seed_note(self._manifest, entry, record)),
        }
        tags |= {PARENT_TAG: parent} if parent else {}
        name = f"{entry.name}, seed {record.seed}"
        return self._at.create(name, tags, milliseconds(record.provenance.get("started")))

    def _of_users(self, record: RunRecord) -> dict[str, str]:
        """Return the tags that people gave to the runs that a new one takes the place of."""
        tags = {k: v for run in self._older(record) for k, v in run.data.tags.items()}
        kept = {key: value for key, value in tags.items() if not is_ours(key)}
        return kept | users_note(tags)

    def _alike(self, record: RunRecord) -> Iterator[tuple[Any, bool]]:
        """Yield each run of MLflow that is one of a record, and whether its names are today's."""
        wanted = identity_tags(self._manifest, record)
        revision = list(wanted)[-1]
        untagged = {k: v for k, v in wanted.items() if k != revision}
        for run in self._at.runs_of(record.cell_id, str(record.seed)):
            tags = run.data.tags
            if tags.get(LAYOUT_TAG) == str(LAYOUT):
                if wanted.items() <= tags.items():
                    yield run, not self._stood_for_cell(run)
            elif untagged.items() <= tags.items() and tags.get(revision, "") in (
                *("", record.revision),  # runs had no tag for the revision once
            ):
                yield run, False

    def _find(self, record: RunRecord) -> Any:
        """Return the MLflow run of a record by its tags, the oldest of several; None if none."""
        return next((run for run, is_todays in self._alike(record) if is_todays), None)

    def _older(self, record: RunRecord) -> list[Any]:
        """Return the runs of a record that an earlier version wrote."""
        return [run for run, is_todays in self._alike(record) if not is_todays]

    def _drop_older(self, record: RunRecord) -> None:
        """Delete them, once a run with today's names is whole."""
        if self._at.has_looked:
            for run in self._older(record):
                self._at.delete(str(run.info.run_id))

    def _end(self, run: Any, record: RunRecord, files: list[Path], status: str) -> None:
        run_id = str(run.info.run_id)
        self._at.log_inputs(run_id, datasets(record))
        self._at.upload(run, files)
        ended = milliseconds(record.provenance.get("finished"))
        self._at.client.set_terminated(run_id, status=status, end_time=ended)

    # --- what was found of them -----------------------------------------------------------------

    def _show(self, found: SuiteFindings) -> None:
        """Write what was found of each cell into the run that stands for it."""
        self._at.forget()  # what was just written counts
        of_cell = {one.cell_id: one for one in found.cells}
        for entry in self._manifest.cells:
            head, one = self._heads.get(entry.cell_id, ""), of_cell.get(entry.cell_id)
            records = list(self._records(entry))
            if head and one is not None and records:
                self._cells.show(entry, head, records, one, found.metric, self._param_names())


def _stands(known: dict[str, float], name: str, value: float) -> bool:
    """Say whether MLflow has a value; it keeps another number for one that is not finite."""
    return name in known and (known[name] == value or not math.isfinite(value))
