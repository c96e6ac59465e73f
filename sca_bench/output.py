"""What commands print: streams that never stop the work, and text that is shown as it was written.

A reader may close the pipe, a disk may be full, an encoding may lack a sign, the shell may have
closed a stream before the command began. None of this is a fault of the work, and libraries answer
it in their own ways (rich ends the process with exit code 1). So it is met at the lowest place,
where bytes are handed to the system.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console
    from rich.table import Table

UNREAD = 128 + signal.SIGPIPE
"""Exit code of a command that ended because nobody read it any more, as shells count it."""


_NARROWEST, _USUAL_WIDTH = 20, 80
"""Columns of a terminal below which no table fits, and those that are assumed instead."""


class _Output(io.FileIO):
    """A standard stream; what cannot be written any more is dropped.

    Attributes:
        ends: Whether the command has nothing to do but to print, and ends with its reader.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.ends = self._lost = False

    def write(self, data: ReadableBuffer) -> int:
        """Write, or drop; a disk that is full is said once."""
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                self._lose(error)
        return memoryview(data).nbytes

    def _lose(self, error: OSError) -> None:
        broken = isinstance(error, BrokenPipeError)
        if self.ends:
            if broken:
                raise SystemExit(UNREAD)
            raise OSError(error.errno, error.strerror, "stdout")
        if self.fileno() == 1 and not broken:
            print(f"stdout: {error.strerror}; the work goes on unseen", file=sys.stderr)


class _Stream(io.TextIOWrapper):
    """Standard output or error over an `_Output`."""

    def __init__(self, like: io.TextIOWrapper, descriptor: int) -> None:
        self.output = _Output(descriptor)
        buffered: Any = self.output if like.write_through else io.BufferedWriter(self.output)
        super().__init__(
            buffered,
            encoding=like.encoding,
            errors="backslashreplace",
            line_buffering=like.line_buffering,
            write_through=like.write_through,
        )


def guard_streams() -> None:
    """Let nothing about standard output and error stop this process.

    Streams that were closed from the start lead nowhere. Signs that an encoding lacks are written
    with a backslash and their number. Streams that somebody put in their place (a test, a notebook)
    are left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would be taken for this stream
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # so for children, too
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2)


def _guarded(stream: Any, original: Any, descriptor: int) -> Any:
    if stream is None:
        stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 (lives as long as the process)
    elif stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return _Stream(stream, descriptor)


def end_with_reader() -> None:
    """Let this process end, with `UNREAD`, as soon as nobody reads its standard output."""
    if isinstance(sys.stdout, _Stream):
        sys.stdout.output.ends = True


def takes_any_sign(stream: TextIO) -> bool:
    """Say whether a stream's encoding has all of Unicode."""
    return (stream.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")


# --- numbers and times -----------------------------------------------------------------------


def num_text(count: int, noun: str) -> str:
    """Return a count and its noun: `1 run`, `2 runs`, `1,000 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def in_words(seconds: float) -> str:
    """Return `45 s`, `2 min 25 s` or `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


# --- rich ---------------------------------------------------------------------------------------


def text_console() -> Console:
    """Return a console that shows every text as it is written.

    Names of cells, suites and files may hold what rich takes for markup or an emoji: `[bold]`,
    `[/]`, `:smile:`.
    """
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if console.width < _NARROWEST:  # a wrong COLUMNS, in which a table would vanish
        console.width = _USUAL_WIDTH
    return console


def text_table(*columns: str, right: Collection[str] = (), title: str | None = None) -> Table:
    """Return a table without lines; what does not fit is folded, never cut.

    Args:
        columns: Their heads.
        right: Those that are set to the right.
        title: Stands above it.
    """
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left")
    for column in columns:
        justify: Any = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold")
    return table
