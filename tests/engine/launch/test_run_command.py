"""`run` as a stranger uses it: a process, its exit code, its files, and what happens to them."""

import errno
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from helpers.command import finish, wait_for

from sca_bench.study.runs.store import Store


@pytest.fixture
def mlflow_runs():
    def find(root, experiment):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        return client, client.search_runs([found.experiment_id])

    return find


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn in ways that change by version
def test_a_suite_runs_once_and_then_never_again(
    suite_file, process, command, tmp_path, mlflow_runs, monkeypatch
):
    path, runs = suite_file(), tmp_path / "runs"
    out = finish(process("run", path))
    assert "2 runs finished" in out
    assert "Traceback" not in out
    images, regions = 5 + 2 + 3, sum(int(n) for n in re.findall(r": (\d+) regions in", out))
    assert f"frozen part: {images} images encoded, {regions} regions mixed" in out
    store = Store(runs)
    records = list(store.records())
    assert [r.status for r in records] == ["done", "done"]
    for record in records:
        assert record.scores["cider_d"].value is not None
        assert record.scores["cider_d"].signature["decoding"] == "greedy, at most 4 tokens"
        assert record.scores["slot/colour"].value is not None
        assert record.counters["encoder_forwards"] == 0  # the bank was filled before
        assert record.cost["prepared_s"] > 0
        assert record.cost["shared_s"] > record.cost["prepared_s"]  # and read batch by batch

    client, mirrored = mlflow_runs(runs, "demo")
    assert {run.info.status for run in mirrored} == {"FINISHED"}
    assert len(mirrored) == 2
    first = mirrored[0]
    assert first.data.params.keys() == {"mixer.num_layers", "seed"}
    steps = client.get_metric_history(first.info.run_id, "train/loss")
    assert [m.step for m in steps] == [1, 2, 3, 4, 5, 6]
    assert "test/cider_d" in first.data.metrics
    assert {a.path for a in client.list_artifacts(first.info.run_id)} >= {
        "record.json",
        "predictions.jsonl",
    }

    before = {p: p.stat().st_mtime_ns for p in runs.glob("cells/*/*/*")}
    started = time.process_time()
    again = command("run", path)
    assert "0 training steps, 0 forwards" in again
    assert time.process_time() - started < 15
    assert before == {p: p.stat().st_mtime_ns for p in runs.glob("cells/*/*/*")}

    def closed(store, manifest):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_manifest", closed)
        again = command("run", path)
    assert "runs cannot be written (Read-only file system): what it says of the suite" in again
    assert "nothing to do: every run is done" in again

    edited = suite_file(axes="{mixer.num_layers: [1, 3]}")
    out = command("run", edited, "--no-mlflow")
    assert "2 runs, 1 done, 1 to run" in out
    assert "frozen part: 0 images encoded, 0 regions mixed" in out
    assert len(list(store.records())) == 3

    # What a command did not mirror, told not to or killed before it could, is made good; once.
    assert "nothing to do: every run is done" in finish(process("run", edited))
    assert len(mlflow_runs(runs, "demo")[1]) == 3
    mirrored_at = (runs / "mlflow.db").stat().st_mtime_ns
    assert "nothing to do: every run is done" in command("run", edited)
    assert (runs / "mlflow.db").stat().st_mtime_ns == mirrored_at

    command("report")
    assert (tmp_path / "reports" / "demo" / "index.html").exists()
    table = (tmp_path / "reports" / "demo" / "table.md").read_text()
    assert "num_layers" in table

    (runs / "mlflow.db").unlink()
    out = finish(process("track", "sync"))  # MLflow holds on to a file that is gone
    assert "1 of 1 suite mirrored" in out
    assert f"mlflow ui --backend-store-uri sqlite:///{runs}/mlflow.db\n" in out
    _, rebuilt = mlflow_runs(runs, "demo")
    assert {run.info.status for run in rebuilt} == {"FINISHED"}


LONG = {"train.steps": 4000, "runtime.checkpoint_every": 4000, "train.val_every": 4000}


def steps_made(runs, count):
    return lambda: any(len(p.read_text().splitlines()) > count for p in runs.glob("cells/*/*/log*"))


