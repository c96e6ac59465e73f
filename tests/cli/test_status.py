"""`status`, from heartbeats and records that are planted; no run is started."""

import contextlib
import io
import json
import os
import re
import socket
from types import SimpleNamespace

import pytest

from sca_bench.cli import main
from sca_bench.cli.upkeep import status as command
from sca_bench.study.runs import heartbeat
from sca_bench.study.runs.heartbeat import Heartbeat, Pulse, Work, heartbeat_path
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.status import folder_status
from sca_bench.study.runs.store import Store

NOW = 1_800_000_000.0
HERE = socket.gethostname()


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def store(tmp_path):
    """A suite of two cells and two seeds: one run is done, one failed, one runs, one is to come."""
    store = Store(tmp_path / "runs")
    cells = [
        CellEntry(cell_id=f"{n}" * 12, name=f"num_layers={n}", coordinates={}, variant="sca")
        for n in (1, 2)
    ]
    fields = {"profile": "tiny", "default_profile": "tiny", "file": "x.yaml", "question": "?"}
    store.save_manifest(
        SuiteManifest(suite="depth", seeds=[0, 1], metrics=["cider_d"], cells=cells, **fields)
    )
    for cell, seed, state, error in (
        ("1" * 12, 0, "done", ""),
        ("1" * 12, 1, "failed", "RuntimeError: it broke"),
        ("2" * 12, 0, "running", ""),
    ):
        run = {"settings": {}, "variant": "sca", "revision": "1", "status": state, "error": error}
        provenance = {"attempt": f"depth-x-s{seed}"}
        store.save(RunRecord(cell_id=cell, seed=seed, provenance=provenance, **run))
    log = store.root / "attempts" / "depth-x-s1" / "run.log"
    log.parent.mkdir(parents=True)
    log.write_text("it broke\n")
    return store


@pytest.fixture
def beat(store, monkeypatch):
    """Plant the heartbeats of a command and its worker, as they were some seconds ago."""
    clock = SimpleNamespace(time=lambda: NOW, monotonic=lambda: NOW)
    monkeypatch.setattr(heartbeat, "time", clock)

    def plant(ago_s=2.0, phase="training", **changes):
        Pulse(store.root).beat("x")
        path = heartbeat_path(store.root, "command")
        own = Heartbeat.model_validate_json(path.read_bytes())
        attempt = "depth-y-s0"
        work = [Work(name="num_layers=2; seed 0", attempt=attempt, since=NOW - 40, text="step 100")]
        facts = {"done": 1, "total": 3, "failed": 1, "left_s": 125.0, "work": work}
        command = {"time": NOW - ago_s, "started": NOW - 190, "suite": "depth", "phase": phase}
        path.write_text(own.model_copy(update=command | facts | changes).model_dump_json())
        worker = {"name": attempt, "phase": "training", "step": 120, "steps": 250, "loss": 1.61}
        text = own.model_copy(update={"time": NOW - 1} | worker).model_dump_json()
        heartbeat_path(store.root, attempt).write_text(text)
        return lines(store)

    return plant


def lines(store, suite=None):
    return list(command.lines_of(folder_status(store, suite, NOW), store))


def test_what_runs_is_told_with_place_step_and_time_left(beat):
    said = beat()
    here = f"process {os.getpid()}"
    assert said[:5] == [
        "depth: training, 1 of 3 runs done, 1 failed, about 2 min 05 s left",
        f"  for 3 min 10 s, {here} on {HERE}",
        f"  num_layers=2; seed 0: step 120 of 250, loss 1.61; for 40 s, {here}",
        "depth: 1 of 4 runs done, 1 running, 1 failed, 1 not started",
        "  FAILED depth/num_layers=1/1: RuntimeError: it broke",
    ]
    assert re.fullmatch(r"    log: \S*runs/attempts/depth-x-s1/run\.log", said[5])
    assert len(said) == 6
    assert max(map(len, said[:5])) <= 80


def test_a_preparation_is_told_with_its_images(beat, store):
    said = beat(phase="preparing inputs", step=420, steps=1500)
    assert said[0].startswith("depth: preparing inputs, 420 of 1,500 images, 1 of 3 runs done")
    heartbeat_path(store.root, "depth-y-s0").unlink()
    assert lines(store)[2] == "  num_layers=2; seed 0: step 100; for 40 s"
    assert beat(phase="scoring", step=3, steps=9, work=[])[0].startswith("depth: scoring 3 of 9, ")
    beat()
    path = heartbeat_path(store.root, "depth-y-s0")
    path.write_text(path.read_text().replace('"training"', '"captioning"'))
    assert lines(store)[2].startswith(
        "  num_layers=2; seed 0: captioning, batch 120 of 250; for 40 s"
    )


def test_a_command_that_is_gone_gives_no_sign(beat):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    said = beat(ago_s=720.0, pid=child)
    assert said[0] == (
        f"depth: no sign for 12 min 00 s (process {child} on {HERE} is gone); "
        "the same command goes on"
    )
    assert said[1] == "  last seen: training, 1 of 3 runs done, 1 failed"
    assert said[2].startswith("depth: 1 of 4 runs done, 1 failed, 1 killed, 1 not started")
    assert "  KILLED depth/num_layers=2/0: interrupted" in said


