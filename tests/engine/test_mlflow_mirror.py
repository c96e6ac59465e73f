"""MLflow as a view: right statuses, few parameters, no secrets, and never a reason to stop."""

import contextlib
import json
import os
import shutil
import sqlite3

import pytest

from sca_bench.engine.mlflow_mirror import mirror
from sca_bench.engine.mlflow_mirror.addresses import default_uri, own_uri
from sca_bench.engine.mlflow_mirror.faults import MirrorFault
from sca_bench.engine.mlflow_mirror.layout import SUMMARY_TAG
from sca_bench.engine.mlflow_mirror.mirror import Mirror
from sca_bench.engine.mlflow_mirror.notes import lacks_runs
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import Store

pytestmark = [
    pytest.mark.usefixtures("mlflow"),
    # mlflow's own imports warn in ways that change by version; nothing of ours is silenced
    pytest.mark.filterwarnings("ignore"),
]

STATUSES = {"done": "FINISHED", "failed": "FAILED", "killed": "KILLED", "running": "RUNNING"}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    for name, status in zip("abcd", STATUSES, strict=True):
        record = RunRecord(
            cell_id=name,
            seed=0,
            status=status,
            settings={"mixer": {"num_layers": 2}, "train": {"steps": 4}},
            variant="sca",
            revision="1",
            scores={"cider_d": Score(value=1.5), "spice": Score(value=None, reason="no jars")},
            cost={"train_s": 3.0},
            error="ran out of memory" if status == "failed" else "",
        )
        store.save(record)
        rows = [{"step": step, "loss": 4.0 - step, "lr": 0.1} for step in (1, 2)]
        log = store.run_dir(name, 0) / "log.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return store


@pytest.fixture
def manifest():
    return SuiteManifest(
        suite="demo",
        profile="tiny",
        default_profile="tiny",
        file="demo.yaml",
        question="?",
        seeds=[0],
        metrics=["cider_d"],
        axes={"mixer.num_layers": [2]},
        cells=[
            CellEntry(
                cell_id=c, name=f"cell {c}", coordinates={"mixer.num_layers": 2}, variant="sca"
            )
            for c in "abcd"
        ],
    )


def sync(store, uri, say):
    return mirror.sync(store, uri, say, "the same command tries again")


