"""The runs folder: where records, predictions, logs and checkpoints lie. Files are the truth.

Below the runs folder:

- `cells/<cell_id>/seed-<n>/`: record.json, predictions.jsonl, region_scores.json,
  region_statistics.safetensors, log.jsonl, trainable.safetensors and, until it is done,
  checkpoint-<step>.pt; a damaged file of weights or checkpoint as NAME.damaged
- `stages/<training_id>/seed-<n>.json`: which run holds the weights of a training
- `attempts/<name>/`: job, outcome and text log of every worker process
- `suites/<suite>.<profile>.json`: what `report` reads
- `images/<digest>/`: thumbnails of captioned images
- `masks/<digest>-<key>.jsonl`: SAM's predicted masks of their regions
- `features/<key>/`: frozen features, may be deleted
- `sweeps.db`: optuna's storage of every sweep, unless one names another
- `mlflow.db`: a view, can be rebuilt
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.reading import read_jsonl
from sca_bench.study.runs.record import RunRecord, SuiteManifest
from sca_bench.study.runs.soundness import (
    Damaged,
    check_checkpoint,
    check_weights,
    is_set_aside,
    run_name,
    set_aside,
)

TRAINED = "trainable.safetensors"
PREDICTIONS = "predictions.jsonl"
STATISTICS = "region_statistics.safetensors"
TRAIN_PREDICTIONS = "train_predictions.jsonl"
_CHECKPOINT = re.compile(r"checkpoint-([1-9][0-9]*)\.pt")


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Return the file of a run's checkpoint after `step` steps."""
    return run_dir / f"checkpoint-{step}.pt"


def checkpoint_step(run_dir: Path) -> int:
    """Return the step of a run's latest checkpoint, 0 where there is none."""
    names = (_CHECKPOINT.fullmatch(p.name) for p in run_dir.glob("checkpoint-*.pt") if p.exists())
    return max((int(name[1]) for name in names if name), default=0)


def drop_checkpoints(run_dir: Path, keep: int = 0) -> None:
    """Delete a run's checkpoints but the one of step `keep`."""
    for path in run_dir.glob("checkpoint-*.pt"):
        if path != checkpoint_path(run_dir, keep):
            path.unlink()


def trained_path(run_dir: Path) -> Path:
    """Return the file of a run's trained weights."""
    return run_dir / TRAINED


def is_trained(run_dir: Path) -> bool:
    """Say whether a run's training is finished (its captions may still be missing).

    Only the header of the weights is read, which tells a torn file and another run's;
    `set_damaged_aside` reads the rest. A file that cannot be read now counts as weights: nobody
    knows better, and they are not to be made twice.
    """
    try:
        check_weights(trained_path(run_dir), run_name(run_dir), thorough=False)
    except (FileNotFoundError, Damaged):
        return False
    except (OSError, MemoryError):
        return True
    return True


def has_lost_weights(run_dir: Path) -> bool:
    """Say whether a run's trained weights are damaged, or were and have not been made anew."""
    path = trained_path(run_dir)
    return is_set_aside(path) or (path.exists() and not is_trained(run_dir))


def set_damaged_aside(run_dir: Path) -> list[str]:
    """Read a run's trained weights, or else its checkpoints, and set aside what is damaged.

    What cannot be read for another reason stays as it is; whoever needs it will say so. Call it
    only while nobody works on the run.

    Returns:
        A line for each file that was set aside.
    """
    lines: list[str] = []
    run = run_name(run_dir)
    try:
        if _settled(trained_path(run_dir), check_weights, run, lines):
            return lines
        while step := checkpoint_step(run_dir):
            if _settled(checkpoint_path(run_dir, step), check_checkpoint, run, lines):
                break
    except (OSError, MemoryError):
        pass
    return lines


def _settled(path: Path, check: Callable[[Path, str], bool], run: str, lines: list[str]) -> bool:
    """Say whether a file is there and sound; set a damaged one aside."""
    try:
        check(path, run)
    except FileNotFoundError:
        return False
    except Damaged as fault:
        lines.append(f"{path}: damaged: {fault}; set aside as {set_aside(path).name}")
        return False
    return True


def keep_log_until(run_dir: Path, step: int) -> None:
    """Cut a run's log after a step, so that a resumed run writes no line twice.

    The validation of that step is cut, too: it is made again, since the checkpoint came before it.
    """
    path = run_dir / "log.jsonl"
    if not path.exists():
        return
    rows = [r for r in read_jsonl(path) if r["step"] < step or (r["step"] == step and "loss" in r)]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


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
        for cell in _listed(self.root / "cells"):
            for run in _listed(cell):
                path = run / "record.json"
                if run.name.startswith("seed-") and path.exists():
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

    def has_run(self, cell_id: str, seed: int) -> bool:
        """Say whether one run was ever started."""
        return (self.run_dir(cell_id, seed) / "record.json").exists()

    def manifest_path(self, suite: str, profile: str) -> Path:
        """Return the file of a suite's manifest (it may not exist yet)."""
        return self.root / "suites" / f"{suite}.{profile}.json"

    def save_manifest(self, manifest: SuiteManifest) -> Path:
        """Write what `report` needs to know about a suite.

        Its other profiles learn which one is the default now, so that no two reports have one name.
        """
        default = {"default_profile": manifest.default_profile}
        for other in self.manifests(manifest.suite):
            if other.profile != manifest.profile and other != other.model_copy(update=default):
                text = other.model_copy(update=default).model_dump_json(indent=1)
                write_atomic(self.manifest_path(other.suite, other.profile), text + "\n")
        path = self.manifest_path(manifest.suite, manifest.profile)
        write_atomic(path, manifest.model_dump_json(indent=1) + "\n")
        return path

    def manifests(self, suite: str = "*") -> list[SuiteManifest]:
        """Return every suite that was run into this folder, or every profile of one, by name.

        Raises:
            InputError: A file is damaged.
        """
        files = (path for path in _listed(self.root / "suites") if path.match(f"{suite}.*.json"))
        return [_load(path, SuiteManifest) for path in files]

    def log(self, cell_id: str, seed: int) -> list[dict[str, Any]]:
        """Return the rows of `log.jsonl`: `{"step": n, "loss": x, ...}` and `val/...` values."""
        path = self.run_dir(cell_id, seed) / "log.jsonl"
        return read_jsonl(path) if path.exists() else []

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return `{"region_ids": [...], "scores": {metric: [...]}}`, empty if not scored."""
        path = self.run_dir(cell_id, seed) / "region_scores.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name; nothing where there is none.

    Raises:
        OSError: It may not be looked into, which a pattern would pass over without a word.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _load(path: Path, model: type[Any]) -> Any:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        problem = f"damaged file ({reason})"
        raise InputError(path, "", problem, "delete it to run it again") from error
