"""What of a runs folder nothing refers to any more, and why; it only looks.

A run counts as referred to where a manifest of a suite or sweep names its cell, the suite's file as
it is now does, a trial of `sweeps.db` does, MLflow shows it, an exported card or the record of a
sweep in the folder names it, or a run that counts names it anywhere in its record (the training it
started from, a weights file). Where one of these cannot be read, whatever it could have named
stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sca_bench.digests import is_plain_database
from sca_bench.engine.features.cache import is_only_a_store, store_folders
from sca_bench.errors import InputError, fault_line
from sca_bench.files import inside, listed
from sca_bench.reading import RECORD_BYTES, read_bytes
from sca_bench.study.keys.cell import SPLITS, CellIdentity
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.heartbeat import HEARTBEATS
from sca_bench.study.runs.record import RunRecord, SuiteManifest
from sca_bench.study.runs.revisions import identity_of
from sca_bench.study.runs.store import SWEEPS, Store
from sca_bench.study.suite.profiles import read_mapping
from sca_bench.study.suite.suite import load_suite

CARD = "export.json"
_IDS = re.compile(rb"[0-9a-f]{8,64}")
_ATTEMPTS = re.compile(rb"attempts/+([A-Za-z0-9_][\w.-]*)")
_UNFINISHED = re.compile(r"\..+\.tmp")
_YOUNG_S = 3600.0
"""What was begun so short ago may still be at work, whatever the locks say."""


@dataclass(frozen=True)
class Leftover:
    """One thing that may go.

    Attributes:
        path: A file or folder of the runs folder.
        kind: `run`, `attempt`, `features`, `pictures`, `pointer`, `heartbeats` or `temporary`.
        reason: Why nothing needs it.
        num_bytes: Its size.
    """

    path: Path
    kind: str
    reason: str
    num_bytes: int


@dataclass
class Leftovers:
    """What may go, and what is to be said of the rest.

    Attributes:
        found: What may go; runs first.
        notes: What is kept though no suite names it, and what cannot be judged.
    """

    found: list[Leftover] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Size of all that may go."""
        return sum(one.num_bytes for one in self.found)


def find_leftovers(store: Store, *, mirrored: bool = False, older_than_s: float = 0.0) -> Leftovers:
    """Return what nothing refers to.

    Args:
        store: The runs folder.
        mirrored: Whether runs that MLflow shows may go, too, where nothing else refers to them.
        older_than_s: Only what has not changed for so long.
    """
    return _Search(store, mirrored, time.time() - older_than_s).run()


