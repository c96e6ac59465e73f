"""The command's side of a mirror: it asks another process to write, and waits for it very little.

A tracking server is a view of the files. Whatever it does (nothing, too slowly, the wrong thing),
the runs go on, one line says why the mirror stops, and `track sync` brings it up to date later.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import sca_bench
from sca_bench.engine.databases import sqlite_file
from sca_bench.engine.mlflow_mirror.addresses import shown_place
from sca_bench.engine.mlflow_mirror.notes import lacks_runs
from sca_bench.errors import InputError, fault_line
from sca_bench.lifetime import stops
from sca_bench.lifetime.scratch import sweep
from sca_bench.output import one_line
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

REQUEST_S, ASKED_REQUEST_S = 5, 10
"""Seconds that a server has for an answer while runs go on, and where nothing else is done."""
_MOST_FAILURES, _AGAIN_S = 3, 4.0
"""How often a server may fail in a row, and how long it is left alone after each."""
_POLL_S, _LEAVE_S = 0.02, 0.5

_SLOW_S, _SLOW_FILE_S = 1.8, 15.0
"""Seconds without an answer after which a server is slow, and a database file."""
_GRACE_S, _GRACE_SHARE, _MOST_GRACE_S = 2.0, 0.02, 20.0
"""What a slow one gets at the end, in seconds and as a share of the command's time so far."""
_LONGEST_S, _LONGEST_FILE_S, _STOPPING_S = 30.0, 120.0, 5.0
"""What one gets at the end: a server that answers, a file since its last word, and either when a
signal stops all."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from sca_bench.engine.mlflow_mirror.child import main; main()"
)


class Mirror:
    """The mirror of a runs folder, for as long as a command runs.

    Its process starts when something is to be written, or earlier (`begin`).

    Args:
        store: The runs folder.
        uri: Tracking URI; never shown, since it may hold credentials.
        say: Prints a line for the user.
        sync: The command that brings a mirror up to date.
        verify: Whether what was mirrored before is looked for as well.
        named: Whether the user named the URI (see `Tracker`).
        request_s: Seconds that a server has for an answer; MLFLOW_HTTP_REQUEST_TIMEOUT may give
            it less, and more where nothing else is done meanwhile (`verify`).
    """

    def __init__(
        self,
        store: Store,
        uri: str,
        say: Callable[[str], None],
        sync: str,
        *,
        verify: bool = False,
        named: bool = False,
        request_s: int = REQUEST_S,
    ) -> None:
        self._store, self._uri, self._sync = store, uri, sync
        self.say = say
        self._verify, self._named, self._request_s = verify, named, request_s
        self._is_file = sqlite_file(uri) is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._began = self._heard = time.monotonic()
        self._asks = self._is_busy = False
        self._to_write, self._read = b"", b""
        self._known: dict[str, SuiteManifest] = {}
        self._wanted: dict[tuple[str, ...], dict[str, Any]] = {}
        self._failures, self._failed_at, self._reason = 0, -_AGAIN_S, ""
        self._ending = False
        self.broken = ""
        self.stopped: set[str] = set()
        self.done: set[str] = set()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        if stopped and self.has_begun and not self._verify:
            with stops.held():  # a few seconds, for what a stopped command has come to
                self.finish(stopping=True)
        self.close()

    @property
    def has_begun(self) -> bool:
        """Whether its process was started."""
        return self._process is not None

    def lacks(self, manifest: SuiteManifest) -> bool:
        """Say whether a run of a suite has ended that was never mirrored; asks no server."""
        return lacks_runs(self._store, manifest, self._uri)

    # --- what is asked for ----------------------------------------------------------------------

    def begin(self) -> None:
        """Start the process that writes, if it is not there; it imports what it needs."""
        if self._process is None and not self.broken:
            try:
                self._start()
            except OSError as error:  # no memory, no more processes or open files
                self._break(f"its process does not start: {fault_line(error)}")

    def update(self, manifest: SuiteManifest, found: SuiteFindings | None = None) -> None:
        """Have whatever is new in the files of a suite's runs be mirrored; returns at once.

        Args:
            manifest: The suite.
            found: What its runs say, where that is known.
        """
        self._want(manifest, {}, found)

    def summarise(
        self, manifest: SuiteManifest, report: Path, found: SuiteFindings | None = None
    ) -> None:
        """Have a suite's report be mirrored; returns at once.

        Args:
            manifest: The suite.
            report: Folder of the report.
            found: What it says, where that is known.
        """
        self._want(manifest, {"report": str(report.resolve())}, found)

    def _want(
        self, manifest: SuiteManifest, more: dict[str, Any], found: SuiteFindings | None
    ) -> None:
        name = manifest.report_name
        if not self.broken and name not in self.stopped:
            self._known[name] = manifest
            task = {"suite": name, **more}
            if found is not None:
                task["found"] = found.model_dump(mode="json")
            self._wanted[name, *more] = task
            self._go_on()

    def finish(self, *, stopping: bool = False, grace_s: float = _GRACE_S) -> None:
        """Wait until all is mirrored, but not for a server that is slow or says nothing.

        A server that answers is waited for, up to half a minute, and a database file for as long as
        something comes of it. A slow one has two seconds, or a fiftieth of the command's time so
        far.

        Args:
            stopping: A signal has stopped the command: wait for seconds only.
            grace_s: Seconds for a slow one, at least.
        """
        began = time.monotonic()
        self._ending = True
        share = min(_MOST_GRACE_S, (began - self._began) * _GRACE_SHARE)
        grace_s = 1.0 if stopping else max(grace_s, share)
        longest_s = _LONGEST_FILE_S if self._is_file else max(_LONGEST_S, grace_s)
        longest_s = _STOPPING_S if stopping else longest_s
        slow_s = _SLOW_FILE_S if self._is_file else _SLOW_S
        while self._goes_on():
            waited, silent = time.monotonic() - began, time.monotonic() - self._heard
            is_slow = self._asks and silent > slow_s
            lasts = silent if self._is_file and not stopping else waited
            if lasts > longest_s or (is_slow and waited > grace_s):
                what = "the file" if self._is_file else "the server"
                self._break(self._reason or f"{what} is too slow")
            time.sleep(_POLL_S)
        self._ending = False

    def wait(self) -> None:
        """Wait until all is mirrored or cannot be."""
        self._ending = True
        while self._goes_on():
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the process that writes, at once."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_S)
        finally:  # even where a signal comes meanwhile
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                sweep(self._store.root)

    # --- the process that writes ----------------------------------------------------------------

    def _goes_on(self) -> bool:
        self._go_on()
        return not self.broken and (self._is_busy or bool(self._wanted))

    def _go_on(self) -> None:
        """Read what the process tells, and give it the next task."""
        if self.broken:
            return
        self._listen()
        rests = time.monotonic() - self._failed_at < _AGAIN_S and not self._ending
        if self._wanted and not self._is_busy and not rests and not self.broken:
            task = self._wanted.pop(next(iter(self._wanted)))
            self.begin()
            if self.broken:
                return
            task["manifest"] = self._known[task["suite"]].model_dump(mode="json")
            self._is_busy, self._heard = True, time.monotonic()
            self._send(task)
        self._send(None)

    def _start(self) -> None:
        package = str(Path(sca_bench.__file__).parents[1])
        self._process = stops.start_child(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
            bufsize=0,
        )
        for stream in (self._process.stdin, self._process.stdout):
            os.set_blocking(stream.fileno(), False)  # type: ignore[union-attr]
        self._send([package, *sys.path])
        self._send(
            {
                "root": str(self._store.root.resolve()),
                "uri": self._uri,
                "verify": self._verify,
                "named": self._named,
                "longest_s": (4 if self._is_file else 2) * self._timeout_s(),
                "parent": os.getpid(),
            }
        )

    def _timeout_s(self) -> int:
        asked = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "")
        if not (asked.isascii() and asked.isdecimal() and int(asked) > 0):
            return self._request_s
        return int(asked) if self._verify else min(int(asked), self._request_s)

    def _environment(self) -> dict[str, str]:
        """Return what MLflow reads in its process: it tries once, says nothing, and waits little.

        A request that is repeated may make a run twice; the mirror itself looks first.
        """
        seconds = str(self._timeout_s())
        defaults = {"MLFLOW_DISABLE_TELEMETRY": "true", "PGCONNECT_TIMEOUT": seconds}
        return {
            **defaults,
            **os.environ,
            "PYTHONWARNINGS": "ignore",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": seconds,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
            "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": seconds,
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
            "OMP_NUM_THREADS": "1",
        }

    def _send(self, task: Any) -> None:
        """Send a line, as much of it as the pipe takes now."""
        if task is not None:
            self._to_write += json.dumps(task).encode() + b"\n"
        if not self._to_write or self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._to_write = self._to_write[
                os.write(self._process.stdin.fileno(), self._to_write) :
            ]

    def _listen(self) -> None:
        while self._process is not None and self._process.stdout is not None:
            try:
                part = os.read(self._process.stdout.fileno(), 65536)
            except BlockingIOError:
                return
            if not part:
                self._break(f"its process ended with {self._exit()}")
                return
            self._heard = time.monotonic()
            *lines, self._read = (self._read + part).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _exit(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "no word"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _take(self, message: dict[str, Any]) -> None:
        if "say" in message:
            self.say(one_line(message["say"]))
        self._asks = bool(message.get("asks", self._asks))
        if "done" not in message:
            return
        self._is_busy = False
        name, reason = message["done"], message.get("reason", "")
        if not reason:
            self._failures = 0
            self.done.add(name)
            return
        self._failures, self._failed_at, self._reason = self._failures + 1, time.monotonic(), reason
        if message["own"]:
            self.stopped.add(name)
            self._wanted = {key: task for key, task in self._wanted.items() if key[0] != name}
            self.say(self._line(reason, name))
        elif self._ending or not message["passing"] or self._failures >= _MOST_FAILURES:
            self._break(reason)

    def _break(self, reason: str) -> None:
        if not self.broken:
            self.broken = reason
            self._wanted.clear()
            self.say(self._line(reason))
            self.close()

    def _line(self, reason: str, suite: str = "") -> str:
        place = one_line(shown_place(self._store, self._uri))
        of = f" of {suite}" if suite else ""
        what = f"  MLflow mirror{of} stopped: {place}: {one_line(reason)}"
        return f"{what}; nothing of the runs is lost, and {self._sync}"


class SuiteMirror:
    """The mirror of one suite, as the loop that runs it knows it."""

    def __init__(self, mirror: Mirror, manifest: SuiteManifest) -> None:
        self._mirror, self._manifest = mirror, manifest

    def update(self) -> None:
        """Have whatever is new be mirrored; returns at once."""
        self._mirror.update(self._manifest)

    def finish(
        self, find: Callable[[], SuiteFindings | None] | None = None, *, stopping: bool = False
    ) -> None:
        """Have all be mirrored, and wait as `Mirror.finish` does.

        Args:
            find: Returns what the suite's runs say, where that can be found out; it is asked if
                somebody is there to be told.
            stopping: A signal has stopped the command.
        """
        if stopping and not self._mirror.has_begun:
            return
        self._mirror.update(self._manifest)
        if find is not None and not self._mirror.broken:
            self._mirror.update(self._manifest, find())
        self._mirror.finish(stopping=stopping)


def sync(
    store: Store,
    uri: str,
    say: Callable[[str], None],
    again: str,
    *,
    named: bool = False,
    find: Callable[[SuiteManifest], SuiteFindings | None] = lambda _: None,
) -> int:
    """Rebuild the mirror of every suite in a runs folder.

    Args:
        store: The runs folder.
        uri: Tracking URI.
        say: Prints a line for the user.
        again: What to do where it does not work.
        named: Whether the user named the URI.
        find: Returns what a suite's runs say, where that can be found out.

    Returns:
        How many suites were mirrored.
    """
    mirror = Mirror(store, uri, say, again, verify=True, named=named, request_s=ASKED_REQUEST_S)
    with mirror:
        faults: list[InputError] = []
        for manifest in store.manifests(faults=faults):
            mirror.begin()  # it imports meanwhile
            if not mirror.broken:
                mirror.update(manifest, find(manifest))
        for fault in faults:
            say(f"  left out: {one_line(str(fault))}")
        mirror.wait()
        return len(mirror.done)
