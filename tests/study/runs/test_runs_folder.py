"""A runs folder at its edges: what is damaged beside what is not, limits, dead runs, logs."""

import fcntl
import json

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

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
    read_statistics,
    set_damaged_aside,
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
    content = record("aaa").model_dump(mode="json")
    path.write_text(json.dumps({**content, "cell_id": 3}))
    with pytest.raises(
        InputError, match=r"damaged file \(cell_id: Input should be a valid string\)"
    ):
        list(store.records())


@pytest.mark.parametrize(
    ("error", "said"),
    [(PermissionError(13, "Permission denied"), "Permission denied"), (OSError("odd"), "odd")],
)
def test_what_the_disk_does_not_give_is_a_fault_among_others(store, monkeypatch, error, said):
    def read_bytes(path, most):
        raise error

    store.save(record("aaa"))
    store.save_manifest(manifest("one"))
    monkeypatch.setattr(store_module, "read_bytes", read_bytes)
    faults = []
    assert list(store.records(faults)) == store.manifests("one", faults) == []
    assert [fault.problem for fault in faults] == [f"cannot be read ({said})"] * 2
    names = [str(fault.where).rpartition("/")[2] for fault in faults]
    assert names == ["record.json", "one.tiny.json"]


def test_an_older_manifest_that_says_nothing_of_controls_has_none():
    entry = CellEntry(cell_id="aaa", name="one", coordinates={}, variant="sca")
    assert not entry.control
    assert (entry.adjusted, entry.published_row, entry.also, entry.ignored) == ({}, "", [], {})


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


# --- what lies beside the runs, and what regions scored ---------------------------------------


def test_what_a_record_names_lies_below_the_folder(store):
    assert store.kept("images/feed") == store.root / "images" / "feed"
    assert store.kept("masks") == store.root / "masks"
    for named in ("../x", "images/../../x", "/etc", "images//x", "", "a b"):
        with pytest.raises(InputError) as caught:
            store.kept(named)
        assert caught.value.where == str(store.root)
        assert caught.value.problem == f"{json.dumps(named)} cannot be a path below the runs folder"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"images_dir": "images/a b"}, "images_dir"),
        ({"masks_file": "masks/../x"}, "masks_file"),
        ({"lineage": [{"cell_id": "a/b"}]}, "lineage: cell_id"),
    ],
)
def test_a_record_that_names_a_path_is_damaged(store, changes, key):
    store.save(record("aaa").model_copy(update=changes))
    with pytest.raises(InputError, match=r"cannot be (the name|a path)") as caught:
        store.record("aaa", 0)
    assert caught.value.key == key
    store.save(record("aaa").model_copy(update={"lineage": [{"stage": "s"}], "images_dir": "a/b"}))
    assert store.record("aaa", 0).images_dir == "a/b"


def test_a_record_of_another_run_is_not_read_here(store):
    store.save(record("aaa", 3))
    store.run_dir("aaa", 3).rename(store.run_dir("aaa", 4))
    said = "is the record of aaa/seed-3, but lies in aaa/seed-4; put it back, or delete it"
    with pytest.raises(InputError, match=said):
        store.record("aaa", 4)


SCORES = {"region_ids": ["1", "2"], "scores": {"m": [0.5, None], "n": [1, 10**15]}}


def test_scores_of_regions_are_those_of_the_file(store, run_dir):
    assert store.region_scores("aaa", 0) == {}
    path = run_dir / "region_scores.json"
    for content in ({}, SCORES, {**SCORES, "parts": {}}, {**SCORES, "parts": {"first": SCORES}}):
        path.write_text(json.dumps(content))
        assert store.region_scores("aaa", 0) == content


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ([], "expected region_ids and scores"),
        ({"scores": []}, "expected region_ids and scores"),
        ({"region_ids": 3}, "region_ids: expected a list of texts"),
        ({"region_ids": ["1", 2]}, "region_ids: expected a list of texts"),
        ({"image_ids": [None]}, "image_ids: expected a list of texts"),
        ({"scores": {"m": 0.5}}, "m: expected a number for each region"),
        ({"scores": {"m": [0.5, True]}}, "m: expected a number for each region"),
        ({"scores": {"m": [0.5, "1"]}}, "m: expected a number for each region"),
        ({"scores": {"m": [10**15 + 1]}}, "m: expected a number for each region"),
        ({"scores": {"m": [-(10**15) - 1]}}, "m: expected a number for each region"),
        ({"scores": {"n" * 50: ["x"]}}, "n" * 40 + ": expected"),
    ],
)
def test_damaged_scores_of_regions_say_where(store, run_dir, table, fault):
    path = run_dir / "region_scores.json"
    path.write_text(json.dumps(table))
    fix = "delete it and score the run again"
    for content, key in (
        (table, ""),
        ({**SCORES, "parts": {"p" * 60: table}}, "parts: " + "p" * 40),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError) as caught:
            store.region_scores("aaa", 0)
        assert (caught.value.where, caught.value.key) == (str(path), key)
        assert caught.value.problem.startswith(fault)
        assert caught.value.fix == fix
    path.write_text(json.dumps({**SCORES, "parts": []}))
    with pytest.raises(InputError, match="parts: expected a table of each subset; delete it and"):
        store.region_scores("aaa", 0)


