"""The process that writes a mirror; `sca_bench.engine.mlflow_mirror.mirror` starts it.

It reads what to do from its standard input, a JSON object a line, and answers on its standard
output in the same way. It ends when its input ends, so it never outlives the command, however that
ends. Signals are the command's business and never reach this process, and what MLflow prints goes
nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from sca_bench.engine.mlflow_mirror.faults import MirrorFault, is_passing, reason_of
from sca_bench.engine.mlflow_mirror.opening import (
    import_client,
    one_writer,
    open_client,
    set_damaged_aside,
)
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.errors import InputError
from sca_bench.lifetime import scratch
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

_TICK_S = 0.2
_SLOWEST_BYTES_S = 200_000
"""Bytes of a file that a server must take in a second."""
_NICE = 3
"""A run's own processes come first."""


class _Watched:
    """A client whose calls are told before and after, and may not take for ever.

    A server that sends a byte from time to time is never late for the HTTP library.
    """

    def __init__(self, client: Any, tell: Callable[..., None], longest_s: float) -> None:
        self._client, self._tell, self._longest_s = client, tell, longest_s
        self.until: float | None = None

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._client, name)

        def call(*arguments: Any, **more: Any) -> Any:
            longest_s = self._longest_s
            if name == "log_artifact":
                longest_s += Path(arguments[1]).stat().st_size / _SLOWEST_BYTES_S
            self.until = time.monotonic() + longest_s
            self._tell(asks=True)
            try:
                return function(*arguments, **more)
            finally:
                self.until = None
                self._tell(asks=False)

        return call


class _Child:
    def __init__(self, task: dict[str, Any], tell: Callable[..., None]) -> None:
        self.store, self.uri = Store(Path(task["root"])), str(task["uri"])
        self.verify, self.named = bool(task["verify"]), bool(task["named"])
        self.longest_s = float(task["longest_s"])
        self.tell = tell
        self.client: _Watched | None = None
        self.trackers: dict[str, Tracker] = {}
        self.manifests: dict[str, SuiteManifest] = {}

    def do(self, task: dict[str, Any]) -> None:
        """Write what a task asks for, and tell how it went."""
        name = str(task["suite"])
        manifest = SuiteManifest.model_validate(task["manifest"])
        if self.manifests.get(name) != manifest:
            self.manifests[name] = manifest
            self.trackers.pop(name, None)
        found = task.get("found")
        found = None if found is None else SuiteFindings.model_validate(found)
        try:
            with one_writer(self.store):
                if self.verify and (line := set_damaged_aside(self.store, self.uri)):
                    self.say(line)
                tracker = self._tracker(name)
                if "report" in task:
                    tracker.summarise(Path(task["report"]), found)
                else:
                    tracker.update(found)
        except Exception as error:
            self.client = None
            self.trackers.clear()
            own = isinstance(error, InputError | MirrorFault)  # other suites may go on
            reason, passing = reason_of(error, self.uri), is_passing(error)
            self.tell(done=name, reason=reason, passing=passing, own=own)
        else:
            self.tell(done=name)

    def say(self, line: str) -> None:
        self.tell(say=line)

    def _tracker(self, name: str) -> Tracker:
        if name not in self.trackers:
            self.trackers[name] = Tracker(
                self.store,
                self.manifests[name],
                self.uri,
                self.say,
                verify=self.verify,
                named=self.named,
                connect=self._connect,
            )
        return self.trackers[name]

    def _connect(self, store: Store, uri: str) -> Any:
        if self.client is None:
            self.client = _Watched(open_client(store, uri), self.tell, self.longest_s)
        return self.client

    def watch(self, parent: int) -> None:
        """End this process where a call takes too long, or its parent is gone."""
        while True:
            time.sleep(_TICK_S)
            if os.getppid() != parent:
                _leave()
            until = None if self.client is None else self.client.until
            if until is not None and time.monotonic() > until:
                reason = "the server does not answer in time"
                self.tell(done="", reason=reason, passing=False, own=False)
                _leave()


def _leave() -> None:
    """End this process at once, whatever it is at."""
    scratch.give_back()
    os._exit(0)


def main() -> None:
    """Do what is asked on standard input until that ends."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    out = _own_output()

    lock = threading.Lock()

    def tell(**message: Any) -> None:
        with lock, contextlib.suppress(OSError):
            out.write(json.dumps(message).encode() + b"\n")

    tasks: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            tasks.put(json.loads(line))
        _leave()

    first = json.loads(sys.stdin.buffer.readline())
    child = _Child(first, tell)
    threading.Thread(target=read, daemon=True).start()
    threading.Thread(target=child.watch, args=(int(first["parent"]),), daemon=True).start()
    import_client(child.uri)
    while True:
        child.do(tasks.get())


def _own_output() -> IO[bytes]:
    """Return what the parent reads, and let all that libraries print go nowhere."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return out
