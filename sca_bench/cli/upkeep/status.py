"""`status`: what runs, how far it is, and what failed and why; from any terminal, without torch."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sca_bench.cli.frame import CALL
from sca_bench.output import in_words, num_text, redrawn, say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.study.runs.heartbeat import Heartbeat
    from sca_bench.study.runs.status import FolderStatus, GroupState, SuiteState
    from sca_bench.study.runs.store import Store

_EVERY_S = 2.0
_MOST_BAD = 10
"""Runs that ended badly which are named of a suite; all of them stand in `list runs`."""
_COUNTED = ("running", "failed", "killed", "pruned", "damaged")
_LATE_S = 30.0
"""Age of a heartbeat that is told, though its process is there."""


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `status` to the command line."""
    status = commands.add_parser(
        "status",
        parents=[common],
        help="what runs, how far it is, what failed and why",
        description="Say what runs in a runs folder, since when, where and how far, and what failed"
        " and why. It only reads: ask from another terminal, or from another machine that sees the"
        " folder.",
        examples=(
            "status",
            "status mixer_layers",
            "status --watch           # again and again, until nothing runs",
            "status --watch 10 --json",
        ),
    )
    status.add_argument("suite", nargs="?", metavar="SUITE", help="a suite that was run here (all)")
    status.add_argument(
        "--watch",
        nargs="?",
        const=_EVERY_S,
        type=_seconds,
        metavar="SECONDS",
        help="show it anew every so many seconds (2) until nothing runs; Ctrl-C ends it",
    )
    status.add_argument("--json", action="store_true", help="print it as JSON, each time a line")
    status.set_defaults(execute=command)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400.0:
        fix = "give a number of seconds from 0.1 on, and name a suite before --watch"
        raise argparse.ArgumentTypeError(f"{text!r} is no time; {fix}")
    return value


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what goes on, once or until nothing runs; return the exit code."""
    from sca_bench.study.runs.status import folder_status
    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)

    def look() -> FolderStatus:
        return folder_status(store, options.suite)

    if options.watch is None:
        status = look()
        _emit(_printed(status, store, as_json=options.json), as_json=options.json)
    else:
        status = _watch(look, store, options.watch, as_json=options.json)
    for fault in status.faults:
        say(f"left out: {fault}", error=True)
    return 1 if status.faults else 0


def _watch(
    look: Callable[[], FolderStatus],
    store: Store,
    every_s: float,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> FolderStatus:
    """Show what goes on until nothing runs; return the last of it.

    On a terminal it is drawn in place of what was there; elsewhere, only what has changed is
    printed.
    """
    status = look()
    if as_json or not sys.stdout.isatty():
        before: list[str] = []
        while True:
            lines = list(_printed(status, store, as_json=as_json))
            new = lines if as_json else [line for line in lines if line not in before]
            _emit(new, as_json=as_json)
            before = lines
            if not status.runs:
                return status
            sleep(every_s)
            status = look()
    with redrawn() as draw:
        while True:
            draw(list(lines_of(status, store)))
            if not status.runs:
                return status
            sleep(every_s)
            status = look()


def _emit(lines: Iterable[str], *, as_json: bool) -> None:
    for line in lines:
        if as_json:
            print(line, flush=True)
        else:
            say(line, flush=True)


def _printed(status: FolderStatus, store: Store, *, as_json: bool) -> Iterator[str]:
    if not as_json:
        yield from lines_of(status, store)
        return
    import json

    yield json.dumps(json_of(status))


def json_of(status: FolderStatus) -> dict[str, Any]:
    """Return a status as plain JSON."""
    command = status.command
    return {
        "runs_dir": str(status.root),
        "time": status.now,
        "runs": status.runs,
        "is_silent": status.is_silent,
        "command": None if command is None else command.model_dump(exclude={"work"}),
        "groups": [
            {**one.work.model_dump(), "processes": [rank.model_dump() for rank in one.ranks]}
            for one in status.groups
        ],
        "suites": [
            {
                "suite": suite.name,
                "total": suite.total,
                **{name: suite.counts[name] for name in ("done", *_COUNTED, "missing")},
                "ended_badly": [dataclasses.asdict(run) for run in suite.bad],
            }
            for suite in status.suites
        ],
        "faults": [str(fault) for fault in status.faults],
    }


def lines_of(status: FolderStatus, store: Store) -> Iterator[str]:
    """Yield what a person is told."""
    if status.command is not None and (status.runs or _left_undone(status)):
        yield from _command_lines(status.command, status)
        for group in status.groups if status.runs else ():
            yield f"  {_group_line(group, status.now)}"
    elif status.holder:
        yield f"a command (process {status.holder}) works in {status.root}; it says no more"
    elif not status.suites:
        yield f"no run is in {status.root}; begin with: {CALL} run mixer_layers"
        return
    else:
        yield f"nothing runs in {status.root}"
    for suite in status.suites:
        yield _suite_line(suite, status)
        for run in suite.bad[:_MOST_BAD]:
            yield f"  {run.status.upper()} {run.name}: {run.reason or 'no reason is known'}"
            if run.log and run.log not in run.reason:
                yield f"    log: {run.log}"
        if (more := len(suite.bad) - _MOST_BAD) > 0:
            yield f"  and {more} more: list runs --suite {suite.name}"


def _left_undone(status: FolderStatus) -> bool:
    """Say whether a command that is gone has left anything to do."""
    return any(suite.counts["done"] < suite.total for suite in status.suites)


def _command_lines(command: Heartbeat, status: FolderStatus) -> Iterator[str]:
    name = command.suite or "a command"
    where = f"process {command.pid} on {command.host or 'an unknown machine'}"
    progress = [f"{command.done} of {command.total} runs done"] if command.total else []
    progress += [f"{command.failed} failed"] if command.failed else []
    if not status.runs:
        silent = in_words(command.silence_s(status.now))
        what = ", ".join((command.phase, *progress))
        gone = f"{where} is gone" if command.is_there() is False else where
        yield f"{name}: no sign for {silent} ({gone}); the same command goes on"
        yield f"  last seen: {what}"
        return
    since = in_words(max(0.0, status.now - command.started))
    phase = command.phase
    if command.steps and not command.work:
        phase += f" {command.step:,} of {command.steps:,}"
    elif command.steps:
        phase += f", {command.step:,} of {command.steps:,} images"
    if command.left_s is not None and command.phase == "training":
        progress.append(f"about {in_words(command.left_s)} left")
    silence = command.silence_s(status.now)
    progress += [f"last sign {in_words(silence)} ago"] if silence > _LATE_S else []
    yield f"{name}: {', '.join((phase, *progress))}"
    yield f"  for {since}, {where}"


def _group_line(group: GroupState, now: float) -> str:
    work, slowest = group.work, group.slowest
    took = in_words(max(0.0, now - work.since))
    if slowest is None:
        return f"{work.name}: {work.text or 'starting'}; for {took}"
    steps = f" of {slowest.steps:,}" if slowest.steps else ""
    far = f"{slowest.phase}, batch {slowest.step:,}{steps}"
    if slowest.phase == "training":
        loss = "" if slowest.loss is None else f", loss {slowest.loss:.2f}"
        far = f"step {slowest.step:,}{steps}{loss}"
    silence = slowest.silence_s(now)
    far += f", last sign {in_words(silence)} ago" if silence > _LATE_S else ""
    where = f"process {slowest.pid}"
    if len(group.ranks) > 1:
        hosts = ", ".join(dict.fromkeys(rank.host for rank in group.ranks))
        where = f"{len(group.ranks)} processes on {hosts}, this is the slowest"
    return f"{work.name}: {far}; for {took}, {where}"


def _suite_line(suite: SuiteState, status: FolderStatus) -> str:
    parts = [f"{suite.counts['done']} of {num_text(suite.total, 'run')} done"]
    parts += [f"{suite.counts[name]} {name}" for name in _COUNTED if suite.counts[name]]
    if suite.counts["missing"]:
        parts.append(f"{suite.counts['missing']} not started")
    line = f"{suite.name}: {', '.join(parts)}"
    if suite.changed and not status.runs:
        line += f"; last change {in_words(max(0.0, status.now - suite.changed))} ago"
    return line