def test_statistics_of_regions_are_arrays_by_name(tmp_path):
    path = tmp_path / "region_statistics.safetensors"
    rows = {"bleu": np.arange(6.0).reshape(3, 2)}
    save_file(rows, path)
    found = read_statistics(path)
    assert list(found) == ["bleu"]
    assert np.array_equal(found["bleu"], rows["bleu"])
    for content in (b"", b"torn", path.read_bytes()[:-1], b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged file \(.*\); delete it: the report then"):
            read_statistics(path)


def test_a_folder_is_in_use_while_somebody_holds_its_lock(store, monkeypatch):
    assert not store.is_in_use()
    store.root.mkdir()
    lock = store.root / store_module.LOCK
    lock.touch()
    assert not store.is_in_use()
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert store.is_in_use()
    assert not store.is_in_use()
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert not store.is_in_use()
    lock.unlink()
    lock.mkdir()
    assert store.is_in_use()  # nobody knows better

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store_module, "open_regular", closed)
    assert store.is_in_use()


def test_weights_that_cannot_be_read_now_count_as_weights(run_dir, monkeypatch):
    for error in (PermissionError(13, "Permission denied"), MemoryError()):

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr(store_module, "check_weights", fails)
        assert is_trained(run_dir)
        assert set_damaged_aside(run_dir) == []
    assert not has_lost_weights(run_dir)


def test_a_cell_s_folder_has_the_name_of_its_id(store):
    assert store.run_dir("abc", 7) == store.root / "cells" / "abc" / "seed-7"
    assert store.run_dir("abc", -7).name == "seed--7"
    for name in ("", "a/b", "..", ".a", "-a"):
        with pytest.raises(InputError, match=r"cell_id: .* cannot be the name"):
            store.run_dir(name, 0)
    assert store.manifest_path("a", "b") == store.root / "suites" / "a.b.json"
    for names, key in ((("a/b", "c"), "suite"), (("a", ".."), "profile")):
        with pytest.raises(InputError, match=f"{key}: .* cannot be the name"):
            store.manifest_path(*names)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"loss": 1.0}, "row 1: step: is null, expected a number of steps; delete the file"),
        ({"step": True}, "row 1: step: is true, expected"),
        ({"step": 1.0}, "row 1: step: is 1.0, expected"),
        ({"step": 10**15 + 1}, "row 1: step: is 1000000000000001, expected"),
        ({"step": 0, "n" * 50: -(10**15) - 1}, f"row 1: {'n' * 40}: is -1000000000000001, which"),
    ],
)
def test_a_row_of_a_log_that_is_none(tmp_path, row, said):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError) as caught:
        read_log(path)
    assert said in str(caught.value)
    path.write_text(json.dumps({"step": 10**15, "n": -(10**15), "loss": 1e300}) + "\n")
    assert len(read_log(path)) == 1


def test_records_name_what_they_hold_that_is_none():
    """What is read of settings, provenance and lineage as they are, before they are parsed."""
    plain = record("aaa").model_dump()
    for key, value, said in (
        ("settings", {"train": 3}, "settings: train is no dict"),
        ("settings", {"runtime": []}, "settings: runtime is no dict"),
        ("settings", {"data": {"val": 3}}, "settings: data: val is no dict"),
        ("settings", {"pretraining": [3]}, "settings: pretraining is no list of stages"),
        ("settings", {"pretraining": {"a": 1}}, "settings: pretraining is no list of stages"),
        ("settings", {"pretraining": [{"eval": 1}]}, "settings: eval is no dict"),
        ("provenance", {"started": 3}, "provenance: started is no str"),
        ("provenance", {"split_digests": []}, "provenance: split_digests is no dict"),
        ("lineage", [{"seed": "0"}], "lineage: seed is no int"),
        ("lineage", [{"weights_sha256": 1}], "lineage: weights_sha256 is no str"),
        ("seed", 2**63, "less than"),
        ("seed", -(2**63), "greater than"),
        ("cost", {"step_s": float("inf")}, "finite"),
    ):
        with pytest.raises(ValidationError, match=said):
            RunRecord.model_validate({**plain, key: value})
    for key, value in (
        ("settings", {"pretraining": None, "data": {"val": None, "train": [], "test": "x"}}),
        ("settings", {"pretraining": [{"train": {}, "data": {"val": None}}]}),
        ("seed", 2**63 - 1),
        ("provenance", {"started": "now", "other": 3}),
        ("lineage", [{"steps": 3, "other": 3}, {}]),
    ):
        assert getattr(RunRecord.model_validate({**plain, key: value}), key) == value
