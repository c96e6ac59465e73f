"""Sweeps that train: trials are cells, alone or in lockstep, and stop and go on like any run."""

import io
import json
import signal
from pathlib import Path

import pytest
import yaml
from helpers.command import finish, wait_for
from optuna.trial import TrialState
from rich.console import Console

from sca_bench.engine.launch.launcher import Launcher
from sca_bench.engine.sweep.optuna_study import default_storage
from sca_bench.engine.sweep.sweeper import Sweeper
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.sweep_record import read_sweep
from sca_bench.study.suite.sweep import load_sweep

SPACE = {
    "mixer.num_layers": {"choices": [1, 2]},
    "train.learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
}


@pytest.fixture
def sweep_file(tmp_path, cell_settings):
    def write(name="demo", changes=None, **more):
        base = cell_settings(changes).model_dump(mode="json", exclude_unset=True)
        content = {
            "sweep": "demo",
            "question": "Which?",
            "base": base,
            "space": SPACE,
            "objectives": [{"metric": "exact_match", "direction": "maximize"}],
            "trials": 4,
            "sampler": {"name": "RandomSampler"},
            "confirm": {"seeds": [100, 101]},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | more), encoding="utf-8")
        return path

    return write


@pytest.fixture
def search(tmp_path, workers):
    """Run the trials of a sweep through the launcher; return the sweeper."""

    def run(path, runs):
        store = Store(tmp_path / runs)
        store.root.mkdir(exist_ok=True)

        def run_plan(plan, pruner):
            console = Console(file=io.StringIO())
            return Launcher(plan, store, "pytest", console, None, pruner).run()

        sweep = load_sweep(path)
        sweeper = Sweeper(sweep, store, default_storage(store.root), run_plan, lambda text: None)
        for _ in sweeper.batches():
            pass
        return sweeper

    return run


def history(sweeper):
    return [(t.number, t.state, t.params, t.values) for t in sweeper.trials]


def outputs(sweeper, trial):
    folder = sweeper.store.run_dir(trial.user_attrs["cell_id"], 0)
    captions = [json.loads(x) for x in (folder / "predictions.jsonl").read_text().splitlines()]
    for row in captions:
        row.pop("seconds")
    return (folder / "trainable.safetensors").read_bytes(), captions


def test_lockstep_trials_equal_the_same_trials_one_by_one(sweep_file, search):
    together = search(sweep_file(batch=4), "together")
    alone = search(sweep_file("alone", batch=1), "alone")
    assert history(together) == history(alone)
    assert {t.state for t in together.trials} == {TrialState.COMPLETE}
    for trial in together.trials:
        assert outputs(together, trial) == outputs(alone, trial)
    records = list(together.store.records())
    assert {r.cost["num_cells_in_group"] for r in records} == {4}
    assert len({r.provenance["attempt"] for r in records}) == 1
    for record in records:  # nobody has looked at the test split
        assert set(record.provenance["splits"]) == {"train", "val"}
        assert record.scores["exact_match"].signature["split"] == "val"
        assert record.scores["exact_match"].signature["num_regions"] == 5


def test_a_pruned_trial_leaves_its_group_and_the_others_do_not_notice(sweep_file, search):
    free = search(sweep_file(), "free")
    losses = {
        trial.number: next(
            row["val/loss"]
            for row in free.store.log(trial.user_attrs["cell_id"], 0)
            if "val/loss" in row
        )
        for trial in free.trials
    }
    worst = max(losses, key=losses.get)
    limit = -(sorted(losses.values())[-1] + sorted(losses.values())[-2]) / 2
    pruner = {"name": "ThresholdPruner", "lower": limit}
    path = sweep_file("pruned", pruner=pruner, prune_on="val/loss")
    pruned = search(path, "pruned")
    states = {trial.number: trial.state for trial in pruned.trials}
    assert states[worst] == TrialState.PRUNED
    assert [n for n, state in states.items() if state == TrialState.PRUNED] == [worst]
    for one, other in zip(free.trials, pruned.trials, strict=True):
        if one.number != worst:
            assert outputs(free, one) == outputs(pruned, other)
            assert one.values == other.values
            assert len(other.intermediate_values) == 2  # the last one comes from the log
    record = pruned.store.record(pruned.trials[worst].user_attrs["cell_id"], 0)
    assert record.status == "pruned"
    assert record.error.startswith("after step 3 with val/loss")
    assert not record.scores

    before = history(pruned)
    again = search(path, "pruned")
    assert again.launched == 0
    (pruned.store.root / "sweeps.db").unlink()
    lost = search(path, "pruned")
    assert lost.launched == 0
    assert history(lost) == before


