"""One command at a time in a runs folder, and an orderly end when a signal asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from sca_bench.errors import InputError
from sca_bench.files import make_folder, open_to_write, take_lock

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user or the system asked the run to stop; no `except Exception` may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the runs folder; a second run into it is told so.

    Raises:
        InputError: Another process holds it.
    """
    make_folder(root)
    path = root / ".lock"
    try:
        lock = take_lock(path, wait=False)
    except BlockingIOError:
        holder = path.read_text(encoding="utf-8").strip() or "another process"
        fix = "wait for it, or give another --runs-dir"
        raise InputError(root, "", f"in use by process {holder}", fix) from None
    try:
        with suppress(OSError), open_to_write(path) as handle:
            handle.write(str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that statuses come out right."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
