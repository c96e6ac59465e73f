"""A pytest plugin that runs our contract on every spec of a module.

    pytest -p sca_bench.contract.plugin --sca-bench my_package

`--sca-bench` takes what `sca_bench test` takes, and may stand there several times. Without paths
pytest runs the contract alone; with paths, what it collects there as well. The plugin is loaded by
`-p` only, or by `pytest_plugins = ["sca_bench.contract.plugin"]` in a `conftest.py` at the root.
Options of pytest such as `-k`, `-x`, `-n` and `--junitxml` work as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sca_bench.contract.broken import Broken
from sca_bench.contract.find import Tested, check_names, find
from sca_bench.contract.spec import SpecContract
from sca_bench.errors import InputError

REGISTERED = "can_be_registered"
"""The check whose failure leaves nothing else to test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--sca-bench`."""
    group = parser.getgroup("sca_bench")
    group.addoption(
        "--sca-bench",
        action="append",
        default=[],
        metavar="MODULE",
        help="run sca_bench's contract on the specs of a module, a .py file, or a registered name",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the contract alone where no path is given."""
    asked = config.getoption("--sca-bench")
    if asked and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Add the checks of what `--sca-bench` names to what was collected."""
    for target in session.config.getoption("--sca-bench"):
        try:
            tested = find(target)
        except InputError as error:
            raise pytest.UsageError(str(error)) from error
        for one in tested:
            collector = Checks.from_parent(session, name=f"{one.kind}:{one.name}", tested=one)
            items += session.genitems(collector)


class Checks(pytest.Collector):
    """The checks of one spec."""

    def __init__(self, *, tested: Tested, **more: Any) -> None:
        super().__init__(**more)
        self.tested = tested

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item a check; one alone where the spec cannot be registered."""
        names = [REGISTERED]
        if not self.tested.fault:
            contract = self.tested.contract()
            names += [name.removeprefix("test_") for name in check_names(contract())]
        for name in names:
            yield Check.from_parent(self, name=name)


class Check(pytest.Item):
    """One check of one spec."""

    parent: Checks

    def runtest(self) -> None:
        """Run it as pytest runs a method of a class."""
        tested = self.parent.tested
        if self.name == REGISTERED:
            if tested.fault:
                rule = f"a spec that can be registered as a {tested.kind}"
                raise Broken(rule, f"it {tested.fault}", "correct the spec")
            return
        case: SpecContract = tested.contract()()
        case.setup_method()
        try:
            getattr(case, f"test_{self.name}")()
        finally:
            case.teardown_method()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what was expected, what came and what to do; a traceback of other errors."""
        error = excinfo.value
        if isinstance(error, Broken):
            return str(error)
        rule = getattr(self.parent.tested.contract(), f"test_{self.name}").__doc__
        shown = Broken(rule, f"{type(error).__name__}: {error}", "correct what raises it")
        return f"{shown}\n{super().repr_failure(excinfo, style or 'short')}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return how pytest calls it."""
        return self.path, None, f"{self.parent.name}: {self.name}"
