"""The frame of fuzzing finds what it is there for, and the readers stand a short run of it."""

import os
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from fuzz import harness
from fuzz.harness import Target
from fuzz.targets import TARGETS
from sca_bench.errors import InputError

SECONDS = 30
"""What all targets get together here; `tests/fuzz/run.py` gives each its thousands."""


@pytest.mark.parametrize("name", TARGETS)
def test_readers_take_damaged_files_well(name):
    until = time.monotonic() + SECONDS / len(TARGETS)
    result = harness.fuzz(TARGETS[name], seed=16, number=TARGETS[name].number, until=until)
    assert result.inputs
    assert not result.findings, "".join(f"{one}\n{one.detail}" for one in result.findings)


def _no_seeds(folder):
    (folder / "good").write_text("good")


def _number(random, seeds, folder):
    assert (seeds / "good").read_text() == "good"
    (folder / "number").write_text(str(random.randrange(10)))


def _read(folder, what):
    number = int((folder / "number").read_text())
    if number == 3:
        what(folder)
    elif number % 2:
        raise InputError("number", "", "is odd")


def _raises(folder):
    raise OverflowError("cannot convert float infinity to integer")


def _hangs(folder):
    time.sleep(3_600)


def _crashes(folder):
    os.abort()


def _fills_memory(folder):
    bytes(4 * 2**30)


def _writes(folder):
    (folder.parent / "outside").write_text("")


def _starts(folder):
    subprocess.run(["true"], check=True)


class _Uncut(InputError):
    def __str__(self):
        return self.problem


def _talks(folder):
    raise _Uncut("number", "", "x" * 10_000)


def _breaks_its_line(folder):
    raise _Uncut("number", "", "a\nb")


def _shows_what_is_outside(folder):
    raise _Uncut("number", "", f"{Path('/etc/passwd').read_bytes()!r:.80}")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (_raises, "OverflowError: cannot convert"),
        (_hangs, "ends the process (SIGALRM)"),
        (_crashes, "ends the process (SIGABRT)"),
        (_fills_memory, "MemoryError"),
        (_writes, "opens for writing outside of its folder"),
        (_starts, "starts a process"),
        (_talks, "a message of 10000 characters"),
        (_breaks_its_line, "a message of several lines"),
        (_shows_what_is_outside, "a message of what a link leads to"),
    ],
)
def test_frame_finds(what, said, monkeypatch):
    monkeypatch.setattr(harness, "LIMIT_S", 0.1)
    target = Target("planted", _no_seeds, _number, partial(_read, what=what))
    result = harness.fuzz(target, seed=1, number=40)
    assert result.inputs == 40
    assert 0 < result.refused < 40
    assert result.findings
    assert all(said in finding.what for finding in result.findings), result.findings


def test_finding_can_be_repeated(tmp_path):
    target = Target("planted", _no_seeds, _number, partial(_read, what=_raises))
    first = harness.fuzz(target, seed=1, number=40).findings[0]
    (tmp_path / "seeds").mkdir()
    target.seeds(tmp_path / "seeds")
    what, detail = harness.try_one(target, tmp_path / "seeds", 1, first.index, tmp_path / "work")
    assert what == first.what
    assert "in _raises" in detail
