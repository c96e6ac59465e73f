"""Runs the contract on what a target names, and says of each check how it ended."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sca_bench.contract.find import find
from sca_bench.errors import InputError


def run(target: str, only: str = "") -> int:
    """Print how every check of a target ends; return 0 where all pass, 1 where one fails.

    Args:
        target: A module, a `.py` file, or a registered name.
        only: Leaves checks out whose name (or that of their spec) does not hold it; as pytest's -k.

    Raises:
        InputError: There is nothing to test, or pytest is not installed.
    """
    if find_spec("pytest") is None:
        fix = "pip install 'sca_bench[test]', or pip install pytest"
        raise InputError("test", "", "the contract is run by pytest, which is not installed", fix)
    import pytest

    from sca_bench.contract import plugin
    from sca_bench.contract.printed import Printed

    find(target)  # what is wrong with it is said here, in one line
    printed = Printed()
    with tempfile.TemporaryDirectory(prefix="sca_bench_test_") as folder, _pytest_by_itself():
        settings = Path(folder) / "pytest.ini"
        settings.write_text("[pytest]\n", encoding="utf-8")
        words = ["--sca-bench", target, "-c", str(settings), "--rootdir", folder]
        words += ["-p", "no:cacheprovider", *(["-k", only] if only else [])]
        code = pytest.main(words, plugins=[plugin, printed])
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        fix = "leave --only out to see the names of all checks"
        raise InputError("test", "--only", f"{only!r} matches no check of {target}", fix)
    printed.end()
    return 0 if code == pytest.ExitCode.OK else 1


@contextlib.contextmanager
def _pytest_by_itself() -> Iterator[None]:
    """Leave out options and plugins of pytest that are meant for the user's own tests."""
    names = ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    before = {name: os.environ.get(name) for name in names}
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
