from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sca_bench.errors import InputError
from sca_bench.reading import read_jsonl
from sca_bench.study.plan.manifest import manifest_of
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import RunRecord, SuiteManifest
from sca_bench.study.runs.store import (
    Store,
    checkpoint_step,
    drop_checkpoints,
    set_damaged_aside,
    trained_path,
)
from sca_bench.study.runs.trained_index import TrainedIndex
from sca_bench.study.suite.suite import load_suite


def record(cell_id, seed, status="done"):
    return RunRecord(
        cell_id=cell_id, seed=seed, status=status, settings={}, variant="sca", revision="1"
    )


def test_only_what_is_not_done_is_left(write, tmp_path):
    store = Store(tmp_path / "runs")
    suite = load_suite(write())
    plan = make_plan(suite, store)
    assert len(plan.jobs) == len(plan.left) == 4
    for status in ("done", "failed", "killed", "running"):
        store.save(record(plan.cells[0].cell_id, 0, status))
        left = make_plan(suite, store).left
        assert len(left) == (3 if status == "done" else 4)


def test_editing_one_axis_value_leaves_the_other_cells_done(write, suite_text, tmp_path):
    store = Store(tmp_path / "runs")
    for cell in make_plan(load_suite(write()), store).cells:
        for seed in (0, 1):
            store.save(record(cell.cell_id, seed))
    edited = make_plan(load_suite(write(suite_text.replace("[1, 2]", "[1, 3]"))), store)
    assert [job.cell.name for job in edited.left] == ["num_layers=3"] * 2


def test_groups_share_prefix_and_seed_and_fill_the_workers(write, tmp_path):
    plan = make_plan(load_suite(write()), Store(tmp_path))
    assert [(len(g.jobs), g.seed) for g in plan.groups(2)] == [(2, 0), (2, 1)]
    assert len(plan.groups(4)) == 4
    assert len(plan.groups(9)) == 4


def test_only_pattern(write, tmp_path):
    suite = load_suite(write())
    assert len(make_plan(suite, Store(tmp_path), only="*=2").cells) == 1
    with pytest.raises(InputError, match=r"matches no cell; known: num_layers=1"):
        make_plan(suite, Store(tmp_path), only="nothing")


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("num_layers=2, learning_rate=0.1", ["num_layers=2,learning_rate=0.1"]),
        ("num_layers=2, *", ["num_layers=2,learning_rate=0.1", "num_layers=2,learning_rate=0.2"]),
        ("num_layers=2", ["num_layers=2,learning_rate=0.1", "num_layers=2,learning_rate=0.2"]),
        ("learning_rate=0.2, mixer.num_layers=1", ["num_layers=1,learning_rate=0.2"]),
        ("blank,  images (a, b)", ["blank, images (a, b)"]),
    ],
)
def test_only_takes_names_patterns_and_coordinates(write, suite_text, tmp_path, only, names):
    axes = "axes: {mixer.num_layers: [1, 2], train.learning_rate: [0.1, 0.2]}"
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)
    more = 'cells: [{name: "blank, images (a, b)", set: {data.blank_images: true}}]\n'
    plan = make_plan(load_suite(write(text + more)), Store(tmp_path), only=only)
    assert [cell.name for cell in plan.cells] == names


def test_a_claim_about_two_names_of_one_cell_is_refused(write, suite_text):
    claim = "claims: [{id: deep, says: 'cider_d(num_layers=2) > cider_d(num_layers=1)'}]\n"
    text = suite_text.replace("variant: sca,", "variant: most_frequent,") + claim
    with pytest.raises(InputError, match=r"claims\.deep: reads demo on both sides"):
        load_suite(write(text))


def test_records_and_manifests_round_trip(write, tmp_path):
    store = Store(tmp_path)
    found = record("abc", 3)
    store.save(found)
    assert store.record("abc", 3) == found
    assert store.record("abc", 4) is None
    plan = make_plan(load_suite(write()), store)
    manifest = manifest_of(plan, store, "run demo.yaml", "now")
    store.save_manifest(manifest)
    assert store.manifests() == [manifest]
    assert manifest.report_name == "demo"
    assert manifest.model_copy(update={"profile": "small"}).report_name == "demo.small"


