"""What `sca_bench test` prints: how every check ends, and of one that fails what to do."""

from __future__ import annotations

from collections import Counter

import pytest

from sca_bench.output import say

_WORDS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
_BREADTH = max(map(len, _WORDS.values())) + 2


class Printed:
    """Prints in the place of pytest's own reporter."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last = ""

    @pytest.hookimpl(trylast=True)  # pytest's own reporter is there by then
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the place of pytest's own reporter."""
        manager = config.pluginmanager
        manager.unregister(manager.get_plugin("terminalreporter"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print how a check ended."""
        if report.when != "call":
            return
        subject, _, name = report.location[2].partition(": ")
        if subject != self._last:
            self._last = subject
            say(subject.replace(":", " ", 1))
        self._counts[report.outcome] += 1
        say(f"  {_WORDS[report.outcome]:<{_BREADTH}}{name}{_skipped(report)}", flush=True)
        if report.outcome == "failed":
            for line in report.longreprtext.splitlines():
                say(" " * (_BREADTH + 2) + line, flush=True)

    def end(self) -> None:
        """Print the last line."""
        count = sum(self._counts.values())
        parts = [f"{self._counts[word]} {word}" for word in _WORDS if self._counts[word]]
        print(f"{count} check{'s' * (count != 1)}: {', '.join(parts)}")


def _skipped(report: pytest.TestReport) -> str:
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return f": {report.longrepr[2].removeprefix('Skipped: ')}"
    return ""
