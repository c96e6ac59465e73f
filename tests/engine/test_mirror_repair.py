"""A mirror that was damaged, deleted or half-written: one line, and `track sync` repairs it."""

import os
import signal
import sqlite3
import time

import pytest
from helpers.demo_runs import demo_manifest, demo_store

from sca_bench.cli import main
from sca_bench.engine.mlflow_mirror import opening
from sca_bench.engine.mlflow_mirror.addresses import own_uri
from sca_bench.engine.mlflow_mirror.faults import MirrorFault, is_passing, reason_of
from sca_bench.engine.mlflow_mirror.mirror import Mirror, sync
from sca_bench.engine.mlflow_mirror.tracker import Tracker

pytestmark = [
    pytest.mark.usefixtures("mlflow"),
    pytest.mark.filterwarnings("ignore"),  # mlflow's own imports warn in ways that change
]


@pytest.fixture
def store(tmp_path):
    log = '{"step": 1, "loss": NaN, "lr": 0.1}\n'
    return demo_store(tmp_path / "runs", "a", log, cost={"train_s": 3.0})


@pytest.fixture
def manifest(store):
    return demo_manifest(store, "a")


def client_of(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, client.get_experiment_by_name("demo").experiment_id


def seen(uri):
    """Return all that MLflow shows of the suite's runs."""
    client, experiment = client_of(uri)
    return sorted(
        (
            run.info.status,
            sorted(run.data.params.items()),
            sorted(
                (name, len(client.get_metric_history(run.info.run_id, name)))
                for name in run.data.metrics
            ),
            run.data.tags["sca_bench.cell_id"],
            sorted(item.path for item in client.list_artifacts(run.info.run_id)),
        )
        for run in client.search_runs([experiment], "tags.`sca_bench.kind` = 'seed'")
    )


def repair(store, manifest, uri):
    Tracker(store, manifest, uri, print, verify=True).update()


def delete_run(client, experiment, store, manifest):
    client.delete_run(client.search_runs([experiment])[0].info.run_id)


def reopen_run(client, experiment, store, manifest):
    client.update_run(client.search_runs([experiment])[0].info.run_id, status="RUNNING")


def forget_parameters(client, experiment, store, manifest):
    """Leave what a process leaves that was killed right after it made the run."""
    delete_run(client, experiment, store, manifest)
    tracker = Tracker(store, manifest, client.tracking_uri, print)
    tracker._create(manifest.cells[0], store.record("a", 0), "")


def spoil_notes(client, experiment, store, manifest):
    (store.run_dir("a", 0) / "mlflow.json").write_text('{"x": [1, {"run_id": 3}]}')


@pytest.mark.parametrize("harm", [delete_run, reopen_run, forget_parameters, spoil_notes])
def test_what_was_changed_is_put_right_once(store, manifest, mlflow_server, harm):
    Tracker(store, manifest, mlflow_server, print).update()
    before = seen(mlflow_server)
    client, experiment = client_of(mlflow_server)
    harm(client, experiment, store, manifest)
    for _ in range(2):
        repair(store, manifest, mlflow_server)
        assert seen(mlflow_server) == before


def test_a_deleted_experiment_is_said_by_a_run_and_brought_back_when_asked(
    store, manifest, mlflow_server
):
    Tracker(store, manifest, mlflow_server, print).update()
    before = seen(mlflow_server)
    client, experiment = client_of(mlflow_server)
    client.delete_experiment(experiment)
    record = store.record("a", 0)
    store.save(record.model_copy(update={"scores": {}}))
    with pytest.raises(MirrorFault, match="the experiment 'demo' was deleted there"):
        Tracker(store, manifest, mlflow_server, print).update()
    store.save(record)
    repair(store, manifest, mlflow_server)
    assert seen(mlflow_server) == before


def test_a_run_that_was_killed_is_closed_by_the_next_sync(store, manifest, mlflow_server):
    record = store.record("a", 0)
    store.save(record.model_copy(update={"status": "running"}))
    Tracker(store, manifest, mlflow_server, print).update()
    assert [status for status, *_ in seen(mlflow_server)] == ["RUNNING"]
    words = ["--runs-dir", str(store.root), "--tracking-uri", mlflow_server]
    assert main(["track", "sync", *words]) == 0
    assert store.record("a", 0).status == "killed"
    assert [status for status, *_ in seen(mlflow_server)] == ["KILLED"]


def test_a_store_that_is_locked_or_no_store_has_its_reason(
    store, manifest, mlflow_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(opening, "_BUSY_S", 0.1)
    (tmp_path / "server.db").write_bytes(b"no data base " * 1000)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        Tracker(store, manifest, mlflow_server, print).update()
    assert reason_of(damaged.value, mlflow_server) == "file is not a database"
    assert not is_passing(damaged.value)
    (tmp_path / "server.db").unlink()
    with sqlite3.connect(tmp_path / "server.db") as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            Tracker(store, manifest, mlflow_server, print).update()
        assert reason_of(locked.value, mlflow_server) == "database is locked"
        assert is_passing(locked.value)


def test_a_damaged_mirror_is_said_by_a_run_and_made_anew_when_asked(store, manifest):
    file, said = store.root / "mlflow.db", []
    file.write_bytes(b"no data base " * 1000)
    with Mirror(store, own_uri(store), said.append, "do this") as mirror:
        mirror.update(manifest)
        mirror.finish()
    reason = f"{file}: file is not a database"
    assert said == [f"  MLflow mirror stopped: {reason}; nothing of the runs is lost, and do this"]
    said.clear()
    assert sync(store, own_uri(store), said.append, "") == 1
    assert said == [f"  {file}: damaged: file is not a database; set aside as mlflow.db.damaged"]
    assert [status for status, *_ in seen(own_uri(store))] == ["FINISHED"]


def test_a_process_that_is_killed_while_it_makes_the_store_leaves_no_half_of_it(store, manifest):
    said = []
    with Mirror(store, own_uri(store), said.append, "do this") as mirror:
        mirror.update(manifest)
        end = time.monotonic() + 60
        while not list(store.root.glob("sca_bench-*/mlflow.db")):
            assert time.monotonic() < end, said
            time.sleep(0.01)
        os.kill(mirror._process.pid, signal.SIGKILL)
        mirror.finish()
    assert "its process ended with SIGKILL" in said[0]
    assert not (store.root / "mlflow.db").exists()
    Tracker(store, manifest, own_uri(store), print).update()
    assert [status for status, *_ in seen(own_uri(store))] == ["FINISHED"]
    assert not list(store.root.glob("sca_bench-*"))
