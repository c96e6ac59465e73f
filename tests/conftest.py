"""Options of the whole test suite."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--parity-dir",
        default=os.environ.get("SCA_BENCH_PARITY_DIR"),
        help="folder of recorded outputs of the original, or one variant's folder in it"
        " (default: the copies in tests/parity/fixtures)",
    )
