"""A flat mirror of before becomes today's by `track sync`: once, and wherever that is cut short."""

import shutil

import pytest
from helpers.old_mirror import write_old_mirror

from sca_bench.contract.fake_suite import fake_suite
from sca_bench.engine.mlflow_mirror import layout
from sca_bench.engine.mlflow_mirror.opening import open_client
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.study.runs.store import Store

pytestmark = [
    pytest.mark.usefixtures("mlflow"),
    pytest.mark.filterwarnings("ignore"),  # mlflow's own imports warn in ways that change
]
WRITES = {"create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated", "delete_run"}


@pytest.fixture(scope="module")
def flat(mlflow_tables, tmp_path_factory):
    """One cell with two seeds, and its mirror of before, with a report and a user's tag."""
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("flat")
    store, manifest = fake_suite(root / "runs", with_runs=True)
    manifest = manifest.model_copy(update={"cells": manifest.cells[:1], "claims": []})
    store.save_manifest(manifest)
    (root / "report").mkdir()
    (root / "report" / "table.md").write_text("| a |")
    shutil.copy(mlflow_tables, root / "server.db")
    uri = f"sqlite:///{root}/server.db"
    first, *_ = write_old_mirror(store, manifest, uri, root / "report")
    MlflowClient(tracking_uri=uri).set_tag(first, "liked_by", "me")
    return root, manifest


@pytest.fixture
def old(flat, tmp_path):
    """A copy of it, under an address of its own, with the notes that a run leaves there."""
    root, manifest = flat
    shutil.copytree(root / "runs", tmp_path / "runs")
    shutil.copy(root / "server.db", tmp_path / "server.db")
    return Store(tmp_path / "runs"), manifest, f"sqlite:///{tmp_path}/server.db"


def seen(uri):
    """Return all that a user sees: kind, name, status, tags of users, numbers, parameters."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("made_up")
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    return sorted(
        (
            run.data.tags.get(layout.KIND_TAG, "flat"),
            run.info.run_name,
            run.info.status,
            names.get(run.data.tags.get(layout.PARENT_TAG), ""),
            run.data.tags.get("liked_by", ""),
            sorted(run.data.params.items()),
            sorted(
                (n, len(client.get_metric_history(run.info.run_id, n))) for n in run.data.metrics
            ),
            sorted(item.path for item in client.list_artifacts(run.info.run_id)),
        )
        for run in runs
    )


def sync(store, manifest, uri, connect=open_client):
    Tracker(store, manifest, uri, print, verify=True, connect=connect).update()


def test_every_run_is_there_once_with_todays_names(old):
    store, manifest, uri = old
    before = seen(uri)
    assert [kind for kind, *_ in before] == ["flat"] * 3
    sync(store, manifest, uri)
    after = seen(uri)
    assert [kind for kind, *_ in after] == ["cell", "flat", "seed", "seed"]
    summary = next(run for run in before if run[1] == "summary")
    assert summary in after  # its report is in no runs folder, so it stays
    seeds = after[2:]
    assert [run[1] for run in seeds] == ["num_layers=1, seed 0", "num_layers=1, seed 1"]
    assert [run[3] for run in seeds] == ["num_layers=1"] * 2
    assert [run[4] for run in seeds] == ["me", ""]
    for run in seeds:
        assert [name for name, _ in run[5]] == ["mixer.num_layers", "seed"]
        assert {name.partition("/")[0] for name, _ in run[6]} == {"test", "train", "usage", "val"}
        assert "captions.json" in run[7]
    sync(store, manifest, uri)
    assert seen(uri) == after


def test_a_run_that_goes_on_has_todays_names_and_others_stay(old):
    """`run` leaves what is done as it is: nothing of it waits for a rewriting."""
    store, manifest, uri = old
    key = layout.identity_tags(manifest, store.record("depth1", 0))
    for note in store.root.glob("cells/*/*/mlflow.json"):
        text = note.read_text()
        note.write_text(text.replace(text.split('"')[1], Tracker(store, manifest, uri, print)._key))
    record = store.record("depth1", 1)
    store.save(record.model_copy(update={"status": "failed"}))
    Tracker(store, manifest, uri, print).update()
    kinds = [(kind, name) for kind, name, *_ in seen(uri)]
    assert kinds == [
        ("cell", "num_layers=1"),
        ("flat", "num_layers=1, seed 0"),
        ("flat", "summary"),
        ("seed", "num_layers=1, seed 1"),
    ]
    assert key["sca_bench.seed"] == "0"


class Failing:
    """A client that fails at its nth write, before or after that is done."""

    def __init__(self, client, number, *, after):
        self._client, self._left, self._after = client, number, after

    def __getattr__(self, name):
        function = getattr(self._client, name)
        if name not in WRITES:
            return function

        def call(*arguments, **more):
            self._left -= 1
            if self._left == 0 and not self._after:
                raise ConnectionError("cut")
            answer = function(*arguments, **more)
            if self._left == 0:
                raise ConnectionError("cut")
            return answer

        return call


def test_a_sync_that_is_cut_short_is_made_good(flat, tmp_path):
    root, manifest = flat

    def copy(name):
        """Return a copy under an address that nobody in this process has open."""
        shutil.copytree(root / "runs", tmp_path / name / "runs")
        shutil.copy(root / "server.db", tmp_path / name / "server.db")
        return Store(tmp_path / name / "runs"), f"sqlite:///{tmp_path}/{name}/server.db"

    store, uri = copy("whole")
    sync(store, manifest, uri)
    expected, number, is_cut = seen(uri), -2, True
    while is_cut:
        number += 3  # each third write, before it and after it in turn
        store, uri = copy(str(number))

        def connect(store, uri, number=number):
            return Failing(open_client(store, uri), number, after=number % 2 == 0)

        try:
            sync(store, manifest, uri, connect)
            is_cut = False
        except ConnectionError:
            sync(store, manifest, uri)
            assert seen(uri) == expected, number
    assert number > 20
