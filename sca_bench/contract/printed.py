"""What `sca_bench test` prints: how every check ends, and of one that fails what to do."""

from __future__ import annotations

from collections import Counter

import pytest

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
            print(subject.replace(":", " ", 1))
        self._counts[report.outcome] += 1
        print(f"  {_WORDS[report.outcome]:<{_BREADTH}}{name}{_reason(report)}", flush=True)

    def end(self) -> None:
        """Print the last line."""
        count = sum(self._counts.values())
        parts = [f"{self._counts[word]} {word}" for word in _WORDS if self._counts[word]]
        print(f"{count} check{'s' * (count != 1)}: {', '.join(parts)}")


def _reason(report: pytest.TestReport) -> str:
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return f": {report.longrepr[2].removeprefix('Skipped: ')}"
    if report.outcome != "failed":
        return ""
    blanks = " " * (_BREADTH + 2)
    return "".join(f"\n{blanks}{line}" for line in report.longreprtext.splitlines())
