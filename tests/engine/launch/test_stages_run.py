"""Stages in a real run: trained once, started from, reused, resumed, and what a failure does."""

import json

import torch
from safetensors.torch import load_file

from sca_bench.digests import file_sha256
from sca_bench.study.runs.store import Store, trained_path

STAGES = """
stages:
  shapes:
    data: {train: {dataset: scenes, num_images: 6, first_seed: 500, captions: shape}}
    train: {steps: 4}
"""


def logged_steps(store):
    """How many steps all runs of a folder logged."""
    logs = [store.log(r.cell_id, r.seed) for r in store.records()]
    return sum(sum("loss" in row for row in rows) for rows in logs)


def by_name(store, name="demo"):
    manifest = next(m for m in store.manifests() if m.suite == name)
    return {c.name: store.record(c.cell_id, manifest.seeds[0]) for c in manifest.cells}


def test_two_cells_share_one_stage(suite_file, command, tmp_path):
    axes = "{pretraining: [none, shapes], train.learning_rate: [0.01, 0.02]}"
    path = suite_file(
        axes=axes, extra=STAGES.replace("{steps: 4}", "{steps: 4, learning_rate: 0.03}")
    )
    out = command("plan", path, "--no-probe")
    assert "4 to run" in out
    assert f"{4 + 4 * 6} training steps" in out
    assert "2 begin with it: pretraining=shapes,learning_rate=0.01; pretraining=shapes" in out
    out = command("run", path, "--no-mlflow")
    assert "after 1 stage\n" in out
    store = Store(tmp_path / "runs")
    stages = [r for r in store.records() if r.stage]
    assert [(r.stage, r.status, r.counters["train_steps"]) for r in stages] == [
        ("shapes", "done", 4)
    ]
    assert logged_steps(store) == 4 + 4 * 6
    runs = by_name(store)
    weights = trained_path(store.run_dir(stages[0].cell_id, 0))
    for name, run in runs.items():
        assert run.scores["cider_d"].value is not None, name
        if name.startswith("pretraining=none"):
            assert run.lineage == []
            continue
        (stage,) = run.lineage
        assert stage == {
            "stage": "shapes",
            "cell_id": stages[0].cell_id,
            "seed": 0,
            "steps": 4,
            "weights_sha256": file_sha256(weights),
        }
    assert not (store.run_dir(stages[0].cell_id, 0) / "predictions.jsonl").exists()
    out = command("run", path, "--no-mlflow")
    assert "nothing to do" in out


def test_fine_tuning_starts_from_the_stage(suite_file, command, tmp_path):
    """With no step of its own a cell has exactly the stage's weights; without stage, fresh ones."""
    path = suite_file(
        axes="{pretraining: [none, shapes]}", changes={"train.steps": 0}, extra=STAGES
    )
    command("run", path, "--no-mlflow")
    store = Store(tmp_path / "runs")
    runs = by_name(store)
    (stage,) = [r for r in store.records() if r.stage]
    states = {
        name: load_file(trained_path(store.run_dir(run.cell_id, 0)))
        for name, run in {**runs, "stage": stage}.items()
    }
    tuned, fresh = states["pretraining=shapes"], states["pretraining=none"]
    assert all(torch.equal(tuned[n], t) for n, t in states["stage"].items())
    assert not all(torch.equal(fresh[n], t) for n, t in tuned.items())


def test_prompts_share_one_training(suite_file, command, tmp_path):
    path = suite_file(axes="{eval.prompt: [box, point], eval.num_beams: [1, 2]}")
    command("run", path, "--no-mlflow")
    store = Store(tmp_path / "runs")
    assert logged_steps(store) == 6
    runs = by_name(store)
    first = runs["prompt=box,num_beams=1"]
    assert first.lineage == []
    weights = {file_sha256(trained_path(store.run_dir(first.cell_id, 0)))}
    for name, run in runs.items():
        assert run.status == "done", name
        if run.cell_id != first.cell_id:
            (shared,) = run.lineage
            assert (shared["stage"], shared["cell_id"]) == ("training", first.cell_id)
            assert shared["weights_sha256"] in weights
            assert not trained_path(store.run_dir(run.cell_id, 0)).exists()


def test_a_failed_stage_fails_what_needs_it_and_nothing_else(suite_file, command, tmp_path):
    extra = STAGES.replace("{steps: 4}", "{steps: 4, learning_rate: 1.0e+30}")
    path = suite_file(axes="{pretraining: [none, shapes]}", extra=extra)
    out = command("run", path, "--no-mlflow", code=1)
    assert "FAILED pretraining=shapes seed 0: stage shapes seed 0, whose weights it needs" in out
    runs = by_name(Store(tmp_path / "runs"))
    assert runs["pretraining=none"].status == "done"
    assert runs["pretraining=shapes"].status == "failed"
    assert "Traceback" not in out


def test_changed_weights_of_a_stage_are_refused(suite_file, command, tmp_path):
    path = suite_file(axes="{pretraining: [shapes]}", extra=STAGES)
    command("run", path, "--no-mlflow")
    store = Store(tmp_path / "runs")
    (stage,) = [r for r in store.records() if r.stage]
    pointer = tmp_path / "runs" / "stages" / stage.cell_id / "seed-0.json"
    content = json.loads(pointer.read_text())
    pointer.write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    edited = suite_file(axes="{pretraining: [shapes]}", changes={"train.steps": 5}, extra=STAGES)
    out = command("run", edited, "--no-mlflow", code=1)
    assert "has changed since it was trained" in " ".join(out.split())


def test_a_run_that_lacks_captions_only_keeps_the_lineage_it_has(suite_file, command, tmp_path):
    """Its own weights stand; what lies in the stage's folder today is not what it started from."""
    path = suite_file(axes="{pretraining: [shapes]}", extra=STAGES)
    command("run", path, "--no-mlflow")
    store = Store(tmp_path / "runs")
    before = by_name(store)["pretraining=shapes"]
    folder = store.run_dir(before.cell_id, 0)
    captions = (folder / "predictions.jsonl").read_text()
    (folder / "predictions.jsonl").unlink()
    store.save(before.model_copy(update={"status": "killed"}))
    (stage,) = before.lineage
    pointer = tmp_path / "runs" / "stages" / stage["cell_id"] / "seed-0.json"
    content = json.loads(pointer.read_text())
    pointer.write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    command("run", path, "--no-mlflow")
    after = by_name(store)["pretraining=shapes"]
    assert (after.status, after.lineage) == ("done", before.lineage)
    assert said(folder) == [row["caption"] for row in map(json.loads, captions.splitlines())]


def said(folder):
    rows = (folder / "predictions.jsonl").read_text().splitlines()
    return [row["caption"] for row in map(json.loads, rows)]


def test_stages_of_one_recipe_follow_each_other(suite_file, command, tmp_path):
    """The same data and steps twice, at two rates: neither waits for the other for ever."""
    again = "  again: {data: {train: DATA}, train: {steps: 4, learning_rate: 0.001}}\n"
    data = "{dataset: scenes, num_images: 6, first_seed: 500, captions: shape}"
    extra = STAGES + again.replace("DATA", data)
    path = suite_file(axes="{pretraining: [[shapes, again]]}", extra=extra)
    command("run", path, "--no-mlflow")
    (run,) = by_name(Store(tmp_path / "runs")).values()
    assert [stage["stage"] for stage in run.lineage] == ["shapes", "again"]
