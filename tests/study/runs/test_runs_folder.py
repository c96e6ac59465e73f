"""A runs folder at its edges: what is damaged beside what is not, limits, dead runs, logs."""

import json

import pytest

from sca_bench.errors import InputError
from sca_bench.study.find_run import find_runs
from sca_bench.study.runs import store as store_module
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import (
    Store,
    checkpoint_path,
    checkpoint_step,
    drop_checkpoints,
    has_lost_weights,
    is_trained,
    keep_log_until,
    read_log,
    trained_path,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def record(cell_id, seed=0, status="done"):
    fields = {"settings": {}, "variant": "sca", "revision": "1"}
    return RunRecord(cell_id=cell_id, seed=seed, status=status, **fields)


def manifest(suite, profile="tiny", cells=("aaa",), seeds=(0,), default="tiny"):
    entries = [
        CellEntry(cell_id=one, name=one, coordinates={}, variant="sca", control=False)
        for one in cells
    ]
    return SuiteManifest(
        suite=suite,
        profile=profile,
        default_profile=default,
        file="x.yaml",
        question="?",
        seeds=list(seeds),
        metrics=["cider_d"],
        cells=entries,
    )


def test_records_come_by_cell_and_seed_and_other_files_are_none(store):
    for cell, seed in (("bbb", 0), ("aaa", 10), ("aaa", 2)):
        store.save(record(cell, seed))
    (store.root / "cells" / "aaa" / "notes.txt").write_text("mine")
    (store.root / "cells" / "aaa" / "seed-7").mkdir()
    (store.root / "cells" / "aaa" / "seed-07").mkdir()
    found = [(one.cell_id, one.seed) for one in store.records()]
    assert sorted(found) == [("aaa", 2), ("aaa", 10), ("bbb", 0)]
    assert found[-1] == ("bbb", 0)
    assert store.record("aaa", 7) is None
    assert store.has_run("aaa", 2)
    assert not store.has_run("aaa", 7)
    assert list(Store(store.root.parent / "none").records()) == []


def test_a_damaged_record_is_raised_or_taken_and_the_others_stay(store):
    store.save(record("aaa"))
    store.save(record("bbb"))
    path = store.run_dir("aaa", 0) / "record.json"
    path.write_text('{"cell_id": 3}')
    with pytest.raises(InputError):
        list(store.records())
    faults = []
    assert [one.cell_id for one in store.records(faults)] == ["bbb"]
    assert len(faults) == 1
    assert str(path) in str(faults[0])


def test_runs_that_a_dead_process_left_are_killed_and_no_others(store):
    states = ("running", "done", "failed", "pruned", "running", "killed")
    for seed, status in enumerate(states):
        store.save(record("aaa", seed, status))
    damaged = store.run_dir("aaa", 9)
    damaged.mkdir()
    (damaged / "record.json").write_text("{")
    assert store.settle_interrupted() == 2
    assert store.settle_interrupted() == 0
    left = [store.record("aaa", seed) for seed in range(6)]
    expected = ["killed", "done", "failed", "pruned", "killed", "killed"]
    assert [one.status for one in left] == expected
    assert [one.error for one in left] == ["interrupted", "", "", "", "interrupted", ""]


def test_a_damaged_manifest_is_raised_or_taken_and_the_others_stay(store):
    store.save(record("aaa"))
    store.save_manifest(manifest("one"))
    store.save_manifest(manifest("one_more"))
    bad = store.root / "suites" / "bad.tiny.json"
    bad.write_text("[]")
    hidden = store.root / "suites" / ".two.tiny.json"
    hidden.write_text("[]")
    with pytest.raises(InputError, match=r"bad\.tiny\.json"):
        store.manifests()
    faults = []
    assert [one.suite for one in store.manifests(faults=faults)] == ["one", "one_more"]
    assert len(faults) == 1
    assert [one.suite for one in store.manifests("one")] == ["one"]
    assert store.manifests("none") == []
    assert find_runs(store, "aaa")[1][0].cell_id == "aaa"  # which is found all the same


def test_a_manifest_lies_under_its_own_name(store):
    path = store.save_manifest(manifest("one"))
    assert path.name == "one.tiny.json"
    path.rename(path.with_name("two.tiny.json"))
    with pytest.raises(InputError, match=r"is the manifest of one\.tiny, not of this name"):
        store.manifests()


def test_profiles_of_a_suite_have_one_default(store):
    store.save_manifest(manifest("one", "tiny", default="tiny"))
    store.save_manifest(manifest("other", "tiny", default="tiny"))
    store.save_manifest(manifest("one", "paper", default="paper"))
    found = {(one.suite, one.profile): one.default_profile for one in store.manifests()}
    assert found == {
        ("one", "tiny"): "paper",
        ("one", "paper"): "paper",
        ("other", "tiny"): "tiny",
    }


def test_a_manifest_of_too_many_runs_is_refused(store, monkeypatch):
    assert store_module.MOST_RUNS == 100_000
    monkeypatch.setattr(store_module, "MOST_RUNS", 6)
    store.save_manifest(manifest("fits", cells=("aaa", "bbb"), seeds=(0, 1, 2)))
    assert len(store.manifests()) == 1
    path = store.manifest_path("large", "tiny")
    path.write_text(manifest("large", cells=("aaa",), seeds=range(7)).model_dump_json())
    with pytest.raises(InputError, match="1 cells and 7 seeds; at most 6 runs are reported"):
        store.manifests()


# --- checkpoints, weights and logs of a run ---------------------------------------------------


@pytest.fixture
def run_dir(store):
    folder = store.run_dir("aaa", 0)
    folder.mkdir(parents=True)
    return folder


def test_the_latest_checkpoint_counts_and_one_is_kept(run_dir):
    assert checkpoint_step(run_dir) == 0
    for name in ("2", "10", "9", "07", "x", "-3", "0"):
        (run_dir / f"checkpoint-{name}.pt").write_bytes(b"")
    assert checkpoint_step(run_dir) == 10
    assert checkpoint_path(run_dir, 10).name == "checkpoint-10.pt"
    drop_checkpoints(run_dir, keep=9)
    assert [path.name for path in run_dir.iterdir()] == ["checkpoint-9.pt"]
    drop_checkpoints(run_dir)
    assert list(run_dir.iterdir()) == []
    assert checkpoint_step(run_dir / "nowhere") == 0


def test_weights_that_are_torn_are_lost_and_those_never_made_are_not(run_dir):
    assert (is_trained(run_dir), has_lost_weights(run_dir)) == (False, False)
    trained_path(run_dir).write_bytes(b"torn")
    assert (is_trained(run_dir), has_lost_weights(run_dir)) == (False, True)
    trained_path(run_dir).unlink()
    trained_path(run_dir).mkdir()  # nothing that was ever written there
    assert (is_trained(run_dir), has_lost_weights(run_dir)) == (False, True)


ROWS = [
    {"step": 1, "loss": 1.0},
    {"step": 2, "loss": 0.5},
    {"step": 2, "val/loss": 0.6},
    {"step": 3, "loss": 0.4},
    {"step": 4, "val/loss": 0.3},
]


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 2), (3, 4), (4, 4), (5, 5)])
def test_a_log_is_cut_after_a_step_and_before_its_validation(run_dir, step, kept):
    path = run_dir / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    keep_log_until(run_dir, step)
    assert read_log(path) == ROWS[:kept]


def test_no_log_is_no_fault_and_a_damaged_one_is(run_dir, store):
    keep_log_until(run_dir, 3)
    assert list(run_dir.iterdir()) == []
    assert store.log("aaa", 0) == []
    for row in ({"loss": 1.0}, {"step": "3"}, {"step": -1}, {"step": 1, "loss": 10**16}):
        (run_dir / "log.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
        with pytest.raises(InputError, match=r"log\.jsonl: row 2: "):
            store.log("aaa", 0)
    (run_dir / "log.jsonl").write_text(json.dumps({"step": 0, "count": 10**15}) + "\n")
    assert store.log("aaa", 0) == [{"step": 0, "count": 10**15}]
