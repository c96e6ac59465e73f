"""Options of the whole test suite."""

from __future__ import annotations

import io
import itertools
import os
import signal

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--parity-dir",
        default=os.environ.get("SCA_BENCH_PARITY_DIR"),
        help="folder of recorded outputs of the original, or one variant's folder in it"
        " (default: the copies in tests/parity/fixtures)",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two test processes; none beside the first for benchmarks, which print what they measured."""
    return 0 if "bench" in config.getoption("-m") else 2


def pytest_collection_modifyitems(config, items):
    """Skip benchmarks unless they are asked for."""
    if "bench" in config.getoption("-m"):
        return
    by_hand = pytest.mark.skip(reason="a benchmark, run by hand with -m bench")
    for item in items:
        if item.get_closest_marker("bench"):
            item.add_marker(by_hand)


@pytest.fixture
def die_after():
    """Return a function for a forked child: it is killed right after so many file operations."""

    def arm(last):
        if last == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        count = itertools.count(1)

        def deadly(module, name, counts=lambda *_, **__: True):
            real = getattr(module, name)

            def call(*arguments, **more):
                result = real(*arguments, **more)
                if counts(*arguments, **more) and next(count) >= last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(module, name, call)

        for name in ("replace", "fsync", "unlink", "mkdir"):
            deadly(os, name)
        deadly(io, "open", lambda path, mode="r", *_, **__: set(mode) & set("wax+"))

    return arm