def test_a_damaged_record_is_named(tmp_path):
    store = Store(tmp_path)
    store.save(record("abc", 0))
    path = store.run_dir("abc", 0) / "record.json"
    path.write_text('{"cell_id": ', encoding="utf-8")
    with pytest.raises(InputError, match=r"record.json: damaged file"):
        store.record("abc", 0)


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_empty(tmp_path, monkeypatch):
    store = Store(tmp_path)
    assert list(store.records()) == store.manifests() == []
    store.save(record("abc", 0))
    (tmp_path / "cells" / "note.txt").touch()
    assert [r.cell_id for r in store.records()] == ["abc"]

    def closed(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", closed)
    for read in (store.records, store.manifests):
        with pytest.raises(PermissionError):
            list(read())


def test_old_records_stay_readable_and_unknown_keys_are_ignored():
    old = (
        '{"cell_id": "a", "seed": 0, "status": "done", "settings": {}, "variant": "sca",'
        ' "revision": "1", "field_of_the_future": 1}'
    )
    assert RunRecord.model_validate_json(old).schema_version == 1
    manifest = (
        '{"suite": "s", "profile": "tiny", "default_profile": "tiny", "file": "s.yaml",'
        ' "question": "?", "seeds": [0], "metrics": ["cider_d"], "cells": []}'
    )
    assert SuiteManifest.model_validate_json(manifest).cells == []


def test_a_torn_last_line_is_left_out_but_a_bad_middle_is_an_error(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2', encoding="utf-8")
    assert read_jsonl(path) == [{"a": 1}]
    path.write_text('{"a": 1\n{"a": 2}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: is not JSON"):
        read_jsonl(path)


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path):
    for step in (95_000, 100_000, 200):
        (tmp_path / f"checkpoint-{step}.pt").touch()
    assert checkpoint_step(tmp_path) == 100_000
    drop_checkpoints(tmp_path, keep=100_000)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-100000.pt"]
    drop_checkpoints(tmp_path)
    assert checkpoint_step(tmp_path) == 0


@pytest.mark.parametrize("name", ["checkpoint-08.pt", "checkpoint-².pt", "checkpoint-x.pt"])
def test_only_what_a_run_calls_a_checkpoint_is_one(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "checkpoint-12.pt").symlink_to(tmp_path / "gone")
    assert checkpoint_step(tmp_path) == 0
    assert set_damaged_aside(tmp_path) == []
    (tmp_path / "checkpoint-5.pt").touch()
    assert checkpoint_step(tmp_path) == 5
    assert len(set_damaged_aside(tmp_path)) == 1  # an empty file is no checkpoint
    assert checkpoint_step(tmp_path) == 0


def test_a_run_that_now_stands_on_anothers_weights_has_lost_none(write, suite_text, tmp_path):
    """Its own were damaged; the training was done again by a cell that shares it."""
    axes = suite_text.replace("mixer.num_layers: [1, 2]", "eval.max_new_tokens: [6, 8]")
    suite, store = load_suite(write(axes), seeds=[0]), Store(tmp_path / "runs")
    first, second = (cell for cell in make_plan(suite, store).cells)
    assert first.training_id == second.training_id
    for cell in (first, second):
        folder = store.run_dir(cell.cell_id, 0)
        folder.mkdir(parents=True)
        save_file({"a": np.zeros(2, np.float32)}, trained_path(folder))
        store.save(record(cell.cell_id, 0))
    index = TrainedIndex(store)
    index.announce(second.training_id, second.cell_id, 0, 6)
    weights = trained_path(store.run_dir(second.cell_id, 0))
    weights.rename(weights.with_name(f"{weights.name}.damaged"))
    states = {job.cell.cell_id: job.state for job in make_plan(suite, store).jobs}
    assert states == {first.cell_id: "done", second.cell_id: "to run"}
    trained = index.announce(first.training_id, first.cell_id, 0, 6)
    again = record(second.cell_id, 0).model_copy(
        update={"lineage": index.lineage("training", trained)}
    )
    store.save(again)
    assert {job.state for job in make_plan(suite, store).jobs} == {"done"}
