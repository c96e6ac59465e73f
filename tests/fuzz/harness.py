"""The frame of fuzzing: many damaged inputs to one reader, in child processes with limits.

A *target* is a kind of input: how to make damaged ones, and the code that reads them. A reader may
return, or raise `InputError`. Everything else is a finding: another exception, a crash, an input
that takes too long or too much memory, a process that is started, a file that is written outside of
the input's own folder.

    python tests/fuzz/run.py --seed 16 --number 10000          # every target
    python tests/fuzz/run.py predictions --only 1234           # one input again, in this process

The input of a target depends on the seed and its own number only, so each finding can be repeated.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError

LIMIT_S = 5.0
"""Seconds that one input may take."""
LIMIT_BYTES = 2 * 2**30
"""Memory that the inputs of one process may take beside what it had."""
_BATCH = 250
"""Inputs of one child process, so that no leak adds up over a whole target."""
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system"}
"""What Python audits when a process is started."""
_CHANGES = {
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "shutil.rmtree": (0,),
}
"""What Python audits when the disk is changed, and which arguments are the paths."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: What the command line calls it.
        seeds: Called once with an empty folder; writes good inputs into it, which are read only.
        damage: Called with a random source, the folder of seeds and an empty folder; writes one
            damaged input into the latter.
        check: Called with the folder that `damage` filled; reads it as a command would.
        number: Inputs that the whole run gives it.
        may_start: Whether `check` may start processes of Python (a child with limits of its own).
        accepted: Exceptions beside `InputError` that a command turns into one line, too.
    """

    name: str
    seeds: Callable[[Path], None]
    damage: Callable[[random.Random, Path, Path], None]
    check: Callable[[Path], None]
    number: int = 10_000
    may_start: bool = False
    accepted: tuple[type[BaseException], ...] = ()


@dataclass
class Finding:
    """An input that was not taken well."""

    target: str
    seed: int
    index: int
    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.target} --seed {self.seed} --only {self.index}: {self.what}"


@dataclass
class Result:
    """What came of a target."""

    target: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    most_mib: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.target:24} {self.inputs:7} inputs, {self.refused:7} refused, "
            f"{len(self.findings):3} findings, {self.seconds:6.0f} s, "
            f"slowest {self.slowest_s:.2f} s, {self.most_mib:5.0f} MiB more at most"
        )


# --- one input --------------------------------------------------------------------------------


class _Watch:
    """Notes processes that are started and files that are changed outside a folder."""

    def __init__(self) -> None:
        self.folder = ""
        self.may_start = False
        self.seen: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event in _STARTS:
            if not self.may_start or event in {"os.system", "os.exec"}:
                self._note(f"starts a process ({event} {str(arguments[:2])[:200]})")
        elif event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            writes = writes or set(mode or "") & set("wax+")
            if writes and isinstance(path, str | bytes | os.PathLike):
                self._changed("opens for writing", path)
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                self._changed(event, arguments[place])

    def _changed(self, how: str, path: Any) -> None:
        if isinstance(path, int):
            return
        folder, self.folder = self.folder, ""  # `realpath` is audited, too
        real = os.path.realpath(os.fsdecode(path))
        self.folder = folder
        if not f"{real}/".startswith(f"{folder}/") and real != os.devnull:
            self._note(f"{how} outside of its folder: {real}")

    def _note(self, what: str) -> None:
        if len(self.seen) < 5:
            self.seen.append(what)


_watch: _Watch | None = None


def watched() -> _Watch:
    """Return the watch of this process; an audit hook cannot be taken away, so there is one."""
    global _watch
    _watch = _watch or _Watch()
    return _watch


@contextlib.contextmanager
def _inside(target: Target, folder: Path) -> Iterator[_Watch]:
    """Read inside a folder of its own: current and temporary folder lie there."""
    watch = watched()
    before, tempdir, writes_bytecode = Path.cwd(), tempfile.tempdir, sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # of modules that only this input imports
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    watch.seen, watch.may_start, watch.folder = [], target.may_start, os.path.realpath(folder)
    try:
        yield watch
    finally:
        watch.folder = ""
        os.chdir(before)
        tempfile.tempdir, sys.dont_write_bytecode = tempdir, writes_bytecode


def try_one(target: Target, seeds: Path, seed: int, index: int, work: Path) -> tuple[str, str]:
    """Give one damaged input to a target's reader.

    Returns:
        What is wrong and its details, both empty if nothing is; "refused" where the reader did.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    target.damage(random.Random(f"{target.name} {seed} {index}"), seeds, work)
    outcome, detail = "", ""
    with _inside(target, work) as watch:
        try:
            target.check(work)
        except (InputError, *target.accepted) as error:
            outcome, detail = _refused(str(error))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]}"
            detail = "".join(traceback.format_exception(error)[-6:])
    if watch.seen:
        return watch.seen[0], "\n".join(watch.seen)
    return outcome, detail


