"""The runs folder: where records, predictions, logs and checkpoints lie. Files are the truth.

Below the runs folder:

- `cells/<cell_id>/seed-<n>/`: record.json, predictions.jsonl, region_scores.json,
  region_statistics.safetensors, log.jsonl, trainable.safetensors and, until it is done,
  checkpoint-<step>.pt
- `stages/<training_id>/seed-<n>.json`: which run holds the weights of a training
- `attempts/<name>/`: job, outcome and text log of every worker process
- `suites/<suite>.<profile>.json`: what `report` reads
- `images/<digest>/`: thumbnails of test images
- `masks/<digest>-<key>.jsonl`: SAM's predicted masks of their regions
- `features/<key>/`: frozen features, may be deleted
- `sweeps.db`: optuna's storage of every sweep, unless one names another
- `mlflow.db`: a view, can be rebuilt
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.study.record import RunRecord, SuiteManifest

TRAINED = "trainable.safetensors"
PREDICTIONS = "predictions.jsonl"
STATISTICS = "region_statistics.safetensors"
TRAIN_PREDICTIONS = "train_predictions.jsonl"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(content.encode() if isinstance(content, str) else content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a torn last line (a killed writer) is left out.

    Raises:
        InputError: A line other than the last is not JSON.
    """
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number >= len(lines) - 1 and not path.read_text(encoding="utf-8").endswith("\n"):
                break
            raise InputError(path, f"line {number}", f"not JSON ({error.msg})") from error
    return rows


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Return the file of a run's checkpoint behind `step` steps."""
    return run_dir / f"checkpoint-{step}.pt"


def checkpoint_step(run_dir: Path) -> int:
    """Return the step of a run's latest checkpoint, 0 where there is none."""
    steps = [p.stem.removeprefix("checkpoint-") for p in run_dir.glob("checkpoint-*.pt")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def drop_checkpoints(run_dir: Path, keep: int = 0) -> None:
    """Delete a run's checkpoints but the one of step `keep`."""
    for path in run_dir.glob("checkpoint-*.pt"):
        if path != checkpoint_path(run_dir, keep):
            path.unlink()


def trained_path(run_dir: Path) -> Path:
    """Return the file of a run's trained weights."""
    return run_dir / TRAINED


def is_trained(run_dir: Path) -> bool:
    """Say whether a run's training is finished (its captions may still be missing)."""
    return trained_path(run_dir).exists()


def forget_trained(run_dir: Path) -> None:
    """Delete what a finished training left, before it is done again."""
    trained_path(run_dir).unlink(missing_ok=True)


def keep_log_until(run_dir: Path, step: int) -> None:
    """Cut a run's log behind a step, so that a resumed run writes no line twice.

    The validation of that step is cut, too: it is made again, since the checkpoint came before it.
    """
    path = run_dir / "log.jsonl"
    if not path.exists():
        return
    rows = [r for r in read_jsonl(path) if r["step"] < step or (r["step"] == step and "loss" in r)]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def file_name(image_id: str) -> str:
    """Return a name for a file about an image, whatever its id holds."""
    if re.fullmatch(r"\w[\w.-]*", image_id):
        return image_id
    return "id-" + hashlib.sha256(image_id.encode()).hexdigest()[:16]


class Store:
    """Access to one runs folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def run_dir(self, cell_id: str, seed: int) -> Path:
        """Return the folder of one run (it may not exist yet)."""
        return self.root / "cells" / cell_id / f"seed-{seed}"

    def record(self, cell_id: str, seed: int) -> RunRecord | None:
        """Return the record of one run, or None if it was never started.

        Raises:
            InputError: The record file is damaged.
        """
        path = self.run_dir(cell_id, seed) / "record.json"
        return _load(path, RunRecord) if path.exists() else None

    def save(self, record: RunRecord) -> None:
        """Write a record, atomically."""
        path = self.run_dir(record.cell_id, record.seed) / "record.json"
        write_atomic(path, record.model_dump_json(indent=1) + "\n")

    def records(self) -> Iterator[RunRecord]:
        """Yield every record in the store, ordered by cell and seed."""
        for path in sorted(self.root.glob("cells/*/seed-*/record.json")):
            yield _load(path, RunRecord)

    def settle_interrupted(self) -> int:
        """Mark runs that a dead process left `running` as killed; return their number.

        Call it only while no other process works in this folder.
        """
        left = [record for record in self.records() if record.status == "running"]
        for record in left:
            reason = "interrupted"
            self.save(record.model_copy(update={"status": "killed", "error": reason}))
        return len(left)

    def save_manifest(self, manifest: SuiteManifest) -> Path:
        """Write what `report` needs to know about a suite."""
        path = self.root / "suites" / f"{manifest.suite}.{manifest.profile}.json"
        write_atomic(path, manifest.model_dump_json(indent=1) + "\n")
        return path

    def manifests(self) -> list[SuiteManifest]:
        """Return every suite that was run into this folder, by name."""
        return [_load(p, SuiteManifest) for p in sorted(self.root.glob("suites/*.json"))]

    def log(self, cell_id: str, seed: int) -> list[dict[str, Any]]:
        """Return the rows of `log.jsonl`: `{"step": n, "loss": x, ...}` and `val/...` values."""
        path = self.run_dir(cell_id, seed) / "log.jsonl"
        return read_jsonl(path) if path.exists() else []

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return `{"region_ids": [...], "scores": {metric: [...]}}`, empty if not scored."""
        path = self.run_dir(cell_id, seed) / "region_scores.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _load(path: Path, model: type[Any]) -> Any:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        problem = f"damaged file ({reason})"
        raise InputError(path, "", problem, "delete it to run it again") from error
