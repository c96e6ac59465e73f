"""A trial whose worker was killed from outside is tried once more; that says nothing of it."""

import pytest
import yaml
from optuna.trial import TrialState

from sca_bench.engine.sweep.optuna_study import default_storage
from sca_bench.engine.sweep.sweeper import Sweeper
from sca_bench.engine.worker.pool import WAS_KILLED
from sca_bench.study.runs.record import RunRecord, Score
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.sweep import load_sweep

CONTENT = {
    "sweep": "demo",
    "question": "Which?",
    "base": {"variant": "sca"},
    "space": {"train.learning_rate": {"low": 1e-3, "high": 3e-2, "log": True}},
    "objectives": [{"metric": "exact_match", "direction": "maximize"}],
    "trials": 2,
    "batch": 2,
    "sampler": {"name": "RandomSampler"},
    "confirm": {"seeds": [100]},
}


@pytest.fixture
def sweep_of(tmp_path):
    """Return a function that searches with workers that are killed so many times."""

    def search(kills):
        path, said, calls = tmp_path / "demo.yaml", [], []
        path.write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
        store = Store(tmp_path / "runs")
        store.root.mkdir()

        def run_plan(plan, pruner):
            calls.append(len(plan.left))
            killed = len(calls) <= kills
            for number, job in enumerate(plan.left):
                store.save(
                    RunRecord(
                        cell_id=job.cell.cell_id,
                        seed=job.seed,
                        status="failed" if killed else "done",
                        error=f"{WAS_KILLED}KILL (out of memory?); see a log" if killed else "",
                        settings=job.cell.settings.model_dump(mode="json"),
                        variant="sca",
                        revision=job.cell.revision,
                        scores={} if killed else {"exact_match": Score(value=number / 2)},
                    )
                )
            return {}

        sweep = load_sweep(path)
        sweeper = Sweeper(sweep, store, default_storage(store.root), run_plan, said.append)
        for _ in sweeper.batches():
            pass
        return sweeper, calls, said

    return search


def test_it_is_tried_once_more(sweep_of, monkeypatch):
    monkeypatch.setattr("sca_bench.engine.sweep.sweeper.score_runs", lambda *_: 0)
    sweeper, calls, said = sweep_of(1)
    assert calls == [2, 2]
    assert [trial.state for trial in sweeper.trials] == [TrialState.COMPLETE] * 2
    assert len(said) == 2
    assert all("SIGKILL" in line and line.endswith("it is tried once more") for line in said)


def test_and_not_for_ever(sweep_of, monkeypatch):
    monkeypatch.setattr("sca_bench.engine.sweep.sweeper.score_runs", lambda *_: 0)
    sweeper, calls, _ = sweep_of(2)
    assert calls == [2, 2]
    assert [trial.state for trial in sweeper.failed] == [TrialState.FAIL] * 2
