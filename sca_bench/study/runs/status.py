"""What goes on in a runs folder, and how its suites stand: from heartbeats and records, read only.

Records are read as plain JSON here, and of each only what is asked for: many ask, and often.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.files import path_name
from sca_bench.reading import RECORD_BYTES, read_json, read_text
from sca_bench.study.runs.heartbeat import COMMAND, Heartbeat, Work, read_heartbeats
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import LOCK, Store

ENDED_BADLY = ("failed", "killed")
_MISSING = "missing"
_DAMAGED = "damaged"


@dataclass(frozen=True)
class BadRun:
    """A run that failed, was killed, or was interrupted without a word.

    Attributes:
        name: `SUITE/CELL/SEED`.
        status: How it ended.
        reason: What its record says of that.
        log: Its process's text log, where there is one.
    """

    name: str
    status: str
    reason: str
    log: str


@dataclass(frozen=True)
class SuiteState:
    """How a suite stands.

    Attributes:
        name: What its report is called.
        total: Runs that it has: cells times seeds.
        counts: Status -> runs of it; `missing` for those that were never started.
        bad: The runs that did not end well.
        changed: When one of its runs last changed, in seconds since the epoch; 0 where none has.
    """

    name: str
    total: int
    counts: Counter[str] = field(default_factory=Counter)
    bad: tuple[BadRun, ...] = ()
    changed: float = 0.0


@dataclass(frozen=True)
class GroupState:
    """A group of runs that a command is at.

    Attributes:
        work: What the command says of it.
        ranks: The heartbeats of its processes, by rank; none where they have written none yet.
    """

    work: Work
    ranks: tuple[Heartbeat, ...] = ()

    @property
    def slowest(self) -> Heartbeat | None:
        """The process that is least far."""
        return min(self.ranks, key=lambda rank: rank.step, default=None)


@dataclass(frozen=True)
class FolderStatus:
    """What goes on in a runs folder.

    Attributes:
        root: The folder.
        now: When it was looked at, in seconds since the epoch.
        command: The last heartbeat of its command; None where there is none.
        groups: What that is at.
        is_silent: Whether the command is gone, or seems to be.
        holder: Number of the process that holds the folder and has no heartbeat; empty where none.
        suites: How its suites stand: those that were asked for, or that the command is at.
        faults: What is wrong with files that are left out.
    """

    root: Path
    now: float
    command: Heartbeat | None = None
    groups: tuple[GroupState, ...] = ()
    is_silent: bool = False
    holder: str = ""
    suites: tuple[SuiteState, ...] = ()
    faults: tuple[InputError, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether a command is at work."""
        return bool(self.holder) or (self.command is not None and not self.is_silent)


def folder_status(store: Store, suite: str | None = None, now: float | None = None) -> FolderStatus:
    """Return what goes on in a runs folder.

    Args:
        store: The runs folder.
        suite: Only how this suite stands (`SUITE` or `SUITE.PROFILE`); else the one that a command
            is at, or all where nothing runs.
        now: Seconds since the epoch; the clock's where None.

    Raises:
        InputError: No suite of that name was run here.
    """
    now = time.time() if now is None else now
    command = next(iter(read_heartbeats(store.root, COMMAND)), None)
    silent = command is not None and command.is_silent(now)
    faults: list[InputError] = []
    manifests = store.manifests(faults=faults)
    wanted = [m for m in manifests if suite in (None, m.report_name, m.suite)]
    if suite is not None and not wanted:
        hint = did_you_mean(suite, {m.report_name for m in manifests})
        raise InputError("status", suite, f"was not run in {store.root}", hint)
    if suite is None and command is not None and not silent:
        wanted = [m for m in manifests if command.suite in (m.report_name, m.suite)] or wanted
    works = not silent and command is not None
    return FolderStatus(
        root=store.root,
        now=now,
        command=command,
        groups=tuple(_groups(store, command)) if command is not None else (),
        is_silent=silent,
        holder="" if works or not store.is_in_use() else _holder(store.root),
        suites=tuple(_suite(store, manifest, works=works) for manifest in wanted),
        faults=tuple(faults),
    )


def _groups(store: Store, command: Heartbeat) -> Iterator[GroupState]:
    for work in command.work:
        ranks = tuple(read_heartbeats(store.root, work.attempt)) if work.attempt else ()
        yield GroupState(work, ranks)


def _holder(root: Path) -> str:
    try:
        return read_text(root / LOCK, RECORD_BYTES).strip()[:20] or "unknown"
    except (OSError, InputError):
        return "unknown"


def _suite(store: Store, manifest: SuiteManifest, *, works: bool) -> SuiteState:
    """Return how a suite stands.

    Args:
        store: The runs folder.
        manifest: Its manifest.
        works: Whether a command is at work, so that a run may be `running`.
    """
    counts: Counter[str] = Counter()
    bad: list[BadRun] = []
    changed = 0.0
    for entry in manifest.cells:
        for seed in manifest.seeds:
            name = f"{manifest.report_name}/{entry.name}/{seed}"
            status, reason, attempt, when = _brief(store, entry.cell_id, seed)
            if status == "running" and not works:
                status, reason = "killed", "interrupted"
            counts[status] += 1
            changed = max(changed, when)
            if status in (*ENDED_BADLY, _DAMAGED):
                bad.append(BadRun(name, status, reason, _log(store.root, attempt)))
    total = len(manifest.cells) * len(manifest.seeds)
    return SuiteState(manifest.report_name, total, counts, tuple(bad), changed)


def _brief(store: Store, cell_id: str, seed: int) -> tuple[str, str, str, float]:
    """Return status, error, attempt and time of change of a run, as its record says."""
    try:
        path = store.run_dir(cell_id, seed) / "record.json"
        changed = path.stat().st_mtime
        record = read_json(path, RECORD_BYTES)
    except FileNotFoundError:
        return _MISSING, "", "", 0.0
    except OSError as fault:
        return _DAMAGED, f"cannot be read ({fault.strerror})", "", 0.0
    except InputError as fault:
        return _DAMAGED, fault.problem, "", 0.0
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        return _DAMAGED, f"{path} says no status", "", 0.0
    provenance: Any = record.get("provenance")
    attempt = provenance.get("attempt") if isinstance(provenance, dict) else ""
    error = record.get("error")
    texts = [text if isinstance(text, str) else "" for text in (error, attempt)]
    return record["status"], texts[0], texts[1], changed


def _log(root: Path, attempt: str) -> str:
    """Return the path of an attempt's log; empty where there is none."""
    try:
        path = root / "attempts" / path_name(attempt) / "run.log"
    except InputError:
        return ""
    return str(path) if path.is_file() else ""
