"""The run of a cell: parent of its seeds' runs, with what was found of them all."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sca_bench.digests import file_sha256
from sca_bench.engine.mlflow_mirror.experiment import Experiment, changed_note
from sca_bench.engine.mlflow_mirror.layout import (
    CELL_RUN,
    CELL_TAG,
    KIND_TAG,
    cell_note,
    cell_status,
    cell_values,
    datasets,
    finding_tags,
    milliseconds,
    params,
    source_tags,
    split_of,
    suite_tags,
)
from sca_bench.engine.mlflow_mirror.notes import STATUS
from sca_bench.engine.mlflow_mirror.previews import write_examples
from sca_bench.errors import InputError
from sca_bench.study.runs.findings import CellFinding, SuiteFindings
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, Store

EXAMPLES_TAG = "sca_bench.examples"


class Cells:
    """The runs of a suite's cells. A suite of one seed has none: its seeds' runs stand for them.

    Args:
        store: The runs folder.
        manifest: The suite.
        experiment: Where they are.
    """

    def __init__(self, store: Store, manifest: SuiteManifest, experiment: Experiment) -> None:
        self._store, self._manifest, self._at = store, manifest, experiment
        self._ids: dict[str, str] = {}
        self._status: dict[str, str] = {}

    def forget(self) -> None:
        """Look for them again when they are asked for next."""
        self._ids = {}

    def parent(self, entry: CellEntry, record: RunRecord, names: Iterable[str]) -> str:
        """Return the id of a cell's run, which is made where there is none; empty without one.

        Args:
            entry: The cell.
            record: A run of it.
            names: Its parameters.
        """
        if len(self._manifest.seeds) == 1:
            return ""
        if entry.cell_id not in self._ids:
            known = self._known(entry.cell_id)
            if known is None:
                known = self._create(entry, record, names)
            self._ids[entry.cell_id] = str(known.info.run_id)
            self._status[str(known.info.run_id)] = str(known.info.status)
        return self._ids[entry.cell_id]

    def _known(self, cell_id: str) -> Any:
        wanted = self._tags(cell_id)
        runs = self._at.runs_of(cell_id, "")
        return next((run for run in runs if wanted.items() <= run.data.tags.items()), None)

    def _tags(self, cell_id: str) -> dict[str, str]:
        return {**suite_tags(self._manifest, CELL_RUN), "sca_bench.cell_id": cell_id}

    def _create(self, entry: CellEntry, record: RunRecord, names: Iterable[str]) -> Any:
        tags = {
            **self._tags(entry.cell_id),
            **source_tags(self._manifest, record),
            "sca_bench.control": str(entry.control).lower(),
            CELL_TAG: entry.name,
            **changed_note({}, cell_note(self._manifest, entry)),
        }
        started = milliseconds(record.provenance.get("started"))
        if started is not None:  # in the suite's order, where cells began in one second
            started += max(0, 999 - self._manifest.cells.index(entry))
        run = self._at.create(entry.name, tags, started)
        self._at.log(str(run.info.run_id), params=params(entry, record, names))
        return run

    def settle(self, entry: CellEntry, run_id: str) -> None:
        """Give a cell's run the status that its seeds' runs have."""
        statuses: list[str] = []
        ended: list[int] = []
        for seed in self._manifest.seeds:
            with contextlib.suppress(InputError):
                record = self._store.record(entry.cell_id, seed)
                if record is not None:
                    statuses.append(STATUS.get(record.status, "RUNNING"))
                    ended.append(milliseconds(record.provenance.get("finished")) or 0)
        status = cell_status(statuses)
        if self._status.get(run_id) == status:
            return
        if status == "RUNNING":
            self._at.client.update_run(run_id, status=status)
        else:
            ended_ms = max(ended, default=0) or None
            self._at.client.set_terminated(run_id, status=status, end_time=ended_ms)
        self._status[run_id] = status

    def settle_known(self, entry: CellEntry) -> None:
        """Do so with the run of a cell, where it was asked for."""
        if entry.cell_id in self._ids:
            self.settle(entry, self._ids[entry.cell_id])

    def drop_outdated(self, found: SuiteFindings) -> None:
        """Delete cells' runs with a number that is found no more: MLflow can take none back."""
        of_cell = {one.cell_id: one for one in found.cells}
        for run in list(self._at.runs().values()):
            tags = run.data.tags
            if tags.get(KIND_TAG) == CELL_RUN and tags.get("sca_bench.cell_id") in of_cell:
                one = of_cell[tags["sca_bench.cell_id"]]
                splits = {name.partition("/")[0] for name in run.data.metrics}
                known = {
                    name
                    for split in splits
                    for name in cell_values(self._manifest, one, found.metric, split)
                }
                if run.data.metrics.keys() - known:
                    self._at.delete(str(run.info.run_id))

    def show(
        self,
        entry: CellEntry,
        run_id: str,
        records: list[RunRecord],
        found: CellFinding,
        metric: str,
        names: Iterable[str],
    ) -> None:
        """Write what was found of a cell into the run that stands for it.

        Args:
            entry: The cell.
            run_id: That run.
            records: Its seeds' runs.
            found: What was found.
            metric: The main metric.
            names: Its parameters.
        """
        run = self._at.runs().get(run_id)
        if run is None:  # deleted meanwhile
            return
        known, now = run.data, time.time()
        values = cell_values(self._manifest, found, metric, split_of(records[0]))
        tags = finding_tags(found, len(self._manifest.seeds))
        wanted = params(entry, records[0], names)
        self._at.log(
            run_id,
            [(k, v, 0, now) for k, v in values.items() if known.metrics.get(k) != v],
            {key: value for key, value in wanted.items() if key not in known.params},
            {key: value for key, value in tags.items() if known.tags.get(key) != value},
        )
        if not (run.inputs and run.inputs.dataset_inputs):
            self._at.log_inputs(run_id, datasets(records[0]))
        self._show_examples(run, records)

    def _show_examples(self, run: Any, records: list[RunRecord]) -> None:
        """Draw captions of the first run that is done, once; a lack of pictures is no fault."""
        record = next((one for one in records if one.status == "done"), None)
        if record is None:
            return
        predictions = self._store.run_dir(record.cell_id, record.seed) / PREDICTIONS
        sheet = None
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.suppress(InputError, OSError):
                mark = f"seed {record.seed}, {file_sha256(predictions)[:12]}"
                if run.data.tags.get(EXAMPLES_TAG) == mark:
                    return
                sheet = write_examples(self._store, record, Path(folder))
            if sheet is not None:
                self._at.upload(run, [sheet])
                self._at.log(str(run.info.run_id), tags={EXAMPLES_TAG: mark})
