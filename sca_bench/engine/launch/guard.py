"""One command at a time in a runs folder, which says there how far it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sca_bench.errors import InputError
from sca_bench.files import (
    drop_unfinished,
    inside,
    listed,
    make_folder,
    open_to_write,
    take_lock,
)
from sca_bench.lifetime import scratch
from sca_bench.output import say
from sca_bench.reading import RECORD_BYTES, read_text
from sca_bench.study.runs.heartbeat import HEARTBEATS, Pulse, clear_heartbeats
from sca_bench.study.runs.store import LOCK, SWEEPS

_TRIES, _PAUSE_S = 5, 0.1


def _taken(path: Path) -> int:
    """Take the lock, which `list runs` holds for a moment, too, to see whether anybody does."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            return take_lock(path, wait=False)
        time.sleep(_PAUSE_S)
    return take_lock(path, wait=False)


@contextmanager
def exclusive(root: Path, tell: Callable[[str], None] = say) -> Iterator[Pulse]:
    """Hold the runs folder; a second run into it is told so.

    Args:
        root: The runs folder.
        tell: Gets the line about heartbeats that cannot be written.

    Yields:
        What writes the command's heartbeats, which are deleted at the end.

    Raises:
        InputError: Another process holds it.
    """
    make_folder(root)
    path = root / LOCK
    try:
        lock = _taken(path)
    except BlockingIOError:
        holder = read_text(path, RECORD_BYTES).strip() or "another process"
        fix = "wait for it (`status` says how far it is), or give another --runs-dir"
        raise InputError(root, "", f"in use by process {holder}", fix) from None
    try:
        with suppress(OSError), open_to_write(path) as handle:
            handle.write(str(os.getpid()).encode())
        with suppress(OSError):
            scratch.sweep(root)
        _drop_unfinished(root)
        clear_heartbeats(root)  # of a command that was killed
        yield Pulse(root, tell=tell)
    finally:
        with suppress(OSError):
            clear_heartbeats(root)
        os.close(lock)


def _drop_unfinished(root: Path) -> None:
    """Delete files that killed commands were writing; runs are looked after where they go on."""
    with suppress(OSError):
        drop_unfinished(root, others_write=True)
        for folder in (root / "suites", root / SWEEPS, *listed(root / "stages")):
            with suppress(InputError):
                drop_unfinished(inside(root, folder), others_write=True)


def clear_left(root: Path) -> None:
    """Delete what a killed command left to say of itself, where nothing else is to be done."""
    if (root / HEARTBEATS).exists():
        with suppress(InputError, OSError), exclusive(root):
            pass