def test_another_machine_is_believed_while_it_beats(beat):
    assert beat(host="far")[1].endswith("on far")
    said = beat(host="far", ago_s=61.0)
    assert said[0].startswith("depth: no sign for 1 min 01 s (process ")
    assert "is gone" not in said[0]
    assert "last sign 45 s ago" in beat(ago_s=45.0)[0]


def test_several_processes_of_a_group_are_one_line_by_the_slowest(beat, store):
    beat()
    first = json.loads(heartbeat_path(store.root, "depth-y-s0").read_text())
    second = first | {"rank": 1, "host": "far", "step": 90}
    heartbeat_path(store.root, "depth-y-s0", 1).write_text(json.dumps(second))
    line = lines(store)[2]
    assert "step 90 of 250" in line
    assert line.endswith(f"2 processes on {HERE}, far, this is the slowest")


def test_nothing_runs(store, tmp_path, capsys):
    assert main(["status", "--runs-dir", "nowhere"]) == 0
    said = capsys.readouterr().out
    assert said == "no run is in nowhere; begin with: python -m sca_bench run mixer_layers\n"
    assert main(["status"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "nothing runs in runs"
    assert re.fullmatch(
        r"depth: 1 of 4 runs done, .*, 1 not started; last change \d+ s ago", said[1]
    )
    assert main(["status", "dept"]) == 2
    assert "status: dept: was not run in runs; did you mean depth?" in capsys.readouterr().err


def test_a_command_without_heartbeats_is_told_by_its_lock(store):
    from sca_bench.files import take_lock

    (store.root / ".lock").write_text("4711")
    lock = take_lock(store.root / ".lock")
    try:
        assert lines(store)[0].startswith("a command (process 4711) works in ")
    finally:
        os.close(lock)


def test_a_damaged_record_or_manifest_is_told_and_the_rest_is_shown(store, capsys):
    path = store.run_dir("1" * 12, 0) / "record.json"
    for content in ("{", "[]", '{"status": 3}'):
        path.write_text(content)
        assert any(line.startswith("  DAMAGED depth/num_layers=1/0: ") for line in lines(store))
    (store.root / "suites" / "bad.tiny.json").write_text("{")
    assert main(["status"]) == 1
    assert "left out: runs/suites/bad.tiny.json: damaged file" in capsys.readouterr().err


def test_json_is_one_line(beat, store, capsys):
    beat()
    assert main(["status", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["runs"] is True
    assert said["command"]["suite"] == "depth"
    assert said["groups"][0]["processes"][0]["step"] == 120
    assert said["suites"][0]["ended_badly"][0]["reason"] == "RuntimeError: it broke"


def states(store, beat):
    """Return a function that gives two states of a run, and then its end."""
    beat()
    running = folder_status(store, None, NOW)
    later = folder_status(store, None, NOW + 5)
    heartbeat.clear_heartbeats(store.root)
    return iter([running, later, folder_status(store, None, NOW + 9)]).__next__


def test_watch_prints_what_is_new_into_a_pipe_and_ends_with_the_run(beat, store, capsys):
    slept = []
    last = command._watch(states(store, beat), store, 7.0, as_json=False, sleep=slept.append)
    said = capsys.readouterr().out.splitlines()
    assert slept == [7.0, 7.0]
    assert not last.runs
    assert sum(line.startswith("  num_layers=2; seed 0: step 120") for line in said) == 2
    assert sum(line.startswith("  FAILED") for line in said) == 1, "it has not changed"
    assert said[-1].startswith("  KILLED") or "nothing runs" in " ".join(said)


def test_watch_draws_in_place_on_a_terminal(beat, store, monkeypatch):
    drawn = []

    @contextlib.contextmanager
    def redrawn():
        yield drawn.append

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(command, "redrawn", redrawn)
    command._watch(states(store, beat), store, 1.0, as_json=False, sleep=lambda _: None)
    assert len(drawn) == 3
    assert drawn[0][0].startswith("depth: training")


def test_a_place_is_drawn_over(monkeypatch):
    from sca_bench.output import redrawn

    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", out)
    with redrawn() as draw:
        draw(["[bold]one", "two"])
        draw(["three"])
    text = out.getvalue()
    assert "[bold]one" in text
    assert "\x1b[1A\x1b[2K" in text, "the line above was taken away"


@pytest.mark.parametrize("words", [["depth", "--watch", "x"], ["--watch", "0"]])
def test_a_wrong_interval_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["status", *words])
    assert caught.value.code == 2
    assert "is no time; give a number of seconds" in capsys.readouterr().err


def test_what_a_heartbeat_holds_is_shown_and_not_obeyed(beat, store, capsys):
    escape = "\x1b[2J\u202e"
    beat(suite=escape, phase=escape, work=[Work(name=escape, attempt="../x", text=escape)])
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "\\u001b[2J\\u202e" in out
    assert not {"\x1b", "\u202e"} & set(out)
