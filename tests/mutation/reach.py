"""Which lines each test reaches, and which tests are worth running against a fault."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from small_faults import Fault

Lines = dict[str, set[int]]


class Recorder:
    """A pytest plugin that notes lines and seconds of every test that passes.

    What a fixture of a module or session runs counts for every test that asks for it. Lines that
    run in other processes are not seen.
    """

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.tests: dict[str, dict[str, Any]] = {}
        self.failed: list[str] = []
        self._files: dict[CodeType, set[int] | None] = {}
        self._collected: list[Lines] = [defaultdict(set)]
        self._of_fixture: dict[tuple[str, str], Lines] = {}
        self._begun = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Follow one test, its fixtures included."""
        self._collected = [defaultdict(set)]
        self._begun = time.perf_counter()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            seconds = time.perf_counter() - self._begun
            lines = self._collected[0]
            names = set(getattr(item, "fixturenames", ()))
            for (name, place), shared in self._of_fixture.items():
                if name in names and item.nodeid.startswith(place):
                    _merge(lines, shared)
            of_test = {file: sorted(numbers) for file, numbers in sorted(lines.items())}
            self.tests[item.nodeid] = {"seconds": round(seconds, 4), "lines": of_test}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[Any]:
        """Keep what a fixture reaches that several tests share."""
        if fixturedef.scope == "function":
            return (yield)
        self._collected.append(defaultdict(set))
        try:
            return (yield)
        finally:
            lines = self._collected.pop()
            place = request.node.nodeid if fixturedef.scope != "session" else ""
            self._of_fixture[fixturedef.argname, place] = lines
            _merge(self._collected[-1], lines)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what fails without any fault."""
        if report.failed or (report.skipped and report.when == "setup"):
            self.failed.append(report.nodeid)

    def answer(self) -> dict[str, Any]:
        """Return what was seen of the tests that pass, and the names of the others."""
        failed = set(self.failed)
        passed = {name: row for name, row in self.tests.items() if name not in failed}
        return {"passed": passed, "failed": sorted(failed)}

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self.root):
            return None
        relative = frame.f_code.co_filename[len(self.root) :]
        if not relative.startswith("sca_bench/"):
            return None
        self._collected[-1][relative].add(frame.f_lineno)

        def line(inner: FrameType, event: str, argument: object) -> Any:
            if event == "line":
                self._collected[-1][relative].add(inner.f_lineno)
            return line

        return line


def _merge(into: Lines, other: Lines) -> None:
    for file, numbers in other.items():
        into[file] |= numbers


class Reach:
    """The lines that recorded tests reach."""

    def __init__(self, tests: dict[str, dict[str, Any]]) -> None:
        self._tests = tests
        self._by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._by_file: dict[str, set[str]] = defaultdict(set)
        for name, row in self._tests.items():
            for file, numbers in row["lines"].items():
                self._by_file[file].add(name)
                for number in numbers:
                    self._by_line[file, number].add(name)
        self.kills: dict[tuple[str, str], int] = defaultdict(int)
        """(File with a fault, file of tests) -> how many faults it has noticed so far."""

    def seconds(self, tests: list[str]) -> float:
        """Return how long tests took while their lines were recorded."""
        return sum(self._tests[name]["seconds"] for name in tests)

    def tests_of(self, fault: Fault, guards: dict[str, str]) -> tuple[list[str], list[str]]:
        """Return the tests that reach a fault, and the others that reach its file.

        A fault outside of functions is reached by whatever is imported, so any test may notice it;
        the tests of files that speak of its class or constant come first.

        Args:
            fault: The fault.
            guards: Files of tests that may be used, with their text.
        """
        first, last = fault.lines
        near: set[str] = set()
        if fault.in_function:
            for number in range(first, last + 1):
                near |= self._by_line[fault.file, number]
        else:
            about = fault.scope.partition(".")[0] or re.split(r"\W", fault.text)[0]
            name = re.compile(rf"\b{re.escape(about)}\b")
            speaking = {file for file, text in guards.items() if name.search(text)}
            near = {test for test in self._tests if test.partition("::")[0] in speaking}
        far = (self._by_file[fault.file] if fault.in_function else set(self._tests)) - near
        allowed = [{t for t in names if t.partition("::")[0] in guards} for names in (near, far)]
        return self._ordered(fault, allowed[0]), self._ordered(fault, allowed[1])

    def _ordered(self, fault: Fault, tests: set[str]) -> list[str]:
        """Order tests by file: first those that noticed faults of this file, then quick ones."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in tests:
            by_file[name.partition("::")[0]].append(name)
        files = sorted(
            by_file,
            key=lambda f: (-self.kills[fault.file, f], self.seconds(by_file[f]), f),
        )
        return [name for f in files for name in sorted(by_file[f], key=self._place)]

    def _place(self, name: str) -> tuple[float, str]:
        return self._tests[name]["seconds"], name
