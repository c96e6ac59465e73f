"""One command at a time in a runs folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sca_bench.errors import InputError
from sca_bench.files import make_folder, open_to_write, take_lock


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
