"""The command line in tests: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def hear_hang_ups():
    """Let processes that are started from here end by SIGHUP and SIGINT, whoever started this one.

    `nohup` lets all that it starts ignore the one, a shell script what it starts behind it the
    other; this process goes on ignoring them.
    """
    for name in ("SIGHUP", "SIGINT"):
        kind = getattr(signal, name, None)
        if kind is not None and signal.getsignal(kind) == signal.SIG_IGN:
            signal.signal(kind, lambda *_: None)  # what is started begins with the default


def run_here(*words, cwd, code=0):
    """Run a command in this process; return what it printed.

    Workers still are processes of their own. Their server starts once for a whole test session,
    which spares each command the seconds of importing torch twice.
    """
    from sca_bench.cli import main

    out = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            found = main([*map(str, words)])
        except SystemExit as stop:
            found = stop.code
    if found == 128 + signal.SIGINT != code:
        raise KeyboardInterrupt  # meant for the tests
    assert found == code, out.getvalue()
    return out.getvalue()


def start(*words, cwd, site=None, **more):
    """Start the command as a process; `site` is a folder of further installed packages."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (ROOT, site)))),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "sca_bench", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def finish(process, code=0):
    """Wait for a process that was started; return what it printed."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == code, out
    return out


def wait_for(condition, process, seconds=600, poll_s=0.01):
    """Wait until something is so while a process runs; it must not end before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(poll_s)
    process.kill()
    raise AssertionError(f"nothing happened in {seconds} s: {process.communicate()[0]}")
