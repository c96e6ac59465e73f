"""Runs are scored while others train; whatever goes wrong there, the command scores them itself."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sca_bench.engine.launch import launcher
from sca_bench.engine.launch import scoring as scoring_module
from sca_bench.engine.launch.scoring import Scoring, _BesideOthers, is_light
from sca_bench.engine.score_runs import score_runs
from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import spice
from sca_bench.metrics.field_scorers import java
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.study.runs.store import PREDICTIONS, Store

METRICS = ["exact_match", "caption_length", "slots"]


@pytest.fixture
def finished(suite_file, command, tmp_path, monkeypatch):
    """A store with three finished runs, as a command scored them, and what it then says of them."""
    monkeypatch.setattr(launcher, "_SHORT_COST", 0.0)  # else none is scored beside others
    words = [suite_file(axes="{mixer.num_layers: [1]}", seeds="[0, 1, 2]"), "--no-mlflow"]
    out = command("run", *words, "--set", "runtime.jobs=0")
    store = Store(tmp_path / "runs")
    return store, list(store.records()), out


def unscored(store, records):
    for record in records:
        store.save(record.model_copy(update={"scores": {}, "notes": []}))
        (store.run_dir(record.cell_id, record.seed) / "region_scores.json").unlink()


def jobs_of(records):
    runtime = SimpleNamespace(runtime=SimpleNamespace(device="cpu"))
    return [
        SimpleNamespace(
            name=f"seed {r.seed}",
            cell=SimpleNamespace(cell_id=r.cell_id, settings=runtime),
            seed=r.seed,
        )
        for r in records
    ]


def test_another_process_gives_the_same_scores_and_a_killed_one_leaves_them_to_the_command(
    finished,
    monkeypatch,
):
    store, records, out = finished
    assert out.count("  scoring 3 runs: cider_d, exact_match, slots") == 1
    assert list((store.root / "attempts").glob("scoring-*/scoring.log"))
    files = {p: p.read_bytes() for p in store.root.glob("cells/*/*/region_scores.json")}
    assert len(files) == 3
    metrics = ["cider_d", "exact_match", "slots"]

    unscored(store, records)  # by the command alone
    said = []
    assert score_runs(store, jobs_of(records), metrics, said.append) == 3
    assert list(store.records()) == records
    assert {p: p.read_bytes() for p in files} == files

    unscored(store, records)  # by the process alone
    said.clear()
    scoring = Scoring(store, metrics)
    for record in records:
        scoring.add(record.cell_id, record.seed)
    scoring.finish(said.append)
    assert scoring.done.count == 3
    assert not scoring.is_on
    assert list(store.records()) == records
    assert score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done) == 3
    assert said == ["  scoring 3 runs: cider_d, exact_match, slots"]

    unscored(store, records)  # by a process that is killed, and by the command
    scoring = Scoring(store, metrics)
    scoring.add(records[0].cell_id, 0)
    while not scoring.done.count:
        scoring.listen()
        time.sleep(0.01)
    os.kill(scoring._process.pid, signal.SIGKILL)
    half = f".record.json.{scoring._process.pid}.tmp"
    store.run_dir(records[1].cell_id, 1).joinpath(half).touch()
    for record in records[1:]:
        scoring.add(record.cell_id, record.seed)
    scoring.finish(said.append)
    assert not list(store.root.glob("cells/*/*/.*.tmp"))
    assert scoring.done.count == 1
    assert score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done) == 3
    assert list(store.records()) == records
    assert {p: p.read_bytes() for p in files} == files

    unscored(store, records)  # by a process that hangs, and by the command
    scoring = Scoring(store, metrics)
    scoring.add(records[0].cell_id, 0)
    while not scoring.done.count:
        scoring.listen()
        time.sleep(0.01)
    os.kill(scoring._process.pid, signal.SIGSTOP)
    for record in records[1:]:
        scoring.add(record.cell_id, record.seed)
    said.clear()
    with monkeypatch.context() as patch:
        patch.setattr(scoring_module, "_SILENT_S", 1.0)
        scoring.finish(said.append)
    (line,) = said
    assert re.fullmatch(
        r"  the process that scores beside the runs did not answer for \d s and was killed; "
        "what it left is scored now",
        line,
    )
    assert not scoring.is_on
    assert scoring.done.count == 1
    assert score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done) == 3
    assert list(store.records()) == records
    assert {p: p.read_bytes() for p in files} == files

    unscored(store, records)  # one of them cannot be scored: the command says so
    path = store.run_dir(records[1].cell_id, 1) / PREDICTIONS
    path.write_text(path.read_text().replace('"region_id"', '"other"', 1))
    scoring = Scoring(store, metrics)
    for record in records:
        scoring.add(record.cell_id, record.seed)
    scoring.finish(said.append)
    assert scoring.done.count == 2
    with pytest.raises(Exception, match="region_id"):
        score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done)
    scored = [json.loads(p.read_text())["scores"] for p in store.root.glob("cells/*/*/record.json")]
    assert sum(map(bool, scored)) == 2


KILLED = """
import os, signal, sys, time
from pathlib import Path
from sca_bench.engine.launch import launcher
from sca_bench.engine.launch.scoring import Scoring
from sca_bench.study.runs.store import Store
if __name__ == "__main__":
    store = Store(sys.argv[1])
    scoring = Scoring(store, ["cider_d", "exact_match", "slots"])
    for record in store.records():
        scoring.add(record.cell_id, record.seed)
    while len(list(store.root.glob("cells/*/*/region_scores.json"))) < int(sys.argv[2]):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def logging_into(root):
    """Return the processes whose output goes into a runs folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((path / "fd" / "1").readlink()).startswith(str(root)):
                found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("after", [0, 1])
def test_a_killed_command_takes_its_scorer_along_and_the_next_one_scores_the_rest(
    finished, tmp_path, after
):
    store, records, _ = finished
    files = {p: p.read_bytes() for p in store.root.glob("cells/*/*/region_scores.json")}
    unscored(store, records)
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    words = [sys.executable, str(program), str(store.root), str(after)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    end = time.monotonic() + 15
    while logging_into(store.root) and time.monotonic() < end:
        time.sleep(0.05)
    assert not logging_into(store.root)
    score_runs(store, jobs_of(records), ["cider_d", "exact_match", "slots"], print)
    assert list(store.records()) == records
    assert {p: p.read_bytes() for p in files} == files


def test_what_loads_a_model_waits_until_nobody_trains(monkeypatch):
    assert is_light(["cider_d", "meteor", "bleu", "rouge_l", *METRICS])
    assert not is_light([*METRICS, "clip_score"])

    def found():
        return "there"

    def missing():
        raise NotComputed("not here")

    monkeypatch.setattr(spice, "corenlp_folder", found)
    assert not is_light(["spice"])
    monkeypatch.setattr(spice, "corenlp_folder", missing)
    assert is_light(["spice"])


def test_a_java_program_that_died_beside_others_is_no_reason_yet(monkeypatch):
    """Its memory may have gone to the runs; a reason in a record would not be tried again."""

    def dead(self, rows, metrics, images=None):
        result = ScoreResult()
        for key in ("meteor", "spice", "slots"):
            result.not_computed[key] = f"{key} died"
        return result

    def missing():
        raise NotComputed("no Java found")

    monkeypatch.setattr(Scorer, "score", dead)
    with _BesideOthers() as scorer:
        with pytest.raises(NotComputed, match="meteor: meteor died"):
            scorer.score([], ["slots", "meteor"])
        monkeypatch.setattr(spice, "corenlp_folder", missing)
        assert scorer.score([], ["slots", "spice"]).not_computed["spice"], "never to be had here"
        monkeypatch.setattr(java, "find_java", missing)
        assert scorer.score([], ["slots", "meteor"]).not_computed["meteor"]


def test_a_process_that_does_not_start_is_none(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError("no more processes")

    refused = SimpleNamespace(start=refuse, pid=None)
    monkeypatch.setattr(scoring_module, "_CONTEXT", SimpleNamespace(Process=lambda **_: refused))
    scoring = Scoring(Store(tmp_path), METRICS)
    scoring.add("cell", 0)
    scoring.finish(pytest.fail)
    assert scoring.done.count == 0
    assert not scoring.is_on


def test_the_time_that_the_command_itself_was_stopped_for_is_no_silence(tmp_path, monkeypatch):
    killed, clock = [], SimpleNamespace(s=0.0)
    monkeypatch.setattr(scoring_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    scoring = Scoring(Store(tmp_path), METRICS)
    scoring._process = SimpleNamespace(kill=lambda: killed.append(clock.s))
    scoring._connection = SimpleNamespace(poll=lambda: False, send=lambda _: None)
    scoring.add("cell", 0)
    clock.s += 3600  # Ctrl-Z, lunch, `fg`
    scoring.listen()
    assert not killed
    back = clock.s
    while not killed and clock.s < back + 1000:
        clock.s += 1
        scoring.listen()
    assert 250 < killed[0] - back < 350