def runs_by_cell(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    return client, {run.data.tags["sca_bench.cell_id"]: run for run in runs}


def test_statuses_scores_and_steps_are_mirrored_once(store, manifest, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = default_uri(store)
    said = []
    assert lacks_runs(store, manifest, uri)
    Tracker(store, manifest, uri, said.append).update()
    assert not lacks_runs(store, manifest, uri)
    assert lacks_runs(store, manifest, "http://localhost:1")  # another place has none of them
    client, runs = runs_by_cell(uri)
    for name, status in zip("abcd", STATUSES, strict=True):
        assert runs[name].info.status == STATUSES[status]
    done = runs["a"]
    assert done.data.metrics["test/cider_d"] == 1.5
    assert "test/spice" not in done.data.metrics
    assert done.data.params["mixer.num_layers"] == "2"
    assert runs["b"].data.tags["sca_bench.error"] == "ran out of memory"
    assert [m.value for m in client.get_metric_history(done.info.run_id, "train/loss")] == [
        3.0,
        2.0,
    ]

    Tracker(store, manifest, uri, said.append).update()
    _, again = runs_by_cell(uri)
    assert {r.info.run_id for r in again.values()} == {r.info.run_id for r in runs.values()}

    running = store.record("d", 0)
    store.save(running.model_copy(update={"status": "killed"}))
    with (store.run_dir("d", 0) / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 0.5}\n')
    assert lacks_runs(store, manifest, uri)  # it has ended since
    Tracker(store, manifest, uri, said.append).update()
    assert not lacks_runs(store, manifest, uri)
    client, after = runs_by_cell(uri)
    assert after["d"].info.status == "KILLED"
    history = client.get_metric_history(after["d"].info.run_id, "train/loss")
    assert [m.value for m in history] == [3.0, 2.0, 0.5]
    assert said == []

    (store.root / "mlflow.db").unlink()
    assert sync(store, uri, said.append) == 0  # no manifest was saved: nothing to rebuild from
    store.save_manifest(manifest)
    assert sync(store, uri, said.append) == 1
    _, rebuilt = runs_by_cell(uri)
    assert rebuilt["a"].data.metrics["test/cider_d"] == 1.5


def test_a_broken_server_is_said_once_without_its_credentials(store, manifest):
    said = []
    uri = "postgresql://user:secret@127.0.0.1:1/none"
    with Mirror(store, uri, said.append, "`track sync`") as mirror:
        for _ in range(2):
            mirror.update(manifest)
            mirror.finish()
        assert mirror.broken
    (line,) = said
    assert line.startswith("  MLflow mirror stopped: postgresql://***@127.0.0.1:1/none: ")
    assert "the Python package psycopg" in line
    assert "secret" not in line
    assert store.record("a", 0).status == "done"


def test_a_process_that_began_early_writes_what_comes_later(store, manifest, mlflow_server):
    uri, said = mlflow_server, []
    with Mirror(store, uri, said.append, "`track sync`") as mirror:
        mirror.begin()
        process = mirror._process
        assert mirror.has_begun
        mirror.update(manifest)
        mirror.finish()
        assert mirror._process is process
    assert said == []
    assert runs_by_cell(uri)[1].keys() == set("abcd")


def summaries(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("demo")
    found = client.search_runs([experiment.experiment_id])
    return client, [run for run in found if SUMMARY_TAG in run.data.tags]


def test_a_report_is_one_summary_run_however_often_it_is_written(
    store, manifest, mlflow_server, tmp_path
):
    uri, said = mlflow_server, []
    report = tmp_path / "reports" / "demo"
    report.mkdir(parents=True)
    (report / "index.html").write_text("<p>one</p>")
    (report / "table.md").write_text("| a |")
    for _ in range(2):
        Tracker(store, manifest, uri, said.append).summarise(report)
    client, runs = summaries(uri)
    (first,) = runs
    assert (first.info.run_name, first.info.status) == ("summary", "FINISHED")
    names = {item.path for item in client.list_artifacts(first.info.run_id)}
    assert names == {"index.html", "table.md"}

    (report / "index.html").write_text("<p>two</p>")
    (report / "table.md").unlink()
    Tracker(store, manifest, uri, said.append).summarise(report)
    client, runs = summaries(uri)
    (second,) = runs
    assert second.info.run_id != first.info.run_id
    assert [item.path for item in client.list_artifacts(second.info.run_id)] == ["index.html"]
    assert said == []


def test_a_report_that_could_not_be_sent_leaves_no_running_run(
    store, manifest, mlflow_server, tmp_path, monkeypatch
):
    from mlflow import MlflowClient

    uri, said = mlflow_server, []
    report = tmp_path / "reports" / "demo"
    report.mkdir(parents=True)
    (report / "index.html").write_text("<p>one</p>")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", fail)
        with pytest.raises(OSError, match="disk full"):
            Tracker(store, manifest, uri, said.append).summarise(report)
    _, (run,) = summaries(uri)
    assert run.info.status == "FAILED"
    Tracker(store, manifest, uri, said.append).summarise(report)
    _, (run,) = summaries(uri)
    assert run.info.status == "FINISHED"


def artifacts(root):
    return sorted(path.name for path in (root / "mlartifacts").rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["pct%20x; what?now #b {c} caf\u00e9 'd'"])
def test_a_copied_folder_is_the_same_runs_in_another_place(
    store, manifest, tmp_path, monkeypatch, name
):
    """Whatever it is called: no run twice, artifacts in the copy, nothing in the folder copied."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (store.run_dir("a", 0) / "predictions.jsonl").write_text("")
    store.save_manifest(manifest)
    said, before = [], {}
    assert sync(store, default_uri(store), said.append) == 1
    _, old = runs_by_cell(default_uri(store))
    for number, copy in enumerate((Store(tmp_path / name / "runs"), Store(tmp_path / "moved"))):
        if number == 0:
            shutil.copytree(store.root, copy.root)
            before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
        else:
            (tmp_path / name / "runs").rename(copy.root)
        shutil.rmtree(copy.root / "mlartifacts")
        said.clear()
        for _ in range(2):
            assert sync(copy, default_uri(copy), said.append) == 1
        client, now = runs_by_cell(default_uri(copy))
        assert {r.info.run_id for r in now.values()} == {r.info.run_id for r in old.values()}
        assert len(client.search_runs([now["a"].info.experiment_id])) == 4
        assert artifacts(copy.root) == sorted(
            ["record.json", "log.jsonl"] * 3 + ["predictions.jsonl"]
        )
        names = {item.path for item in client.list_artifacts(now["a"].info.run_id)}
        assert names == {"record.json", "log.jsonl", "predictions.jsonl"}
        for key, count in {"train/loss": 2, "test/cider_d": 1, "usage/train_s": 1}.items():
            assert len(client.get_metric_history(now["a"].info.run_id, key)) == count
        assert said == [f"  demo: its artifacts in MLflow now lie in {copy.root}"]
    assert before == {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["moved", "runs", name])


def test_runs_whose_notes_are_lost_are_told_by_their_tags(store, manifest, mlflow_server):
    """On any server: another seed or revision is another run, and so is another suite's."""
    uri, said = mlflow_server, []
    Tracker(store, manifest, uri, said.append).update()
    _, old = runs_by_cell(uri)
    for note in store.root.glob("cells/*/*/mlflow.json"):
        note.unlink()
    record = store.record("b", 0)
    store.save(record.model_copy(update={"revision": "2"}))
    store.save(record.model_copy(update={"seed": 1}))
    manifest = manifest.model_copy(update={"seeds": [0, 1]})
    Tracker(store, manifest, uri, said.append).update()
    client, _ = runs_by_cell(uri)
    seeds = "tags.`sca_bench.kind` = 'seed'"
    runs = client.search_runs([old["a"].info.experiment_id], seeds)
    seen = sorted(
        tuple(r.data.tags[f"sca_bench.{key}"] for key in ("cell_id", "seed", "revision"))
        for r in runs
    )
    others = [("b", "0", "2"), ("b", "1", "1")]
    assert seen == sorted([(cell, "0", "1") for cell in "abcd"] + others)
    assert said == []


def test_a_place_that_a_user_chose_for_artifacts_stays(store, manifest, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri, said = default_uri(store), []
    chosen = (tmp_path / "chosen").as_uri()
    MlflowClient(tracking_uri=uri).create_experiment("demo", artifact_location=chosen)
    with pytest.raises(MirrorFault, match=r"copied to .*/chosen; if that is wanted, name it"):
        Tracker(store, manifest, uri, said.append).update()  # it may be another's database
    assert not (tmp_path / "chosen").exists()
    Tracker(store, manifest, uri, said.append, named=True).update()
    assert not (store.root / "mlartifacts").exists()
    assert list((tmp_path / "chosen").rglob("record.json"))
    assert said == []


def test_a_database_of_somebody_else_has_no_files_copied_elsewhere(
    store, manifest, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri, victim = default_uri(store), tmp_path / "victim"
    Tracker(store, manifest, uri, print).update()
    with contextlib.closing(sqlite3.connect(store.root / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ?", (victim.as_uri(),))
    for note in store.root.glob("cells/*/*/mlflow.json"):
        note.unlink()
    with pytest.raises(MirrorFault, match=r"would have files copied to .*victim; delete it"):
        Tracker(store, manifest, uri, print).update()
    assert not victim.exists()


@pytest.mark.parametrize("place", ["runs/%2e%2e/victim", "runs/link/demo", "victim/mlartifacts"])
def test_an_experiment_of_somebody_else_has_no_files_copied_elsewhere(
    store, manifest, tmp_path, place
):
    uri, victim = own_uri(store), tmp_path / "victim"
    victim.mkdir()
    (store.root / "link").symlink_to(victim)
    Tracker(store, manifest, uri, print).update()
    with contextlib.closing(sqlite3.connect(store.root / "mlflow.db")) as database, database:
        address = f"{tmp_path.as_uri()}/{place}"
        database.execute("UPDATE experiments SET artifact_location = ?", (address,))
        database.execute("UPDATE runs SET artifact_uri = ? || '/' || run_uuid", (address,))
    for note in store.root.glob("cells/*/*/mlflow.json"):
        note.unlink()
    with pytest.raises(MirrorFault, match="would have files copied to"):
        Tracker(store, manifest, uri, print).update()
    assert not any(victim.iterdir())


def test_the_runs_beside_a_damaged_one_are_mirrored(store, manifest, mlflow_server):
    uri = mlflow_server
    (store.run_dir("a", 0) / "record.json").write_text("{")
    with pytest.raises(MirrorFault, match=r"a/seed-0/record\.json: damaged .*1 run left out"):
        Tracker(store, manifest, uri, print).update()
    assert sorted(runs_by_cell(uri)[1]) == ["b", "c", "d"]


def test_a_mirror_in_a_closed_folder_is_left_alone_at_once(store, manifest, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for work in (Tracker.update, lambda tracker: tracker.summarise(tmp_path)):
        with pytest.raises(MirrorFault, match="the folder cannot be written"):
            work(Tracker(store, manifest, own_uri(store), print))
    assert not (store.root / "mlflow.db").exists()
