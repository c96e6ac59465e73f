"""Signs of life: small files in which commands and their workers say how far they are.

`heartbeats/command.rank-0.json` in a runs folder is the command's, `<attempt>.rank-0.json` that of
a worker. `status` reads them in another process, or on another machine that sees the folder. They
are only signs: nothing else reads them, a run goes on without one that cannot be written, and the
folder is deleted with the end of its command, or by the next command where one was killed.

Writing one takes a tenth of a millisecond every few seconds. The disk is not waited for, and
neither is a device. No torch here.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sca_bench.errors import InputError, fault_line
from sca_bench.files import delete_folder, inside, listed, path_name, write_atomic
from sca_bench.output import one_line, say
from sca_bench.reading import RECORD_BYTES, read_bytes

HEARTBEATS = "heartbeats"
COMMAND = "command"
"""What the command itself is called among its workers' attempts."""
SCHEMA_VERSION = 1
EVERY_S = 3.0
"""A heartbeat is written no more often than that, the beginning of a phase left out."""
_PHASE_S = 0.5
SILENT_S = 60.0
"""Age of the last heartbeat from which a process of another machine counts as gone."""
_START_FIELD = 19
"""Place of a process's start, in ticks since the machine's, behind its name in `/proc/N/stat`."""


class Work(BaseModel):
    """A group of runs that a command's worker is at.

    Attributes:
        name: Its runs, in words.
        attempt: The worker's attempt.
        since: When it began, in seconds since the epoch.
        text: How far it is, as its command knows.
        log: The worker's text log, relative to the runs folder.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    attempt: str = ""
    since: float = Field(0.0, allow_inf_nan=False)
    text: str = ""
    log: str = ""


class Heartbeat(BaseModel):
    """What one process last said of itself.

    Fields are only ever added, with defaults; `schema_version` counts changes of meaning.

    Attributes:
        name: Attempt of a worker, `command` for the command.
        rank: Its number among the processes that do the same work together.
        host: Its machine.
        space: What its number is a number of; a container has numbers of its own.
        pid: Its number.
        process_start: When it was started, in ticks since the machine's start; 0 where unknown.
        started: When the work began, in seconds since the epoch.
        time: When this was written, in seconds since the epoch.
        suite: Suite or sweep, of a command.
        command: The command line, of a command.
        phase: What it is doing.
        step: How many steps, batches or images of that are done.
        steps: How many there are; 0 where that is unknown.
        loss: The last loss that is known, the mean of a group's runs.
        done: Runs that are done, of those that the command has to do.
        total: Runs that the command has to do.
        failed: Runs that failed.
        left_s: Seconds that are left, as far as known.
        work: What its workers are at, of a command.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = SCHEMA_VERSION
    name: str
    rank: int = 0
    host: str = ""
    space: str = ""
    pid: int = Field(0, ge=0, lt=2**31)
    process_start: int = 0
    started: float = Field(0.0, allow_inf_nan=False)
    time: float = Field(0.0, allow_inf_nan=False)
    suite: str = ""
    command: str = ""
    phase: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    done: int = 0
    total: int = 0
    failed: int = 0
    left_s: float | None = Field(None, allow_inf_nan=False)
    work: list[Work] = []

    def is_there(self) -> bool | None:
        """Say whether its process is still there; None of one that is not of this machine."""
        if (self.host, self.space) != _place():
            return None
        if self.pid == 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # somebody else's
        now = process_start(self.pid)
        return not (now and self.process_start and now != self.process_start)

    def silence_s(self, now: float) -> float:
        """Return the seconds since it was written."""
        return max(0.0, now - self.time)

    def is_silent(self, now: float) -> bool:
        """Say whether its process is gone, or has said nothing for so long that it seems to be."""
        there = self.is_there()
        return not there if there is not None else self.silence_s(now) > SILENT_S


