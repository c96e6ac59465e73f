"""What a worker process does about itself: its output and its end.

Signals that end a command reach all of its processes from a terminal or a batch system. Workers
do not meet them (`lifetime.stops.blocked`): their parent says when they end, with SIGUSR1, and one
that is in the middle of a training keeps first what it has.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from sca_bench.files import make_folder, open_to_write
from sca_bench.output import VisibleStream


def redirect(log_path: str) -> None:
    """Append all output of this process to a file, as UTF-8 whatever the locale says."""
    try:
        make_folder(Path(log_path).parent)
        log = open_to_write(Path(log_path), "a")
    except OSError as error:
        reason = error.strerror or error
        print(f"{log_path}: cannot be written ({reason}), so this process has no log", flush=True)
        log = open(os.devnull, "r+b")  # noqa: SIM115 (closed below)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    with log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = (
        VisibleStream(
            open(number, "wb", closefd=False),  # noqa: SIM115
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        for number in (1, 2)
    )
    logging.getLogger("transformers").setLevel(logging.ERROR)


def die_with_parent() -> None:
    """End this process when its parent is gone, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(143)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many threads inside; 0 changes nothing."""
    import torch  # here, so that a command asks for processes before it has torch itself

    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- being stopped --------------------------------------------------------------------------------

_GIVEN_UP_S = 5
"""Longest time between being told to stop, where nothing is to be kept, and the end."""


class ToldToStop(BaseException):
    """The parent wants this process to end.

    Attributes:
        step: How many steps of the training were made; what they gave is to be kept.
    """

    def __init__(self, step: int = 0) -> None:
        super().__init__(step)
        self.step = step


class _Told:
    """Whether this process was told to stop, and whether it will look by itself."""

    told = looks = False


_told = _Told()


def listen() -> None:
    """Raise `ToldToStop` when the parent says so, or let `is_told_to_stop` tell, where that looks.

    Called by the main thread of a process once, before its work.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _told.told = True
        if not _told.looks:
            signal.alarm(_GIVEN_UP_S)  # whatever swallows what is raised now
            raise ToldToStop

    signal.signal(signal.SIGUSR1, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))


def is_told_to_stop() -> bool:
    """Say whether the parent wants this process to end."""
    return _told.told


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """Have nothing raised inside, where the loop looks at `is_told_to_stop` itself."""
    _told.looks = True
    try:
        yield
    finally:
        _told.looks = False
    if _told.told:
        raise ToldToStop


def end_when_told() -> None:
    """End this process when the one it works for sends SIGTERM, and not when anybody else does."""
    parent = multiprocessing.parent_process()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if parent is None or signal.SIGTERM not in blocked or not hasattr(signal, "sigwaitinfo"):
        return

    def wait() -> None:
        while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent.pid:
            pass
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
