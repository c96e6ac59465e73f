"""A disk on which the k-th operation of `sca_bench.files` fails, in whichever process it happens.

The count is kept in memory that forked processes share, so it goes on in the workers of a run.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
from contextlib import suppress
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
        trace.touch()
        self._count = multiprocessing.get_context("fork").Value("i", 0)
        self._last, self._error = 0, ""

    def start(self, last: int = 0, error: str = "") -> None:
        """Count from here on; the operation number `last`, the first being 1, fails.

        Args:
            last: Its number; none fails where 0.
            error: Name of the error; with a `+` behind it, all later operations fail, too. `FSIZE`
                lets this process and its children write no file beyond so many KiB, whoever writes.
        """
        if error == "FSIZE":
            resource.setrlimit(resource.RLIMIT_FSIZE, (last * 1024, last * 1024))
            last = 0
        self._count.value, self._last, self._error = 0, last, error
        self.trace.write_text("")
        files.before_operation = self._before

    @property
    def operations(self) -> list[tuple[str, str]]:
        """What was done since the start, in order, and to what; not what is being written now."""
        lines = self.trace.read_text().splitlines(keepends=True)
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    def _before(self, what: str, path: Path) -> None:
        with self._count.get_lock():
            self._count.value += 1
            number = self._count.value
            with suppress(OSError), self.trace.open("a") as handle:
                handle.write(json.dumps([what, str(path)]) + "\n")
        lasts = self._error.endswith("+") and number > self._last > 0
        if number == self._last or lasts:
            code = getattr(errno, self._error.removesuffix("+"))
            raise OSError(code, os.strerror(code), str(path))
