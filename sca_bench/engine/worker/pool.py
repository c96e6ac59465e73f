"""Worker processes: one per group attempt, never more at a time than asked for."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from sca_bench.engine.fork_servers import worker_processes
from sca_bench.engine.job import GroupJob, Outcome
from sca_bench.files import make_folder
from sca_bench.output import one_line
from sca_bench.study.runs.heartbeat import Work

_TAIL_BYTES = 4096

_DIED = "the worker process ended with"
WAS_KILLED = f"{_DIED} SIG"
"""How the reason of a run begins whose process was killed from outside."""


@dataclass(frozen=True)
class Task:
    """What a worker process is started for.

    Attributes:
        name: Names its outcome and its log, in the folder of the attempt.
        function: `module:function`, imported in the worker (`sca_bench.engine.worker.main`).
    """

    name: str
    function: str


PREPARE = Task("prepare", "sca_bench.engine.worker.main:prepare_group")
RUN = Task("run", "sca_bench.engine.worker.main:run_group")


@dataclass
class Attempt:
    """One running worker process."""

    name: str
    job: GroupJob
    process: BaseProcess
    outcome_path: Path
    log_path: Path
    slot: int
    since: float = field(default_factory=time.time)

    @property
    def prepared(self) -> tuple[str, int, int] | None:
        """What the worker last prepared, and how many images of how many; None before that."""
        try:
            said = json.loads(self.outcome_path.with_suffix(".progress").read_text("utf-8"))
            return str(said["what"]), int(said["done"]), int(said["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def work(self, text: str) -> Work:
        """Return what its command says of it in its heartbeats.

        Args:
            text: How far it is.
        """
        log = Path("attempts") / self.job.attempt / self.log_path.name
        return Work(
            name=self.name,
            attempt=self.job.attempt,
            since=self.since,
            text=text,
            log=log.as_posix(),
        )

    def outcome(self) -> Outcome:
        """Return how a finished worker ended; a death without word fails all its cells."""
        if self.outcome_path.exists():
            return Outcome.load(self.outcome_path)
        code = self.process.exitcode or 0
        how = f"exit code {code}"
        if code > 0 and (said := last_line(self.log_path)):
            how += f" ({said})"
        if code < 0:
            how = signal.Signals(-code).name + (" (out of memory?)" if code == -9 else "")
        reason = f"{_DIED} {how}; see {self.log_path}"
        return Outcome(failed={cell.key: reason for cell in self.job.cells})


def last_line(log: Path) -> str:
    """Return what a process said last, for the line about its end; nothing if it said nothing."""
    try:
        with log.open("rb") as handle:
            handle.seek(-min(_TAIL_BYTES, log.stat().st_size), os.SEEK_END)
            lines = handle.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((one_line(line)[:300] for line in reversed(lines) if line.strip()), "")


class Pool:
    """Starts attempts in processes forked from one server that has the libraries loaded.

    Args:
        folder: Where jobs, outcomes and logs of attempts lie.
        limit: Processes at a time.
        num_gpus: GPUs that jobs on device `cuda` are spread over; 0 or 1 leaves the name as it is.
    """

    def __init__(self, folder: Path, limit: int, num_gpus: int = 0) -> None:
        self._folder, self.limit, self._num_gpus = folder, limit, num_gpus
        self._context = worker_processes()
        self.running: list[Attempt] = []

    def start(self, name: str, job: GroupJob, task: Task) -> Attempt:
        """Start a worker.

        Raises:
            OSError: It cannot be started: no memory, no more processes or open files, a full disk.
        """
        from sca_bench.engine.worker.main import main

        slot = min(set(range(self.limit)) - {attempt.slot for attempt in self.running})
        if job.device == "cuda" and self._num_gpus > 1:
            job = replace(job, device=f"cuda:{slot % self._num_gpus}")
        folder = self._folder / job.attempt
        make_folder(folder)
        job.save(folder / "job.json")
        outcome, log = folder / f"{task.name}.outcome.json", folder / f"{task.name}.log"
        process = self._context.Process(
            target=main, args=(str(folder / "job.json"), str(outcome), str(log), task.function)
        )
        attempt = Attempt(name, job, process, outcome, log, slot)
        self.running.append(attempt)  # before it runs: a signal may come between
        try:
            process.start()
        except BaseException as error:
            if process.pid is None:
                self.running.remove(attempt)
            if isinstance(error, EOFError):  # the server forks no more, or never got so far
                raise ChildProcessError(None, "the server of worker processes ended") from error
            raise
        return attempt

    @property
    def free(self) -> int:
        """How many more may start now."""
        return self.limit - len(self.running)

    def collect(self) -> list[Attempt]:
        """Return the attempts that have ended since the last call."""
        ended = [attempt for attempt in self.running if not attempt.process.is_alive()]
        for attempt in ended:
            attempt.process.join()
            self.running.remove(attempt)
        return ended

    def ask_to_stop(self) -> None:
        """Tell every worker to end, and to keep first what a training under way has come to."""
        for attempt in self.running:
            if attempt.process.pid is not None and attempt.process.is_alive():
                os.kill(attempt.process.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End every worker at once."""
        for attempt in self.running:
            if attempt.process.pid is not None and attempt.process.is_alive():
                os.kill(attempt.process.pid, signal.SIGKILL)
                attempt.process.join()
        self.running.clear()
