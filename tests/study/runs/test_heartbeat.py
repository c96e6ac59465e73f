"""Heartbeats: written seldom, read whatever they hold, and never a reason to stop a run."""

import errno
import itertools
import json
import os
from types import SimpleNamespace

import pytest

from sca_bench import files
from sca_bench.study.runs import heartbeat
from sca_bench.study.runs.heartbeat import (
    EVERY_S,
    HEARTBEATS,
    SILENT_S,
    Heartbeat,
    Pulse,
    clear_heartbeats,
    heartbeat_path,
    process_start,
    read_heartbeats,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by hand: both of those that a pulse looks at."""
    now = SimpleNamespace(s=1000.0)
    time = SimpleNamespace(time=lambda: now.s, monotonic=lambda: now.s)
    monkeypatch.setattr(heartbeat, "time", time)
    return now


def only(root, name="command"):
    (found,) = read_heartbeats(root, name)
    return found


def test_a_heartbeat_is_written_every_few_seconds_and_when_a_phase_begins(tmp_path, clock):
    pulse = Pulse(tmp_path)
    pulse.beat("training", step=1, steps=250, loss=2.5, done=1)
    assert (only(tmp_path).step, only(tmp_path).loss) == (1, 2.5)
    clock.s += EVERY_S / 2
    assert not pulse.due("training")
    pulse.beat("training", step=40)
    assert only(tmp_path).step == 1
    clock.s += EVERY_S / 2
    assert pulse.due("training")
    pulse.beat("training", step=80)
    assert (only(tmp_path).step, only(tmp_path).time) == (80, clock.s)
    clock.s += EVERY_S / 4
    pulse.beat("captioning", steps=15)
    found = only(tmp_path)
    assert (found.phase, found.step, found.steps, found.loss) == ("captioning", 0, 15, None)
    assert found.done == 1
    assert found.started == 1000.0


def test_a_reader_is_told_of_whom_it_is(tmp_path):
    Pulse(tmp_path, "some-attempt", rank=2).beat("training")
    found = only(tmp_path, "some-attempt")
    assert (found.pid, found.rank, found.is_there()) == (os.getpid(), 2, True)
    assert found.process_start == process_start(os.getpid())
    assert not found.is_silent(found.time + 10 * SILENT_S)
    content = json.loads(heartbeat_path(tmp_path, "some-attempt", 2).read_text())
    assert content["schema_version"] == 1


def dead():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_a_process_that_is_gone_is_silent_at_once_and_one_elsewhere_after_a_while(tmp_path):
    Pulse(tmp_path).beat("training")
    here = only(tmp_path)
    gone = here.model_copy(update={"pid": dead()})
    assert gone.is_there() is False
    assert gone.is_silent(gone.time)
    another = here.model_copy(update={"process_start": here.process_start + 1})
    assert another.is_there() is False, "the number was given to another process"
    for key in ("host", "space"):
        far = here.model_copy(update={key: "elsewhere"})
        assert far.is_there() is None
        assert not far.is_silent(far.time + SILENT_S - 1)
        assert far.is_silent(far.time + SILENT_S + 1)


def test_a_worker_without_a_command_leaves_nothing(tmp_path):
    guest = Pulse(tmp_path, "attempt", is_guest=True)
    guest.beat("training")
    assert not list(tmp_path.iterdir())
    Pulse(tmp_path).beat("training")
    guest.beat("captioning")
    assert only(tmp_path, "attempt").phase == "captioning"
    clear_heartbeats(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, clock, monkeypatch):
    for last in itertools.count(1):
        count, said = itertools.count(1), []

        def before(what, path, last=last, count=count):
            if next(count) == last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(files, "before_operation", before)
        pulse = Pulse(tmp_path / str(last), tell=said.append)
        for step in range(3):
            pulse.beat("training", step=step)
            clock.s += EVERY_S
        monkeypatch.setattr(files, "before_operation", lambda what, path: None)
        assert only(tmp_path / str(last)).step >= 1  # the old one where the last fails
        assert len(list((tmp_path / str(last) / HEARTBEATS).iterdir())) == 1
        if next(count) <= last:
            break
        assert len(said) <= 1
        assert not said or "No space left on device; the work goes on, but `status`" in said[0]
    assert last > 3


def test_a_name_that_is_no_text_is_said_once_and_stops_nothing(tmp_path, clock):
    said = []
    pulse = Pulse(tmp_path, tell=said.append)
    for _ in range(2):
        pulse.beat("planning", suite="\udcff")
        clock.s += EVERY_S
    (line,) = said
    assert "surrogates not allowed; the work goes on, but `status` does not see it" in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"name": 1}',
        b'{"name": "command", "pid": -1}',
        b'{"name": "command", "pid": 99999999999}',
        b'{"name": "command", "time": "NaN"}',
        b'{"name": "command", "work": [{"since": 1}]}',
    ],
)
def test_a_damaged_one_is_none(tmp_path, content):
    path = heartbeat_path(tmp_path, "command")
    path.parent.mkdir()
    path.write_bytes(content)
    assert read_heartbeats(tmp_path, "command") == []


def test_one_of_a_newer_version_is_read_as_far_as_it_is_known(tmp_path):
    path = heartbeat_path(tmp_path, "command")
    path.parent.mkdir()
    path.write_text('{"schema_version": 9, "name": "command", "mood": "good", "phase": "training"}')
    assert only(tmp_path).phase == "training"
    assert read_heartbeats(tmp_path, "../command") == []
    assert Heartbeat(name="x").is_there() is None
