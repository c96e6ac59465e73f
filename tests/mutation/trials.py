"""A copy of the repository that faults are put into, and processes that run tests in it.

The parent imports what is large and never changes, such as torch; each trial is forked from it and
imports the package anew, from the copy. So any fault counts, also one at the top of a module, and
workers that a test starts have it too.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_faults import Fault

_OURS = {"sca_bench", "baselines", "conftest", "helpers", "__main__", "__mp_main__"}
_MOST_BYTES = 8 << 30
_ALREADY_IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"
PYTEST = ("-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", "-W", _ALREADY_IMPORTED)


@dataclass
class Outcome:
    """How a trial ended.

    Attributes:
        passed: Every test passed.
        test: The first test that did not; empty where pytest itself failed, while importing say.
        timed_out: It was ended because it took too long.
        seconds: How long it took.
    """

    passed: bool
    test: str = ""
    timed_out: bool = False
    seconds: float = 0.0


class _First:
    """A pytest plugin that keeps the chosen tests, in their order, and the first failure."""

    def __init__(self, chosen: Sequence[str]) -> None:
        self.place = {name: number for number, name in enumerate(chosen)}
        self.failed = ""
        self.ran = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid


class Tree:
    """A copy of the repository, in which one file at a time has a fault."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder / "tree"
        self.scratch, self.known = folder / "scratch", folder / "copied.json"
        self._stamp = int(time.time())

    def renew(self) -> set[str]:
        """Copy every file that git tracks or would track; return the names of those that changed.

        A fault that a killed trial left in the copy is taken out, and is no change.
        """
        names = self._names()
        content = {n: (self.root / n).read_bytes() for n in names if (self.root / n).is_file()}
        now = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        before = json.loads(self.known.read_text()) if self.known.exists() else {}
        for name, data in content.items():
            path = self.folder / name
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        for name in before.keys() - now.keys():
            (self.folder / name).unlink(missing_ok=True)
        self.known.write_text(json.dumps(now))
        return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}

    def _names(self) -> list[str]:
        if (self.root / ".git").exists():
            ask = ["git", "-C", str(self.root), "ls-files", "-z", "-co", "--exclude-standard"]
            listed = subprocess.run(ask, capture_output=True, check=True).stdout
            return sorted(set(os.fsdecode(listed).split("\0")) - {""})
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return sorted(file.as_posix() for file in files if file.parts[0] != "build")

    def put(self, file: str, text: str) -> None:
        """Write a file; its time is a new one, so that no compiled file is taken for it."""
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        self._stamp += 1
        os.utime(path, (self._stamp, self._stamp))

    def try_fault(self, fault: Fault, tests: Sequence[str], limit_s: float) -> Outcome:
        """Put a fault in, run tests until one fails, and take the fault out."""
        source = (self.root / fault.file).read_text(encoding="utf-8")
        self.put(fault.file, fault.applied(source))
        try:
            return self.run(tests, limit_s)
        finally:
            self.put(fault.file, source)

    def run(self, tests: Sequence[str], limit_s: float) -> Outcome:
        """Run tests of the copy in a process of their own, in this order, until one fails."""
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        plugin = _First(tests)

        def body() -> dict[str, Any]:
            code = pytest.main([*PYTEST, "-x", *files], plugins=[plugin])
            assert code or plugin.ran, f"none of {len(tests)} tests was found"
            return {"code": int(code), "failed": plugin.failed}

        began = time.perf_counter()
        answer = self.in_child(body, limit_s)
        seconds = round(time.perf_counter() - began, 2)
        if answer is None:
            return Outcome(False, timed_out=True, seconds=seconds)
        return Outcome(answer["code"] == 0, answer["failed"], seconds=seconds)

    def in_child(self, body: Any, limit_s: float) -> dict[str, Any] | None:
        """Run a function in a forked process; return its answer, or None if it takes too long."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            own = os.getpid()
            try:
                self._settle()
                found = body()
                if os.getpid() == own:  # and no process that a failing test has forked
                    (self.scratch / "answer.json").write_text(json.dumps(found))
            finally:
                os._exit(70)
        ends = time.monotonic() + limit_s
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > ends:
                _end(child)
                os.waitpid(child, 0)
                return None
            time.sleep(0.02)
        _end(child)
        answer = self.scratch / "answer.json"
        if not answer.exists():  # it crashed, which somebody would notice
            return {"code": 70, "failed": ""}
        found: dict[str, Any] = json.loads(answer.read_text())
        return found

    def _settle(self) -> None:
        os.setsid()
        out = os.open(self.scratch / "printed.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
        temporary = self.scratch / "tmp"
        temporary.mkdir()
        os.environ |= {"TMPDIR": str(temporary), "PYTHONPATH": str(self.folder)}
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))


def _end(group: int) -> None:
    """End what a trial started and left."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def large_modules() -> list[str]:
    """Return the modules of other packages that are loaded now, in the order of their loading."""
    return [
        name
        for name, module in list(sys.modules.items())
        if "site-packages" in (getattr(module, "__file__", None) or "")
        and name.partition(".")[0] not in _OURS
    ]


def warm_up(modules: Sequence[str]) -> None:
    """Import modules, so that no trial has to."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # it is a part of something else, which imports it in its own way
            continue