class _Search:
    def __init__(self, store: Store, mirrored: bool, until: float) -> None:
        self._store, self._mirrored, self._until = store, mirrored, until
        self._result = Leftovers()
        self._kept_text: list[bytes] = []
        self._named: set[str] = set()
        self._is_sure = True
        self._planned: dict[str, CellIdentity] = {}

    def run(self) -> Leftovers:
        faults: list[InputError] = []
        manifests = self._store.manifests(faults=faults)
        records = {self._folder(r): r for r in self._store.records(faults)}
        if faults:
            self._note(f"only what killed commands left is judged: {faults[0]}")
        else:
            kept = self._kept_runs(manifests, records)
            self._runs(records, kept)
            self._attempts(kept)
            self._features(kept)
            self._pictures(kept)
            self._pointers(kept)
        self._temporary()
        return self._result

    def _folder(self, record: RunRecord) -> Path:
        return self._store.run_dir(record.cell_id, record.seed)

    def _note(self, line: str) -> None:
        if line not in self._result.notes:
            self._result.notes.append(line)

    def _add(self, path: Path, kind: str, reason: str) -> None:
        """Take something up, unless a link leads to it, or it has just changed."""
        try:
            inside(self._store.root, path)
            own = Path(os.path.realpath(self._store.root), path.relative_to(self._store.root))
            if os.path.realpath(path) != str(own) or _changed(path) > self._until:
                return
        except (InputError, OSError):
            return
        self._result.found.append(Leftover(path, kind, reason, _size(path)))

    # --- runs -----------------------------------------------------------------------------------

    def _kept_runs(
        self, manifests: list[SuiteManifest], records: dict[Path, RunRecord]
    ) -> dict[Path, RunRecord]:
        """Return the runs that something refers to, what these refer to included."""
        named = {entry.cell_id for manifest in manifests for entry in manifest.cells}
        unread = self._named_by_files(manifests, named)
        self._named = named
        trials = self._named_by_sweeps()
        self._is_sure = not unread and trials is not None
        undone = self._is_undone(manifests, records)
        kept: dict[Path, RunRecord] = {}
        reasons = {"of MLflow": 0, "of a sweep elsewhere": 0, "of a stage": 0}
        for path, record in records.items():
            attempt = str(record.provenance.get("attempt", ""))
            if (
                record.cell_id in named
                or (trials is not None and record.cell_id in trials)
                or any(attempt.startswith(f"{suite}-") for suite in unread)
                or trials is None
            ):
                kept[path] = record
            elif record.stage and undone:
                kept[path] = record
                reasons["of a stage"] += 1
            elif _is_trial(record):
                kept[path] = record
                reasons["of a sweep elsewhere"] += 1
            elif not self._mirrored and (path / "mlflow.json").exists():
                kept[path] = record
                reasons["of MLflow"] += 1
        self._say_kept(reasons)
        return self._with_what_they_name(kept, records)

    def _say_kept(self, reasons: dict[str, int]) -> None:
        lines = {
            "of MLflow": "in no suite stay because MLflow shows them; --mirrored counts them",
            "of a sweep elsewhere": "on the validation split stay: a sweep with a storage of its "
            "own may know them",
            "of a stage": "of pretraining stages stay until all suites are done",
        }
        for reason, count in reasons.items():
            if count:
                self._note(f"runs {lines[reason]} ({count})")

    def _named_by_files(self, manifests: list[SuiteManifest], named: set[str]) -> set[str]:
        """Add the cells that suites name as their files are now; return suites that nobody knows.

        A suite that was last run with `--set` has a manifest of those cells alone.
        """
        unread: set[str] = set()
        for manifest in manifests:
            path = Path(manifest.path or manifest.file)
            try:
                if "sweep" in read_mapping(path, "suite, question, ..."):
                    continue
                suite = load_suite(path, profile=manifest.profile, allow_missing=True)
                plan = make_plan(suite, self._store, allow_missing=True)
            except (InputError, OSError) as fault:
                unread.add(manifest.suite)
                why = fault_line(fault) if isinstance(fault, OSError) else str(fault)
                self._note(f"all runs of {manifest.suite} are kept, since its file is not: {why}")
                continue
            cells = {job.cell.cell_id: job.cell for job in (*plan.jobs, *plan.stages)}
            self._planned |= {key: cell.identity for key, cell in cells.items()}
            named.update(cells)
        return unread

    def _named_by_sweeps(self) -> set[str] | None:
        """Return the cells of all trials of `sweeps.db`; None where it cannot be read."""
        path = self._store.root / "sweeps.db"
        if not path.exists():
            return set()
        try:
            if not is_plain_database(path):
                raise sqlite3.DatabaseError("is no database of ours")
            address = f"{path.resolve().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                connection.execute("PRAGMA trusted_schema = OFF")
                query = "SELECT value_json FROM trial_user_attributes WHERE key = 'cell_id'"
                return {str(value).strip('"') for (value,) in connection.execute(query)}
        except (sqlite3.Error, OSError) as fault:
            self._note(f"all runs are kept: {path} cannot be read ({fault})")
            return None

    def _is_undone(self, manifests: list[SuiteManifest], records: dict[Path, RunRecord]) -> bool:
        done = {(r.cell_id, r.seed) for r in records.values() if r.status == "done"}
        return any(
            (entry.cell_id, seed) not in done
            for manifest in manifests
            for entry in manifest.cells
            for seed in manifest.seeds
        )

    def _with_what_they_name(
        self, kept: dict[Path, RunRecord], records: dict[Path, RunRecord]
    ) -> dict[Path, RunRecord]:
        """Return runs with those that they, or exported cards, name, and so on."""
        others: dict[bytes, list[Path]] = {}
        for path, record in records.items():
            if path not in kept:
                others.setdefault(record.cell_id.encode(), []).append(path)
        patterns = (f"*/{CARD}", f"*/*/{CARD}", f"{SWEEPS}/*.json")
        cards = [path for pattern in patterns for path in self._store.root.glob(pattern)]
        todo = [*cards, *(path / "record.json" for path in kept)]
        while todo:
            path = todo.pop()
            if not (text := _text(path)):
                self._note(f"all runs are kept: {path} cannot be read")
                self._kept_text.clear()
                self._is_sure = False
                return dict(records)
            self._kept_text.append(text)
            for name in set(_IDS.findall(text)) & others.keys():
                for path in others.pop(name):
                    kept[path] = records[path]
                    todo.append(path / "record.json")
        return kept

    def _runs(self, records: dict[Path, RunRecord], kept: dict[Path, RunRecord]) -> None:
        for path, record in records.items():
            if path not in kept:
                self._add(path, "run", f"{record.status}, in no suite any more")
        for cell in listed(self._store.root / "cells") if self._is_sure else ():
            for run in listed(cell):
                is_run = run.is_dir() and run.name.startswith("seed-") and run not in records
                if is_run and cell.name not in self._named:
                    self._add(run, "run", "began, and has no record")

    # --- all else -------------------------------------------------------------------------------

    def _attempts(self, kept: dict[Path, RunRecord]) -> None:
        used = {str(record.provenance.get("attempt", "")) for record in kept.values()}
        for text in self._kept_text or [_text(path / "record.json") for path in kept]:
            used |= {name.decode() for name in _ATTEMPTS.findall(text)}
        for path in listed(self._store.root / "attempts"):
            if path.name not in used and not _UNFINISHED.fullmatch(path.name):
                self._add(path, "attempt", "no run names it: failed, repeated, or not a run")

    def _features(self, kept: dict[Path, RunRecord]) -> None:
        root = self._store.root / "features"
        if root.is_symlink():
            self._note(f"{root} is a link, and left alone: `cache` looks after it")
            return
        known = {record.cell_id for record in kept.values()} | self._planned.keys()
        if self._named - known:
            self._note("features are not judged: some cells of suites have no run yet")
            return
        wanted: set[str] = set()
        try:
            for identity in (*self._planned.values(), *map(identity_of, kept.values())):
                for split in SPLITS:
                    wanted |= set(identity.store_keys(split, identity.families).values())
        except (InputError, KeyError, AttributeError) as fault:
            self._note(f"features are not judged: a run's settings cannot be read ({fault})")
            return
        for folder in store_folders(root):
            if folder.name not in wanted and is_only_a_store(folder):
                self._add(folder, "features", "no run reads them")

    def _pictures(self, kept: dict[Path, RunRecord]) -> None:
        for name, used in (
            ("images", {Path(r.images_dir).name for r in kept.values() if r.images_dir}),
            ("masks", {Path(r.masks_file).name for r in kept.values() if r.masks_file}),
        ):
            for path in listed(self._store.root / name):
                if path.name not in used and not _UNFINISHED.fullmatch(path.name):
                    self._add(path, "pictures", "no run shows them")

    def _pointers(self, kept: dict[Path, RunRecord]) -> None:
        """Take up what says where the weights of runs lie that go, or are gone."""
        ids = {record.cell_id.encode() for record in kept.values()}
        for folder in listed(self._store.root / "stages"):
            for path in listed(folder):
                if path.suffix == ".json" and not set(_IDS.findall(_text(path))) & ids:
                    self._add(path, "pointer", "the run that it names is gone, or goes")

    def _temporary(self) -> None:
        root = self._store.root
        for folder in (root, *(root / name for name in ("suites", "images", "attempts", "cells"))):
            for path in listed(folder):
                self._unfinished(path)
        for pattern in ("cells/*/*", "cells/*/*/*", "stages/*/*"):
            for path in root.glob(pattern):
                self._unfinished(path)
        if (root / HEARTBEATS).is_dir() and not self._store.is_in_use():
            self._add(root / HEARTBEATS, "heartbeats", "their command was killed")

    def _unfinished(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if _UNFINISHED.fullmatch(path.name) and _changed(path) < time.time() - _YOUNG_S:
                self._add(path, "temporary", "a killed process left it")


def _is_trial(record: RunRecord) -> bool:
    evaluation = record.settings.get("eval")
    return isinstance(evaluation, dict) and evaluation.get("split", "test") == "val"


def _text(path: Path) -> bytes:
    try:
        return read_bytes(path, RECORD_BYTES)
    except (OSError, InputError):
        return b""


def _files(path: Path) -> Iterator[os.stat_result]:
    """Yield the facts of a file, or of all below a folder; no link is followed."""
    yield path.lstat()
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            with contextlib.suppress(OSError):
                yield (Path(folder) / name).lstat()


def _size(path: Path) -> int:
    return sum(facts.st_size for facts in _files(path))


def _changed(path: Path) -> float:
    """Return when anything of it last changed, in seconds since the epoch."""
    return max(facts.st_mtime for facts in _files(path))
