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
- `sweeps/<sweep>.<profile>.json`: what `report` shows of a sweep's search
- `mlflow.db`: a view, can be rebuilt

A runs folder may come from somebody else. What its files call a cell, a suite or a folder is
checked before it becomes a path, no link in it is followed out of it (`features/` and the runs
folder itself may be links), and a record or manifest that does not fit its place is damaged.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from sca_bench.digests import DIGESTS
from sca_bench.errors import InputError
from sca_bench.files import delete, inside, listed, path_name, write_atomic
from sca_bench.reading import (
    RECORD_BYTES,
    ROWS_BYTES,
    open_regular,
    read_bytes,
    read_json,
    read_jsonl,
    shown,
)
from sca_bench.study.runs.record import MOST_RUNS, NEWER, RunRecord, SuiteManifest
from sca_bench.study.runs.soundness import (
    Damaged,
    check_checkpoint,
    check_weights,
    is_set_aside,
    run_name,
    set_aside,
)

LOCK = ".lock"
"""Held by the command that works in a runs folder."""
SWEEPS = "sweeps"
"""Folder of what `report` shows of sweeps."""
TRAINED = "trainable.safetensors"
PREDICTIONS = "predictions.jsonl"
STATISTICS = "region_statistics.safetensors"
TRAIN_PREDICTIONS = "train_predictions.jsonl"
_CHECKPOINT = re.compile(r"checkpoint-([1-9][0-9]{0,17})\.pt")
_SCORE_AGAIN = "delete it and score the run again"
_TOP = (
    *("cells", "stages", "attempts", "suites", "images", "masks", "mlartifacts", SWEEPS),
    *("sweeps.db", "mlflow.db", DIGESTS, "probes.json", ".lock"),
)
"""What a runs folder holds at its top, but for `features`, which may lie on another disk."""
_FOLDERS = ("cells", "suites")
MOST_STEPS = 10**15
"""More than any run has, and few enough for a float."""
_SEED = re.compile(r"seed-(0|-?[1-9][0-9]{0,18})")


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
            delete(path)


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
    rows = [r for r in read_log(path) if r["step"] < step or (r["step"] == step and "loss" in r)]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training log, each with its `step`.

    Raises:
        InputError: It is damaged.
    """
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not _is_count(row.get("step")):
            problem = f"is {shown(row.get('step'))}, expected a number of steps"
            raise InputError(path, f"row {number}: step", problem, "delete the file")
        for key, value in row.items():
            if isinstance(value, int) and abs(value) > MOST_STEPS:
                problem = f"is {shown(value)}, which is no number of a log"
                raise InputError(path, f"row {number}: {key[:40]}", problem, "delete the file")
    return rows


class Store:
    """Access to one runs folder.

    Raises:
        InputError: What lies at its top, but for `features/`, leads out of it by a link; or what
            holds its runs or its suites is no folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        for name in _TOP:
            path = inside(self.root, self.root / name)
            if name in _FOLDERS and not path.is_dir() and os.path.lexists(path):
                raise InputError(path, "", "is no folder", "move it away, or put the folder back")

    def run_dir(self, cell_id: str, seed: int) -> Path:
        """Return the folder of one run (it may not exist yet).

        Raises:
            InputError: The id can be no folder's name, or a link leads from the folder, or from
                something in it, out of the runs folder.
        """
        name = path_name(cell_id, self.root, "cell_id")
        return self.own_folder("cells", name, f"seed-{seed:d}")

    def own_folder(self, *names: str) -> Path:
        """Return a folder below the runs folder from which no link leads out of that.

        Raises:
            InputError: The folder, or something in it, is such a link.
        """
        folder = inside(self.root, self.root.joinpath(*names))
        try:
            with os.scandir(folder) as entries:
                linked = [Path(entry.path) for entry in entries if entry.is_symlink()]
        except OSError:  # it does not exist yet, or whoever reads it will say what is wrong
            return folder
        for path in linked:
            inside(self.root, path)
        return folder

    def kept(self, named: str) -> Path:
        """Return a file or folder that a record names, relative to the runs folder.

        Raises:
            InputError: The name, or a link, leads out of the runs folder.
        """
        return inside(self.root, self.root.joinpath(*_names_of(named, self.root, "")))

    def record(self, cell_id: str, seed: int) -> RunRecord | None:
        """Return the record of one run, or None if it was never started.

        Raises:
            InputError: The record file is damaged, or of another run.
        """
        path = self.run_dir(cell_id, seed) / "record.json"
        return self._record(path) if path.exists() else None

    def _record(self, path: Path) -> RunRecord:
        record: RunRecord = _load(path, RunRecord)
        run, place = f"{record.cell_id}/seed-{record.seed}", run_name(path.parent)
        if run != place:
            problem = f"is the record of {shown(run)[1:-1]}, but lies in {place}"
            raise InputError(path, "", problem, "put it back, or delete it to run it again")
        for key, named in (("images_dir", record.images_dir), ("masks_file", record.masks_file)):
            if named:
                _names_of(named, path, key)
        for item in record.lineage:
            path_name(item.get("cell_id", "_"), path, "lineage: cell_id")
        return record

    def save(self, record: RunRecord) -> None:
        """Write a record, atomically."""
        path = self.run_dir(record.cell_id, record.seed) / "record.json"
        write_atomic(path, record.model_dump_json(indent=1) + "\n")

    def records(self, faults: list[InputError] | None = None) -> Iterator[RunRecord]:
        """Yield every record in the store, ordered by cell and seed.

        Args:
            faults: Takes what is wrong with a record, which is left out then.

        Raises:
            InputError: A record is damaged, and nobody takes the faults.
        """
        for cell in listed(self.root / "cells"):
            for run in listed(cell):
                if _SEED.fullmatch(run.name) is None or not os.path.lexists(run / "record.json"):
                    continue
                try:
                    record = self.record(cell.name, int(run.name.removeprefix("seed-")))
                except (InputError, OSError) as fault:
                    if faults is None:
                        raise
                    faults.append(_as_input(run / "record.json", fault))
                else:
                    if record is not None:
                        yield record

    def settle_interrupted(self) -> int:
        """Mark runs that a dead process left `running` as killed; return their number.

        Call it only while no other process works in this folder.
        """
        left = [record for record in self.records([]) if record.status == "running"]
        for record in left:
            reason = "interrupted"
            self.save(record.model_copy(update={"status": "killed", "error": reason}))
        return len(left)

    def is_in_use(self) -> bool:
        """Say whether a command works in this folder, as far as locks tell; nothing is written."""
        try:
            handle = open_regular(self.root / LOCK)
        except FileNotFoundError:
            return False
        except (OSError, InputError):
            return True
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def has_run(self, cell_id: str, seed: int) -> bool:
        """Say whether one run was ever started."""
        return (self.run_dir(cell_id, seed) / "record.json").exists()

    def manifest_path(self, suite: str, profile: str) -> Path:
        """Return the file of a suite's manifest (it may not exist yet).

        Raises:
            InputError: A name can be no file's, or a link leads out of the runs folder.
        """
        names = path_name(suite, self.root, "suite"), path_name(profile, self.root, "profile")
        return inside(self.root, self.root / "suites" / f"{'.'.join(names)}.json")

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

    def manifests(
        self, suite: str = "*", faults: list[InputError] | None = None
    ) -> list[SuiteManifest]:
        """Return every suite that was run into this folder, or every profile of one, by name.

        Args:
            suite: Name of a suite.
            faults: Takes what is wrong with a file, which is left out then.

        Raises:
            InputError: A file is damaged, and nobody takes the faults.
        """
        found = []
        for path in listed(self.root / "suites"):
            if path.match(f"{suite}.*.json") and not path.name.startswith("."):
                try:
                    found.append(self._manifest(path))
                except (InputError, OSError) as fault:
                    if faults is None:
                        raise
                    faults.append(_as_input(path, fault))
        return found

    def _manifest(self, path: Path) -> SuiteManifest:
        manifest: SuiteManifest = _load(inside(self.root, path), SuiteManifest)
        for key in ("suite", "profile", "default_profile"):
            path_name(getattr(manifest, key), path, key)
        for number, cell in enumerate(manifest.cells, start=1):
            path_name(cell.cell_id, path, f"cells: {number}: cell_id")
        if path.name != f"{manifest.suite}.{manifest.profile}.json":
            problem = f"is the manifest of {manifest.suite}.{manifest.profile}, not of this name"
            raise InputError(path, "", problem, "rename it, or delete it and run the suite")
        if len(manifest.cells) * len(manifest.seeds) > MOST_RUNS:
            count = f"{len(manifest.cells):,} cells and {len(manifest.seeds):,} seeds"
            raise InputError(path, "seeds", f"{count}; at most {MOST_RUNS:,} runs are reported")
        return manifest

    def log(self, cell_id: str, seed: int) -> list[dict[str, Any]]:
        """Return the rows of `log.jsonl`: `{"step": n, "loss": x, ...}` and `val/...` values.

        Raises:
            InputError: The file is damaged.
        """
        path = self.run_dir(cell_id, seed) / "log.jsonl"
        return read_log(path) if path.exists() else []

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return `{"region_ids": [...], "scores": {metric: [...]}}`, empty if not scored.

        `parts`, if it is there, has the same of every subset, by its name.

        Raises:
            InputError: The file is damaged.
        """
        path = self.run_dir(cell_id, seed) / "region_scores.json"
        return read_region_scores(path) if path.exists() else {}

    def statistics(self, cell_id: str, seed: int) -> dict[str, NDArray[Any]]:
        """Return what regions add to the scores of a corpus, as `read_statistics`; empty if none.

        Raises:
            InputError: The file is damaged.
        """
        path = self.run_dir(cell_id, seed) / STATISTICS
        return read_statistics(path) if path.exists() else {}


def read_region_scores(path: Path) -> dict[str, Any]:
    """Return what a file of region scores holds, see `Store.region_scores`.

    Raises:
        InputError: It is damaged.
    """
    stored = read_json(path, ROWS_BYTES)
    parts = stored.get("parts", {}) if isinstance(stored, dict) else {}
    if not isinstance(parts, dict):
        raise InputError(path, "parts", "expected a table of each subset", _SCORE_AGAIN)
    for key, table in (("", stored), *((f"parts: {name[:40]}", t) for name, t in parts.items())):
        if fault := _fault_of_table(table):
            raise InputError(path, key, fault, _SCORE_AGAIN)
    found: dict[str, Any] = stored
    return found


def read_statistics(path: Path) -> dict[str, NDArray[Any]]:
    """Return what regions add to the scores of a corpus: name of a statistic -> a row a region.

    Raises:
        InputError: The file is damaged.
    """
    fix = "delete it: the report then says what it lacks"
    try:
        return load(read_bytes(path, ROWS_BYTES))
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(path, "", f"damaged file ({str(error)[:200]})", fix) from None


def _fault_of_table(table: Any) -> str:
    """Return what is wrong with scores by region; empty where they are sound."""
    if not isinstance(table, dict) or not isinstance(table.get("scores", {}), dict):
        return "expected region_ids and scores"
    for key in ("region_ids", "image_ids"):
        ids = table.get(key, [])
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            return f"{key}: expected a list of texts"
    for metric, values in table.get("scores", {}).items():
        if not isinstance(values, list) or not all(map(_is_score, values)):
            return f"{metric[:40]}: expected a number for each region"
    return ""


def _is_score(value: Any) -> bool:
    """Say whether a value is a number that a float can hold, or none at all."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return False
    return not isinstance(value, int) or abs(value) <= MOST_STEPS


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_STEPS


def _names_of(named: str, where: Path, key: str) -> list[str]:
    """Return the names in a path that a record says, relative to the runs folder."""
    try:
        return [path_name(name) for name in named.split("/")]
    except InputError as fault:
        problem = f"{shown(named)} cannot be a path below the runs folder"
        raise InputError(where, key, problem, fault.fix) from None


def _as_input(path: Path, fault: InputError | OSError) -> InputError:
    if isinstance(fault, InputError):
        return fault
    return InputError(path, "", f"cannot be read ({fault.strerror or fault})")


def _load(path: Path, model: type[Any]) -> Any:
    content = read_bytes(path, RECORD_BYTES)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == NEWER:
            raise InputError(path, "", first["msg"][:200], "update sca_bench") from None
        reason = ": ".join((*(str(part)[:40] for part in first["loc"]), first["msg"][:200]))
        problem = f"damaged file ({reason})"
        raise InputError(path, "", problem, "delete it to run it again") from None
