"""A disk on which the k-th operation of `sca_bench.files` fails, in whichever process it happens.

The count is kept in memory that forked processes share, so it goes on in the workers of a run.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

from sca_bench import files

ERRORS = ("ENOSPC", "EIO", "EACCES")


class Disk:
    """Counts the operations from `start` on, and lets one of them fail.

    Args:
        trace: File that gets a line of JSON for each operation: what, and to which path.
    """

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self._count = multiprocessing.get_context("fork").Value("i", 0)
        self._last, self._error = 0, ""

    def start(self, last: int = 0, error: str = "") -> None:
        """Count from here on; the operation number `last`, the first being 1, fails."""
        self._count.value, self._last, self._error = 0, last, error
        self.trace.write_text("")
        files.before_operation = self._before

    @property
    def operations(self) -> list[tuple[str, str]]:
        """What was done since the start, in order, and to what."""
        return [tuple(json.loads(line)) for line in self.trace.read_text().splitlines()]

    def _before(self, what: str, path: Path) -> None:
        with self._count.get_lock():
            self._count.value += 1
            number = self._count.value
            with self.trace.open("a") as handle:
                handle.write(json.dumps([what, str(path)]) + "\n")
        if number == self._last:
            code = getattr(errno, self._error)
            raise OSError(code, os.strerror(code), str(path))