def numbers(sweeper, trial):
    log = sweeper.store.log(trial.user_attrs["cell_id"], 0)
    return [(row["step"], row.get("loss"), row.get("val/loss")) for row in log]


STEPS = 24
CHANGES = {"train.steps": STEPS, "runtime.checkpoint_every": 2, "train.val_every": STEPS // 3}


def test_killed_in_the_middle_and_repeated(sweep_file, search, process, command, tmp_path):
    pruner = {"name": "PercentilePruner", "percentile": 50.0, "n_startup_trials": 1}
    path = sweep_file(changes=CHANGES, trials=6, batch=4, pruner=pruner, prune_on="val/loss")
    reference = search(path, "reference")
    runs = tmp_path / "runs"
    words = ("sweep", path, "--no-mlflow")

    def second_checkpoint():
        return any(runs.glob("cells/*/*/checkpoint-[!2]*.pt"))

    running = process(*words)
    wait_for(second_checkpoint, running)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    running = process(*words)
    wait_for(lambda: len(list(runs.glob("cells/*/seed-0/record.json"))) > 4, running)
    running.send_signal(signal.SIGTERM)
    out = finish(running, 128 + signal.SIGTERM)
    assert "stopped by SIGTERM; run the same command again to go on" in out
    out = command(*words)
    assert "6 trials (" in out
    assert "optuna-dashboard sqlite:///" in out
    store = Store(runs)
    sweeper = Sweeper(load_sweep(path), store, default_storage(runs), None, print)
    assert history(sweeper) == history(reference)
    for trial, other in zip(sweeper.trials, reference.trials, strict=True):
        assert trial.intermediate_values == other.intermediate_values
        assert numbers(sweeper, trial) == numbers(reference, other)
        if trial.state == TrialState.COMPLETE:
            assert outputs(sweeper, trial) == outputs(reference, other)
            steps = [step for step, loss, _ in numbers(sweeper, trial) if loss]
            assert steps == [*range(1, STEPS + 1)]
    assert {t.state for t in sweeper.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    records = {(r.cell_id, r.seed): r for r in store.records()}
    assert len(records) == 6 + 2
    assert {r.status for r in records.values()} == {"done", "pruned"}
    test = [r for r in records.values() if r.settings["eval"]["split"] == "test"]
    assert {r.seed for r in test} == {100, 101}

    before = {p: p.stat().st_mtime_ns for p in runs.glob("cells/*/*/*")}
    again = command(*words)
    assert "0 training steps, 0 forwards" in again
    assert before == {p: p.stat().st_mtime_ns for p in runs.glob("cells/*/*/*")}

    command("report")
    for name in ("demo", "demo_confirmed"):
        assert (tmp_path / "reports" / name / "index.html").exists()
    searched = read_sweep(store, "demo", "tiny")
    assert [trial.state for trial in searched.trials].count("pruned") > 0
    assert {cell.trial for cell in searched.confirmed} == set(searched.best)
    assert (tmp_path / "reports" / "demo" / "sweep_history.png").exists()
    table = (tmp_path / "reports" / "demo" / "table.md").read_text()
    assert "#0" in table
    assert "#5" in table


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn in ways that change by version
def test_a_failing_trial_and_a_front(sweep_file, command, tmp_path):
    path = sweep_file(
        space={
            "mixer.num_layers": {"choices": [1, 2]},
            "train.learning_rate": {"choices": [0.01, 1e30]},
        },
        objectives=[
            {"metric": "exact_match", "direction": "maximize"},
            {"metric": "cost.num_trainable_params", "direction": "minimize"},
        ],
        sampler={"name": "GridSampler"},
        trials=9,
    )
    out = command("sweep", path, code=1)
    assert "4 trials (2 complete, 2 fail)" in out
    assert "loss is nan at step" in out or "loss is inf at step" in out
    assert "Traceback" not in out
    store = Store(tmp_path / "runs")
    assert sorted(r.status for r in store.records()).count("failed") == 2
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    names = {e.name: e.experiment_id for e in client.search_experiments()}
    mirrored = client.search_runs([names["demo"]])
    assert sorted(run.info.status for run in mirrored) == ["FAILED"] * 2 + ["FINISHED"] * 2
    assert any("val/exact_match" in run.data.metrics for run in mirrored)
    confirmed = client.search_runs([names["demo_confirmed"]])
    assert all("test/exact_match" in run.data.metrics for run in confirmed)
    again = command("sweep", path, code=1)
    assert "0 runs" in again


def test_a_wrong_sweep_is_one_line(sweep_file, command, tmp_path):
    path = sweep_file(sampler={"name": "TPESamler"})
    out = command("sweep", path, code=2)
    assert out.strip() == f"{path}: sampler.name: 'TPESamler'; did you mean TPESampler?"
    assert not Path(tmp_path / "runs").exists()
