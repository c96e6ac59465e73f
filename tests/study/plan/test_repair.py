"""What is left of a suite relies on no damaged file: each is set aside, and the plan made anew."""

import numpy as np
import pytest
from safetensors.numpy import save

from sca_bench.digests import file_sha256
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.plan.repair import repaired_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.soundness import run_name, seal_weights
from sca_bench.study.runs.store import Store, checkpoint_path, trained_path
from sca_bench.study.runs.trained_index import TrainedIndex
from sca_bench.study.suite.suite import load_suite


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def plans(write, store):
    """Return a function that plans the suite of two cells and two seeds, and counts the plans."""
    suite = load_suite(write())
    made = []

    def make():
        made.append(make_plan(suite, store))
        return made[-1]

    make.made = made
    return make


def folder_of(store, job):
    folder = store.run_dir(job.cell.cell_id, job.seed)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_weights(folder, damaged=False):
    plain = save({"a": np.zeros(4, np.float32)})
    header, data = seal_weights(plain, run_name(folder))
    content = header + bytes(data)
    trained_path(folder).write_bytes(content[:-1] + b"\1" if damaged else content)


def record(job, status="done"):
    return RunRecord(
        cell_id=job.cell.cell_id,
        seed=job.seed,
        status=status,
        settings={},
        variant="sca",
        revision="1",
    )


def test_nothing_is_said_where_nothing_is_damaged(store, plans):
    job = plans().jobs[0]
    folder = folder_of(store, job)
    put_weights(folder)
    (folder / ".record.json.1.tmp").write_text("half")
    (folder / ".kept").write_text("mine")
    said = []
    plan = repaired_plan(plans, store, said.append)
    assert said == []
    assert plan is plans.made[-1]
    assert len(plans.made) == 2  # the first is this test's own
    assert sorted(path.name for path in folder.iterdir()) == [".kept", trained_path(folder).name]


def test_damaged_weights_are_set_aside_and_the_plan_is_made_anew(store, plans):
    first, second, *_ = plans().jobs
    for job in (first, second):
        put_weights(folder_of(store, job), damaged=job is second)
    store.save(record(second, "failed"))
    said = []
    plan = repaired_plan(plans, store, said.append)
    path = trained_path(store.run_dir(second.cell.cell_id, second.seed))
    aside = f"set aside as {path.name}.damaged; its run is repeated as far as needed"
    assert said == [f"  {path}: damaged: its content does not fit its checksum; {aside}"]
    assert plan is plans.made[2]
    assert len(plans.made) == 3
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").exists()
    assert trained_path(store.run_dir(first.cell.cell_id, first.seed)).exists()
    assert store.record(second.cell.cell_id, second.seed).status == "failed"


def test_each_damaged_checkpoint_is_said_and_a_finished_run_is_left_alone(store, plans):
    first, second, third, _ = plans().jobs
    for step in (4, 8):
        checkpoint_path(folder_of(store, first), step).write_bytes(b"torn")
    put_weights(folder_of(store, second), damaged=True)
    store.save(record(second))
    checkpoint_path(folder_of(store, third), 4).write_bytes(b"torn")
    store.save(record(third))
    said = []
    plan = repaired_plan(plans, store, said.append)
    names = [line.partition(": damaged: ")[0].rpartition("/")[2] for line in said]
    # A finished run needs no checkpoint, and one whose weights nobody begins with is not read.
    assert names == ["checkpoint-8.pt", "checkpoint-4.pt"]
    assert [job.state for job in plan.jobs] == ["to run", "done", "done", "to run"]


def test_a_finished_run_whose_weights_others_begin_with_is_done_no_longer(
    write, suite_text, store, tmp_path
):
    """Two cells share a training; the one that did it is finished, the other only captions."""
    text = suite_text.replace("mixer.num_layers: [1, 2]", "eval.max_new_tokens: [6, 8]")
    suite = load_suite(write(text), seeds=[0])
    one, other = make_plan(suite, store).jobs
    assert one.cell.training_id == other.cell.training_id
    folder = folder_of(store, one)
    put_weights(folder)
    store.save(record(one))
    TrainedIndex(store).announce(one.cell.training_id, one.cell.cell_id, 0, 6)
    plan = make_plan(suite, store)
    assert [(job.state, job.reuses) for job in plan.jobs] == [("done", False), ("to run", True)]
    said = []
    again = repaired_plan(lambda: make_plan(suite, store), store, said.append)
    assert said == []
    assert [job.state for job in again.jobs] == ["done", "to run"]
    put_weights(folder, damaged=True)
    before = file_sha256(trained_path(folder))
    again = repaired_plan(lambda: make_plan(suite, store), store, said.append)
    assert len(said) == 1
    assert [(job.state, job.reuses) for job in again.jobs] == [("to run", False), ("to run", True)]
    kept = store.record(one.cell.cell_id, 0)
    assert kept.status == "killed"
    assert said[0] == f"  {kept.error}; its run is repeated as far as needed"
    aside = trained_path(folder)
    assert file_sha256(aside.with_name(f"{aside.name}.damaged")) == before