def worker_pids(runs):
    """Pids of live processes of this runs folder's workers, by their open log."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            target = str((proc / "fd" / "1").readlink())
        except OSError:
            continue
        if target.startswith(str(runs)) and target.endswith("run.log"):
            found.append(int(proc.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds worker processes through /proc")
def test_signals_leave_right_statuses_and_nothing_running(suite_file, process, command, tmp_path):
    path, runs = suite_file(axes="{mixer.num_layers: [1]}", changes=LONG), tmp_path / "runs"
    running = process("run", path, "--no-mlflow")
    wait_for(steps_made(runs, 3), running)
    wait_for(lambda: ": step " in command("status"), running, poll_s=0.5)
    said = command("status")
    assert re.search(
        rf"^demo: training, 0 of 1 runs done.*\n  for .*, process {running.pid} on", said, re.M
    )
    assert re.search(r"^  num_layers=1; seed 0: step \d+ of 4,000", said, re.M)
    running.send_signal(signal.SIGTERM)
    out = finish(running, 128 + signal.SIGTERM)
    assert not (runs / "heartbeats").exists()
    assert "stopped by SIGTERM; run the same command again to go on" in out
    assert "Traceback" not in out
    (record,) = Store(runs).records()
    assert (record.status, record.error) == ("killed", "SIGTERM")
    assert not worker_pids(runs)
    (kept,) = runs.glob("cells/*/*/checkpoint-*.pt")  # of the step it was at
    step = int(kept.stem.removeprefix("checkpoint-"))
    assert step > 3
    assert len(Store(runs).log(record.cell_id, 0)) == step

    running = process("run", path, "--no-mlflow")
    wait_for(lambda: worker_pids(runs), running)
    os.kill(worker_pids(runs)[0], signal.SIGKILL)
    out = finish(running, 1)
    assert "SIGKILL (out of memory?)" in out
    (record,) = Store(runs).records()
    assert record.status == "failed"

    running = process("run", path, "--no-mlflow")
    wait_for(lambda: next(Store(runs).records()).status == "running", running)
    running.kill()
    running.communicate()
    end = time.monotonic() + 20
    while worker_pids(runs) and time.monotonic() < end:
        time.sleep(0.1)
    assert not worker_pids(runs), "workers outlive their parent"
    (record,) = Store(runs).records()
    assert record.provenance["resumed_at_step"] == step
    assert record.status == "running"
    assert f"process {running.pid} on" in command("status")
    assert "demo: no sign for" in command("status", "demo")
    assert "killed" in command("list", "runs")
    assert "killed" in command("list", "runs", "--status", "killed")


def test_one_bad_cell_fails_alone_and_the_exit_code_says_so(suite_file, command, tmp_path):
    path = suite_file(
        axes="{mixer.num_layers: [1]}",
        extra="cells: [{name: wild, set: {train.learning_rate: 1.0e+30}}]\n",
    )
    out = command("run", path, "--no-mlflow", code=1)
    assert "FAILED wild seed 0: loss is" in out
    statuses = sorted(record.status for record in Store(tmp_path / "runs").records())
    assert statuses == ["done", "failed"]
    assert "Traceback" not in out
    command("report")
    table = (tmp_path / "reports" / "demo" / "table.md").read_text()
    assert "failed" in table


def test_wrong_input_found_by_a_worker_is_one_line(suite_file, command, tmp_path):
    image = {"id": 1, "width": 9, "height": 9, "file_name": "x.jpg"}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 0}
    labels = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.jpg").write_bytes(b"no image")
    split = {
        "dataset": "coco_instances",
        "images": str(tmp_path / "images"),
        "annotations": str(tmp_path / "labels.json"),
    }
    path = suite_file(changes={"data.train": split})
    out = command("run", path, "--no-mlflow", code=2)
    assert "x.jpg: cannot be decoded" in out
    assert "Traceback" not in out
    assert not list(Store(tmp_path / "runs").records())


def test_frozen_forwards_count_images_whatever_cells_seeds_and_steps_there_are(
    suite_file, command, tmp_path
):
    """One (depth, seed) or six, few steps or many: every image is encoded once."""
    said = set()
    for number, more in enumerate(
        ({"axes": "{mixer.num_layers: [1]}"}, {"seeds": "[0, 1, 2]", "changes": {"train.steps": 9}})
    ):
        path = suite_file(name=f"demo{number}", **more)
        folder = tmp_path / str(number)
        out = command("run", path, "--no-mlflow", "--runs-dir", folder)
        said.add(re.search(r"frozen part: .* mixed", out).group())
        again = command("run", path, "--no-mlflow", "--runs-dir", folder)
        assert "0 training steps, 0 forwards" in again
    assert len(said) == 1
    assert said.pop().startswith("frozen part: 10 images encoded")


MANY = {"dataset": "scenes", "num_images": 400, "first_seed": 1000}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The runs folder of a run that nobody kills, made by the first test that needs it."""
    return tmp_path_factory.mktemp("undisturbed") / "runs"


@pytest.mark.parametrize("moment", ["*/.shard-*.tmp", "*/shard-*.json"])
def test_a_kill_while_features_are_kept_is_made_good(
    suite_file, process, command, undisturbed, tmp_path, moment
):
    """SIGKILL of every process while a shard is written, or after it; then the command again."""
    path = suite_file(changes={"data.train": MANY, "train.steps": 2})
    whole, broken = undisturbed, tmp_path / "runs"
    running = process("run", path, "--no-mlflow", "--runs-dir", broken, start_new_session=True)
    wait_for(lambda: list((broken / "features").glob(moment)), running, poll_s=0.001)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not list(broken.glob("cells/*/*/trainable.safetensors"))
    for runs in (broken, whole):
        command("run", path, "--no-mlflow", "--runs-dir", runs)
    records = list(Store(whole).records())
    assert len(records) == 2
    for record in records:
        one, two = (Store(r).run_dir(record.cell_id, record.seed) for r in (whole, broken))
        name = "trainable.safetensors"
        assert (one / name).read_bytes() == (two / name).read_bytes()
    out = command("cache", "verify", "--runs-dir", broken)
    assert "0 shards damaged" in out
    assert not list((broken / "features").glob("*/.shard-*.tmp"))
