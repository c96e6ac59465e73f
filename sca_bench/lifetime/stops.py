"""A signal becomes one exception, one line and one exit code, from a command's first moment on.

Python raises `KeyboardInterrupt` for SIGINT only; SIGTERM and SIGHUP end a process without a word.
Libraries swallow exceptions that come from nowhere (SQLAlchemy rolls back and goes on). So all
three signals raise `Interrupted`, again every second until the command has taken notice, and a
command whose main thread does not answer at all is ended by another thread.

Nothing heavy is imported here: this is loaded before all else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S, _SOON_S = 1.0, 0.01
_PATIENCE_S = 10.0
"""A main thread that has not met a signal for so long is deep in code that is not Python."""


class Interrupted(KeyboardInterrupt):
    """The user or the system asked this process to stop; no `except Exception` may swallow it.

    Attributes:
        number: The signal, the first one of several.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code, as shells count it: 130, 143 or 129."""
        return 128 + self.number


class _Asked:
    """What this process was asked so far.

    Attributes:
        first: The first signal, 0 while there was none.
        times: How many there were.
        held: How many parts of the program want them only counted.
        is_on: Whether this module answers them.
    """

    first = times = held = 0
    is_on = False


_asked = _Asked()


def _stop(number: int, frame: FrameType | None) -> None:
    _asked.first = _asked.first or number
    _asked.times += 1
    if not _asked.held:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
        raise Interrupted(_asked.first)


def _stop_again(number: int, frame: FrameType | None) -> None:
    if _asked.first and not _asked.held:
        raise Interrupted(_asked.first)


def times_asked() -> int:
    """Return how many signals have asked this process to stop."""
    return _asked.times


def check() -> None:
    """Raise `Interrupted` if a signal came, whoever swallowed what it raised."""
    if _asked.first:
        raise Interrupted(_asked.first)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Only count signals inside, for what must not stop half-way."""
    _asked.held += 1
    try:
        yield
    finally:
        _asked.held -= 1


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` inside.

    A SIGHUP that is ignored stays so (`nohup`). Where they are answered already, or this is not the
    main thread, nothing changes.
    """
    if _asked.is_on:
        yield
        return
    _asked.first, _asked.times, _asked.held = 0, 0, 0  # of a command that has ended
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (*STOPS, signal.SIGALRM)}
    hook = sys.unraisablehook
    try:
        install()
        yield
    finally:
        _asked.held += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sys.unraisablehook = hook
        _asked.held, _asked.is_on = 0, False


def install(*, watch: bool = False) -> None:
    """Answer the three signals from now on.

    Args:
        watch: Let a thread end the process if its main thread does not answer.
    """
    if watch:
        source, target = os.pipe()
        os.set_blocking(target, False)
        signal.set_wakeup_fd(target, warn_on_full_buffer=False)
        with contextlib.suppress(RuntimeError):  # no more threads; one more line of defence is lost
            threading.Thread(target=_watch, args=(source,), daemon=True).start()
        atexit.register(_ignore)  # before all others, so it comes after them
    _asked.is_on = True
    sys.unraisablehook = _unraisable
    signal.signal(signal.SIGALRM, _stop_again)
    _handle(_stop)


def settle(code: int) -> None:
    """Let no signal change how this process ends, now that its work is done; one ends it at once.

    Args:
        code: Its exit code.
    """
    _handle(lambda *_: end(code))


def _ignore() -> None:
    """Ignore the signals while Python itself ends, which would take its handlers away first."""
    _handle(signal.SIG_IGN)


def _handle(handler: Any) -> None:
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _unraisable(fault: sys.UnraisableHookArgs) -> None:
    """Say what was raised where nothing can be raised; `Interrupted` is raised again anyway."""
    if not issubclass(fault.exc_type, Interrupted):
        sys.__unraisablehook__(fault)


def _watch(source: int) -> None:
    """End the process once a signal was not met by the main thread for long."""
    while number := os.read(source, 1):
        until = time.monotonic() + _PATIENCE_S
        while number[0] in STOPS and not _asked.first:
            if time.monotonic() > until:
                end(say(Interrupted(number[0])))
            time.sleep(0.1)


def say(error: BaseException) -> int:
    """Print the line about a stop, or about what came of one; return the exit code."""
    _asked.held += 1  # it is taken notice of, and nothing else comes of it
    if not isinstance(error, Interrupted):
        error = Interrupted(_asked.first or signal.SIGINT)
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        sys.stdout.flush()
        print(f"stopped by {error}; run the same command again to go on", file=sys.stderr)
    return error.code


_at_end: list[Callable[[], None]] = []


def at_end(clear_away: Callable[[], None]) -> None:
    """Have something done even where `end` passes over all that libraries do at an exit."""
    _at_end.append(clear_away)


def end(code: int) -> NoReturn:
    """End this process at once with an exit code; what was printed is shown."""
    for clear_away in _at_end:
        with contextlib.suppress(Exception):
            clear_away()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Let processes that are started inside never meet the three signals.

    A terminal and a batch system send them to all processes of a group. What is started inside
    ends when this process says so, or with it. A signal that comes meanwhile, which another thread
    may take, is answered right after: in the middle, nobody would know of the new process.
    """
    times = _asked.times
    try:
        with held():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, signal.SIGUSR1))
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        if _asked.times > times and not _asked.held:
            signal.setitimer(signal.ITIMER_REAL, _SOON_S, _AGAIN_S)


def start_child(command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    """Start a program that never meets the three signals; see `blocked`.

    Args:
        command: The program and its arguments.
        **more: As `subprocess.Popen` takes it.

    Raises:
        OSError: It does not start.
    """
    import subprocess

    with blocked():
        return subprocess.Popen(command, **more)


def run_child(
    command: Sequence[str], *, input: bytes | None = None, timeout: float | None = None, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, as `start_child` starts it; it ends with what waits for it.

    Args:
        command: The program and its arguments.
        input: What it reads from its standard input.
        timeout: Seconds after which it is killed.
        **more: As `subprocess.Popen` takes it.

    Raises:
        OSError: It does not start.
        subprocess.TimeoutExpired: It took longer.
    """
    import subprocess

    if input is not None:
        more["stdin"] = subprocess.PIPE
    with start_child(command, **more) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
