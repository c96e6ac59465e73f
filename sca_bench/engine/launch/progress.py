"""What a person sees while a suite runs: live lines on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sca_bench.output import one_line

PLAIN_EVERY_S = 15.0
_WIDEST = 24
"""Signs of a group's name that leave room for its bar, step and time on a narrow terminal."""


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
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
        self._tasks: dict[str, TaskID] = {}
        self._labels: dict[str, str] = {}
        self._said = 0.0

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
            self.say(f"  {self._labels[name]}: {name}")
        return self._labels[name]

    def update(self, name: str, done: float, total: float, text: str) -> None:
        """Show where one group is.

        Args:
            name: The group.
            done: Steps done.
            total: Steps in all.
            text: What it is doing.
        """
        if self._live is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(self.label(name), total=total, text="")
        shown = one_line(text)
        self._live.update(self._tasks[name], completed=done, total=total, text=shown)

    def finish(self, name: str) -> None:
        """Take a group off the display."""
        if self._live is not None and name in self._tasks:
            self._live.remove_task(self._tasks.pop(name))

    def heartbeat(self, line: str) -> None:
        """Say a plain line now and then where there is no live display."""
        if self._live is None and time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            self.say(line)


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
