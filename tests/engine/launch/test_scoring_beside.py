"""Runs are scored while others train; whatever goes wrong there, the command scores them itself."""

import json
import os
import signal
import time

import pytest

from sca_bench.engine.launch.scoring import Scoring, is_light
from sca_bench.engine.score_runs import score_runs
from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import spice
from sca_bench.study.runs.store import PREDICTIONS, Store

METRICS = ["exact_match", "caption_length", "slots"]


@pytest.fixture
def finished(suite_file, command, tmp_path):
    """A store with three finished runs, as a command scored them, and what it then says of them."""
    words = [suite_file(axes="{mixer.num_layers: [1]}", seeds="[0, 1, 2]"), "--no-mlflow"]
    out = command("run", *words, "--set", "runtime.jobs=0")
    store = Store(tmp_path / "runs")
    return store, list(store.records()), out


def unscored(store, records):
    for record in records:
        store.save(record.model_copy(update={"scores": {}, "notes": []}))
        (store.run_dir(record.cell_id, record.seed) / "region_scores.json").unlink()


def jobs_of(records):
    from types import SimpleNamespace as Of

    return [Of(name=f"seed {r.seed}", cell=Of(cell_id=r.cell_id), seed=r.seed) for r in records]


def test_another_process_gives_the_same_scores_and_a_killed_one_leaves_them_to_the_command(
    finished,
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
    scoring = Scoring(store, metrics)
    for record in records:
        scoring.add(record.cell_id, record.seed)
    scoring.finish()
    assert scoring.done.count == 3
    assert not scoring.is_on
    assert list(store.records()) == records
    said.clear()
    assert score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done) == 3
    assert said == ["  scoring 3 runs: cider_d, exact_match, slots"]

    unscored(store, records)  # by a process that is killed, and by the command
    scoring = Scoring(store, metrics)
    scoring.add(records[0].cell_id, 0)
    while not scoring.done.count:
        scoring.listen()
        time.sleep(0.01)
    os.kill(scoring._process.pid, signal.SIGKILL)
    for record in records[1:]:
        scoring.add(record.cell_id, record.seed)
    scoring.finish()
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
    scoring.finish()
    assert scoring.done.count == 2
    with pytest.raises(Exception, match="region_id"):
        score_runs(store, jobs_of(records), metrics, said.append, done=scoring.done)
    scored = [json.loads(p.read_text())["scores"] for p in store.root.glob("cells/*/*/record.json")]
    assert sum(map(bool, scored)) == 2


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


def test_a_process_that_does_not_start_is_none(tmp_path, monkeypatch):
    from sca_bench.engine.launch import scoring as module

    class Refused:
        def Process(self, **_):
            return self

        pid = None

        def start(self):
            raise OSError("no more processes")

    monkeypatch.setattr(module, "worker_processes", Refused)
    scoring = Scoring(Store(tmp_path), METRICS)
    scoring.add("cell", 0)
    scoring.finish()
    assert scoring.done.count == 0
    assert not scoring.is_on
