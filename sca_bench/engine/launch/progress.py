"""What a person sees while a suite runs: live lines on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sca_bench.output import one_line

PLAIN_EVERY_S = 15.0
_WIDEST = 24
"""Signs of a group's name that leave room for its bar, step and time on a narrow terminal."""
_BESIDE_BAR = _WIDEST + 46
"""Columns of name, step, loss, elapsed and left time, with what parts them."""
_BAR = 24
_LONGEST_LINE = 110
_LONGEST_LEGEND = 200


class RunProgress:
    """Progress of a suite and of the groups that are running.

    Args:
        console: Where to write; a terminal that can move its cursor gets live bars, anything else
            plain lines.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=max(4, min(_BAR, console.width - _BESIDE_BAR))),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=console,
                transient=True,
            )
        self._tasks: dict[str, TaskID] = {}
        self._labels: dict[str, str] = {}
        self._said, self._last = 0.0, ""

    def __enter__(self) -> RunProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.console.print(one_line(line), highlight=False, markup=False, soft_wrap=True)

    def label(self, name: str) -> str:
        """Return what a group is called in lines that change: its name, or a number for a long one.

        What such a number stands for is said once.
        """
        if len(one_line(name)) <= _WIDEST:
            return one_line(name)
        if name not in self._labels:
            self._labels[name] = f"group {len(self._labels) + 1}"
            self.say(f"  {self._labels[name]}: {cut_names(name)}")
        return self._labels[name]

    def update(
        self, name: str, done: float, total: float, text: str, left_s: float | None = None
    ) -> None:
        """Show where one group is.

        Args:
            name: The group.
            done: Steps done.
            total: Steps in all.
            text: What it is doing.
            left_s: Seconds that it still takes, as far as known.
        """
        if self._live is None:
            return
        if name not in self._tasks:
            label = self.label(name)
            self._tasks[name] = self._live.add_task(label, total=total, text="", left="")
        left = "" if left_s is None else f"{clock_text(left_s)} left"
        self._live.update(
            self._tasks[name], completed=done, total=total, text=one_line(text), left=left
        )

    def finish(self, name: str) -> None:
        """Take a group off the display."""
        if self._live is not None and name in self._tasks:
            self._live.remove_task(self._tasks.pop(name))

    def heartbeat(self, line: str) -> None:
        """Say a plain line now and then where there is no live display, and none twice."""
        if self._live is None and time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            if line != self._last:
                self._last = line
                self.say(line)


def clock_text(seconds: float) -> str:
    """Return a time as a clock shows it: `0:40`, `2:10`, `1:02:33`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def cut_names(text: str, longest: int = _LONGEST_LEGEND) -> str:
    """Return names that are parted by commas, the last ones only counted where there are many.

    Args:
        text: `A, B, C; seeds 0, 1`; what follows the semicolon stays.
        longest: Characters of all of it, about.
    """
    if len(text) <= longest:
        return text
    names, mark, rest = text.rpartition("; seed")
    if not mark:
        names, rest = text, ""
    kept: list[str] = []
    each = names.split(", ")
    for name in each:
        if kept and sum(map(len, kept)) + 2 * len(kept) + len(name) > longest - len(rest) - 20:
            break
        kept.append(name)
    more = len(each) - len(kept)
    return ", ".join(kept) + (f" and {more} more" if more else "") + mark + rest


def plain_line(head: str, groups: Iterable[str]) -> str:
    """Return a line about the whole and its groups, the last ones only counted where it is long."""
    line, left = head, list(groups)
    while left and len(line) + len(left[0]) <= _LONGEST_LINE:
        line += f"; {left.pop(0)}"
    if left:
        more = f"{len(left)} more" if line != head else f"{len(left)}"
        line += f"; {more} group{'s' if len(left) > 1 else ''} at work"
    return line


def counted_text(counts: Sequence[tuple[str, int, int]]) -> str:
    """Return how far several processes are that prepare inputs together.

    Args:
        counts: What each is at, and how many images of how many are done.

    Returns:
        `features of train: 420 of 1,500 images`, or that it is too early to tell.
    """
    sums: dict[str, tuple[int, int]] = {}
    for what, done, total in counts:
        before = sums.get(what, (0, 0))
        sums[what] = (before[0] + done, before[1] + total)
    if not sums:
        return "data and weights are read"
    return ", ".join(
        f"{what}: {done:,} of {total:,} images" for what, (done, total) in sums.items()
    )


def eta_text(fraction: float, left_s: float | None) -> str:
    """Return `12 %, about 3 min left`, or just the share while it is too early to tell.

    Args:
        fraction: What is done.
        left_s: Seconds that are left; None while nothing is known of them.
    """
    share = f"{100 * fraction:.0f} %"
    if left_s is None:
        return share
    return (
        f"{share}, about {left_s / 60:.0f} min left"
        if left_s >= 90
        else f"{share}, {left_s:.0f} s left"
    )
