"""Temporary folders: one for each command; what killed ones leave is deleted, nothing else."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.command import ROOT

from sca_bench.lifetime import scratch

OWNER = """
import os, subprocess, sys, tempfile, time
from pathlib import Path
from sca_bench.lifetime import scratch

scratch.lend()
inner = tempfile.mkdtemp()
named = subprocess.run(["sh", "-c", "echo $TMPDIR"], capture_output=True, text=True).stdout.strip()
assert Path(inner).parent == Path(named) == Path(tempfile.gettempdir()), (inner, named)
print(named, scratch.lasting(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """Start a process that has a temporary folder below `tmp_path`; return it and its folder."""
    started = []

    def start():
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        environment.pop("SCA_BENCH_TMPDIR", None)
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", OWNER],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        folder, asked = map(Path, started[-1].stdout.readline().split())
        assert folder.parent == asked == tmp_path
        return started[-1], folder

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_it_is_gone_at_the_end(owner, tmp_path):
    process, folder = owner()
    assert folder.is_dir()
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    assert not list(tmp_path.iterdir())


def test_only_a_dead_one_is_swept(owner, tmp_path):
    dead, of_dead = owner()
    alive, of_alive = owner()
    scratch.sweep(tmp_path)
    assert of_dead.is_dir()
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    scratch.sweep(tmp_path)
    assert not of_dead.exists()
    assert of_alive.is_dir()
    alive.kill()
    alive.wait()
    owner()
    assert not of_alive.exists(), "the next command sweeps by itself"


def test_what_is_somebody_elses_is_left_alone(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner").write_text(scratch._MARK)
    other = tmp_path / "tmp"
    kept = {
        "sca_bench-17-abcdefgh": "my own words",  # the name alone proves nothing
        "sca_bench-17-abcdefg_": None,
        "sca_bench-results": scratch._MARK,
        "sca_bench-plan-abcdefgh": scratch._MARK,
        "pymp-abcdefgh": scratch._MARK,
    }
    for name, mark in kept.items():
        (other / name).mkdir(parents=True)
        (other / name / "mine.txt").write_text("mine")
        if mark is not None:
            (other / name / "owner").write_text(mark)
    (other / "sca_bench-18-abcdefgh").symlink_to(elsewhere)
    (other / "sca_bench-19-abcdefgh").write_text(scratch._MARK)
    (other / "sca_bench-20-abcdefgh").mkdir()  # just made, and not locked yet
    os.mkfifo(other / "sca_bench-21-abcdefgh")
    (other / "sca_bench-22-abcdefgh").mkdir()
    os.mkfifo(other / "sca_bench-22-abcdefgh" / "owner")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    scratch.sweep(other)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_one_that_was_killed_while_it_was_made(tmp_path):
    empty, unmarked = tmp_path / "sca_bench-20-abcdefgh", tmp_path / "sca_bench-21-abcdefgh"
    empty.mkdir()
    os.utime(empty, (1, 1))
    unmarked.mkdir()
    (unmarked / "owner").touch()
    scratch.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_mark_of_its_owner_is_deleted_last(tmp_path, monkeypatch):
    """Or what is killed meanwhile would leave a folder that nobody can tell any more."""
    folder = scratch.claim(tmp_path)
    for name in "abcdefgh":
        (folder / name).mkdir()
        (folder / f"{name}.txt").touch()
    real = os.unlink

    def unlink(path, *_, **__):
        assert not Path(path).name.startswith(scratch._OWNER) or len([*folder.iterdir()]) == 1
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    scratch.give_back()
    assert not list(tmp_path.iterdir())


def test_where_none_can_be_made_all_stays_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TMPDIR", "/before")
    scratch.lend()
    assert os.environ["TMPDIR"] == "/before"
