"""What was mirrored of a run: `mlflow.json` in its folder, which can be read without MLflow."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.output import without_secrets
from sca_bench.reading import RECORD_BYTES, read_json
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs.record import RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

STATUS = {"done": "FINISHED", "failed": "FAILED", "killed": "KILLED", "pruned": "KILLED"}
"""How MLflow calls the ways in which a run ends."""


class Note(BaseModel):
    """What one MLflow has of a run.

    Attributes:
        run_id: MLflow's name for it; empty where it has none.
        rows: How many rows of the log it has.
        layout: Which names the run has (`layout.LAYOUT`); older notes lack it.
        parent: The run of its cell, which it belongs to; empty where it has none.
        ended: How the run ended when it was last written (`ending_of`); empty while it goes on.
    """

    run_id: str = ""
    rows: int = 0
    layout: int = 1
    parent: str = ""
    ended: str = ""


_NOTES = TypeAdapter(dict[str, Note])


def place_key(uri: str, experiment: str) -> str:
    """Return what the notes call an experiment of one MLflow, without the secrets of its URI."""
    return f"{digest_json(without_secrets(uri))[:12]}/{experiment}"


def ending_of(record: RunRecord) -> str:
    """Return how a run ended and how much is known of it; empty while it goes on."""
    status = STATUS.get(record.status, "")
    return f"{status} {len(record.scores)}" if status else ""


def read_notes(folder: Path) -> dict[str, Note]:
    """Return what MLflow has of a run, by place; what cannot be read is found out again.

    Args:
        folder: The run's.
    """
    try:
        return _NOTES.validate_python(read_json(folder / "mlflow.json", RECORD_BYTES))
    except (OSError, InputError, ValidationError):
        return {}


def write_notes(folder: Path, notes: dict[str, Note]) -> None:
    """Keep what MLflow has of a run; in a closed folder the tags in MLflow tell it."""
    text = json.dumps({name: note.model_dump() for name, note in notes.items()})
    with contextlib.suppress(OSError):
        write_atomic(folder / "mlflow.json", text)


def lacks_runs(store: Store, manifest: SuiteManifest, uri: str) -> bool:
    """Say whether a run of a suite has ended that MLflow was never told of.

    Only the notes are asked, not MLflow: what was deleted there since is not missed here. A record
    that cannot be read is left to those who read it.

    Args:
        store: The runs folder.
        manifest: The suite.
        uri: Tracking URI.
    """
    key = place_key(uri, manifest.report_name)
    for entry in manifest.cells:
        for seed in manifest.seeds:
            try:
                record = store.record(entry.cell_id, seed)
            except InputError:
                continue
            ended = "" if record is None else ending_of(record)
            notes = read_notes(store.run_dir(entry.cell_id, seed)) if ended else {}
            if ended and notes.get(key, Note()).ended != ended:
                return True
    return False
