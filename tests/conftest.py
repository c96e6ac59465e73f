"""Options of the whole test suite."""

from __future__ import annotations

import os
from pathlib import Path

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


# Tests whose programs use all cores, or that kill them and wait: one after the other, in one of the
# test processes, while the others go through the rest (`--dist loadgroup`).
TOGETHER = ("engine", "photos")


def pytest_collection_modifyitems(config, items):
    """Keep tests that start programs together; skip benchmarks unless they are asked for."""
    tests = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(tests)
        group = "programs" if path.parts[0] in TOGETHER else path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
    if "bench" in config.getoption("-m"):
        return
    by_hand = pytest.mark.skip(reason="a benchmark, run by hand with -m bench")
    for item in items:
        if item.get_closest_marker("bench"):
            item.add_marker(by_hand)