def _refused(line: str) -> tuple[str, str]:
    """Return what is wrong with a refusal, and its beginning; "refused" if nothing is."""
    wrong = {
        f"a message of {len(line)} characters": len(line) > 4_000,
        "a message of several lines": len(line.splitlines()) > 1,
        "a message of what a link leads to": "root:x:" in line,
    }
    return next(((what, line[:300]) for what, is_so in wrong.items() if is_so), ("refused", ""))


# --- many -------------------------------------------------------------------------------------


def fuzz(
    target: Target, seed: int, number: int, *, until: float = float("inf"), most_findings: int = 20
) -> Result:
    """Give a target `number` damaged inputs, in child processes with limits of time and memory.

    Args:
        target: What is read.
        seed: Decides, together with an input's number, what it is.
        number: How many inputs.
        until: `time.monotonic()` at which no further input is begun; one always is.
        most_findings: Findings after which the target is left.
    """
    result, began = Result(target.name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        seeds, work = Path(made, "seeds"), Path(made, "work")
        seeds.mkdir()
        target.seeds(seeds)
        index = 0
        while index < number and len(result.findings) < most_findings:
            if index and time.monotonic() >= until:
                break
            stop = min(index + _BATCH, number)
            index = _batch(target, seeds, seed, range(index, stop), work, result, until)
    result.seconds = time.monotonic() - began
    return result


def _batch(
    target: Target, seeds: Path, seed: int, indices: range, work: Path, result: Result, until: float
) -> int:
    """Run inputs in a child; return the number of the input that comes next."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _child(target, seeds, seed, indices, work, write_end, until)
    os.close(write_end)
    following, current, detail = indices.start, -1, []
    since = time.monotonic()
    buffer = b""
    os.set_blocking(read_end, False)
    hung = False
    while True:
        try:
            piece = os.read(read_end, 65_536)
        except BlockingIOError:
            if current >= 0 and time.monotonic() - since > 2 * LIMIT_S + 5 and not hung:
                hung = True
                _kill(child)
            time.sleep(0.002)
            continue
        if not piece:
            break
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            kind, _, rest = line.decode("utf-8", "replace").partition(" ")
            if kind == "begin":
                current, since, detail = int(rest), time.monotonic(), []
            elif kind == "detail":
                detail.append(rest)
            elif kind == "end":
                took, mib, outcome = rest.split(" ", 2)
                result.inputs += 1
                result.slowest_s = max(result.slowest_s, float(took))
                result.most_mib = max(result.most_mib, float(mib))
                if float(took) > LIMIT_S:
                    outcome = f"took {float(took):.1f} s"
                if outcome == "refused":
                    result.refused += 1
                elif outcome:
                    text = "\n".join(detail)
                    result.findings.append(Finding(target.name, seed, current, outcome, text))
                following, current = current + 1, -1
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    _kill(child)  # what it has left behind
    code = os.waitstatus_to_exitcode(status)
    if current >= 0:
        result.inputs += 1
        what = "does not end" if hung else f"ends the process ({_how(code)})"
        result.findings.append(Finding(target.name, seed, current, what))
        following = current + 1
    elif code:
        raise RuntimeError(f"the child of {target.name} ended with {code} between two inputs")
    elif following == indices.start:
        return indices.stop  # time is up
    return following


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"code {code}"


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _child(
    target: Target,
    seeds: Path,
    seed: int,
    indices: range,
    work: Path,
    out: int,
    until: float,
) -> None:
    try:
        os.setpgid(0, 0)
        faulthandler.disable()  # a crash is reported as a finding
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with open(os.devnull, "r+b") as nowhere:
            for number in (0, 1, 2):
                os.dup2(nowhere.fileno(), number)
        now = _mib("VmData")
        most = int(now * 2**20) + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        at_first = _mib("VmHWM")
        for index in indices:
            if index and time.monotonic() >= until:
                break
            os.write(out, b"begin %d\n" % index)
            began = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 2 * LIMIT_S)  # the default action ends it
            outcome, detail = try_one(target, seeds, seed, index, work)
            signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.monotonic() - began
            lines = "".join(f"detail {line}\n" for line in detail[-3_000:].splitlines())
            more = max(0.0, _mib("VmHWM") - at_first)
            last = f"end {took:.4f} {more:.1f} {' '.join(outcome.split())}\n"
            os.write(out, (lines + last).encode("utf-8", "backslashreplace"))
        os._exit(0)
    except BaseException:
        os.write(out, f"detail {traceback.format_exc()}\n".replace("\n", " ").encode() + b"\n")
        os._exit(70)


def _mib(what: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0