@cache
def _place() -> tuple[str, str]:
    """Return the name of this machine, and what the numbers of its processes are numbers of."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path: `pid:[4026531836]`)
    except OSError:
        space = ""
    return socket.gethostname(), space


def process_start(pid: int) -> int:
    """Return when a process was started, in ticks since the machine's start; 0 where unknown.

    A number is given to another process later; the two together are not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return 0


def heartbeat_path(root: Path, name: str, rank: int = 0) -> Path:
    """Return the file of a heartbeat; it may not exist.

    Args:
        root: The runs folder.
        name: An attempt, or `COMMAND`.
        rank: The process's number among those that do the same work.

    Raises:
        InputError: The name can be no file's.
    """
    return root / HEARTBEATS / f"{path_name(name, root)}.rank-{rank:d}.json"


def read_heartbeats(root: Path, name: str) -> list[Heartbeat]:
    """Return the heartbeats of an attempt, or of the command, by rank; damaged ones are left out.

    Args:
        root: The runs folder.
        name: The attempt, or `COMMAND`.
    """
    found = []
    try:
        start = f"{path_name(name, root)}.rank-"
        paths = [path for path in listed(root / HEARTBEATS) if path.name.startswith(start)]
    except (InputError, OSError):
        return []
    for path in paths:
        try:
            content = read_bytes(inside(root, path), RECORD_BYTES)
            found.append(Heartbeat.model_validate_json(content))
        except (InputError, OSError, ValidationError):
            continue
    return sorted(found, key=lambda heartbeat: heartbeat.rank)


def clear_heartbeats(root: Path) -> None:
    """Delete all heartbeats of a runs folder; for its command's beginning and end."""
    delete_folder(root / HEARTBEATS)


class Pulse:
    """Writes the heartbeats of one process.

    Args:
        root: The runs folder.
        name: Its attempt, or `COMMAND`.
        rank: Its number among the processes that do the same work.
        is_guest: Whether it writes only where a command has begun to write its own; a worker whose
            command does not (a probe, a test) leaves nothing behind.
        tell: Gets the one line about a heartbeat that cannot be written.
    """

    def __init__(
        self,
        root: Path,
        name: str = COMMAND,
        rank: int = 0,
        *,
        is_guest: bool = False,
        tell: Callable[[str], None] = say,
    ) -> None:
        self._path, self._is_guest, self._tell = heartbeat_path(root, name, rank), is_guest, tell
        host, space = _place()
        pid = os.getpid()
        start = process_start(pid)
        self._sign = Heartbeat(
            name=name,
            rank=rank,
            host=host,
            space=space,
            pid=pid,
            process_start=start,
            started=time.time(),
        )
        self._lost = False
        self._written = float("-inf")

    def due(self, phase: str) -> bool:
        """Say whether `beat` would write now; whoever counts for it asks this first."""
        waits_s = EVERY_S if phase == self._sign.phase else _PHASE_S
        return time.monotonic() - self._written >= waits_s

    def beat(self, phase: str, **facts: Any) -> None:
        """Say how far the work is; written at most every few seconds.

        Args:
            phase: What is being done.
            **facts: Fields of `Heartbeat` that have changed. Those that count (`step`, `steps`,
                `loss`) begin anew with another phase.
        """
        is_due = self.due(phase)
        if phase != self._sign.phase:
            facts = {"step": 0, "steps": 0, "loss": None, **facts}
        self._sign = self._sign.model_copy(update={"phase": phase, **facts})
        if is_due:
            self._write()

    def _write(self) -> None:
        if self._is_guest and not self._path.parent.is_dir():
            return
        self._written = time.monotonic()
        sign = self._sign.model_copy(update={"time": time.time()})
        try:
            write_atomic(self._path, sign.model_dump_json() + "\n", lasting=False)
        except (OSError, ValueError) as error:  # no text either, where a name is no UTF-8
            if not self._lost:
                self._lost = True
                why = fault_line(error) if isinstance(error, OSError) else one_line(str(error))
                self._tell(f"{why}; the work goes on, but `status` does not see it")
