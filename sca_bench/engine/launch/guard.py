"""One command at a time in a runs folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sca_bench.errors import InputError


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the runs folder; a second run into it is told so.

    Raises:
        InputError: Another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            fix = "wait for it, or give another --runs-dir"
            raise InputError(root, "", f"in use by process {holder}", fix) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
