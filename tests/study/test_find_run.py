"""Which run a name means: ids, folders, and every name that reports and commands print."""

import pytest

from sca_bench.errors import InputError
from sca_bench.study.find_run import cell_names, find_finished, find_runs
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

CELLS = {"num_layers=1": "aaa111", "num_layers=2": "aaa222", "blank images": "ccc333"}


def entry(name, cell_id):
    where = {"mixer.num_layers": int(name[-1])} if "=" in name else {}
    return CellEntry(
        cell_id=cell_id, name=name, coordinates=where, variant="sca", control=not where
    )


def manifest(suite, cells, **more):
    fields = {"profile": "tiny", "default_profile": "tiny", "file": "x.yaml", "question": "?"}
    entries = [entry(*cell) for cell in cells.items()]
    fields |= {"seeds": [0, 1], "metrics": ["cider_d"], "cells": entries, **more}
    return SuiteManifest(suite=suite, **fields)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    for cell in CELLS.values():
        for seed in (0, 1):
            status = "failed" if (cell, seed) == ("aaa222", 0) else "done"
            fields = {"settings": {}, "variant": "sca", "revision": "1"}
            store.save(RunRecord(cell_id=cell, seed=seed, status=status, **fields))
    store.save_manifest(manifest("depth", CELLS))
    store.save_manifest(manifest("other", {"num_layers=1": "aaa111", "num_layers=7": "ddd444"}))
    return store


@pytest.mark.parametrize(
    ("text", "cell", "seeds"),
    [
        ("aaa1", "aaa111", [0, 1]),
        ("aaa111/1", "aaa111", [1]),
        ("aaa111/seed-1", "aaa111", [1]),
        ("depth/num_layers=2/0", "aaa222", [0]),
        ("depth/num_layers=2", "aaa222", [0, 1]),
        ("depth/mixer.num_layers=2", "aaa222", [0, 1]),
        ("num_layers=2", "aaa222", [0, 1]),
        ("num_layers=2/1", "aaa222", [1]),
        ("num_layers=2 seed 1", "aaa222", [1]),
        ("num_layers=2, seed 1", "aaa222", [1]),
        ("blank images", "ccc333", [0, 1]),
        ("depth/blank images/0", "ccc333", [0]),
        ("num_layers=1", "aaa111", [0, 1]),  # of two suites, but one cell
    ],
)
def test_every_name_of_a_run_is_accepted(store, text, cell, seeds):
    _, found = find_runs(store, text)
    assert {r.cell_id for r in found} == {cell}
    assert [r.seed for r in found] == seeds


def test_the_folder_of_a_run_outside_of_a_runs_folder_is_refused(store, tmp_path, monkeypatch):
    alone = store.run_dir("aaa111", 1).rename(tmp_path / "seed-1")
    with pytest.raises(InputError, match=r"seed-1: is a run's folder, but lies in no runs folder"):
        find_runs(store, str(alone))
    monkeypatch.chdir(store.run_dir("aaa111", 0))
    _, records = find_runs(Store(tmp_path / "elsewhere"), ".")
    assert [r.seed for r in records] == [0]


def test_the_folder_of_a_run_is_accepted_wherever_it_lies(store, tmp_path):
    folder = store.run_dir("aaa111", 1)
    found, records = find_runs(Store(tmp_path / "elsewhere"), str(folder))
    assert found.root == store.root
    assert [(r.cell_id, r.seed) for r in records] == [("aaa111", 1)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("aaa", "means 2 cells: aaa111 or depth/num_layers=1 or other/num_layers=1; aaa222 or dep"),
        ("depth", "means 3 cells"),
        ("depth/num_layers=3", "no such run; did you mean depth/num_layers=2?"),
        ("num_layers=2/9", "no run of it has seed 9; it has 0, 1"),
        ("num_layers=7", "is in a suite, but was never run"),
        ("zzz", "no such run"),
        ("", "no such run"),
    ],
)
def test_what_means_no_run_or_several_cells_is_said(store, text, line):
    with pytest.raises(InputError) as caught:
        find_runs(store, text)
    assert line in str(caught.value)


def test_a_finished_run_is_the_first_seed_that_is_done(store):
    record, folder = find_finished(store, "depth/num_layers=2")
    assert (record.seed, folder.name) == (1, "seed-1")
    with pytest.raises(InputError, match=r"no such finished run: it is failed; run its suite"):
        find_finished(store, "depth/num_layers=2/0")


def test_the_same_name_in_two_suites_may_mean_two_cells(store):
    store.save_manifest(manifest("third", {"num_layers=2": "ccc333"}))
    with pytest.raises(InputError, match=r"aaa222 or depth/num_layers=2; ccc333 or depth/blank"):
        find_runs(store, "num_layers=2")
    assert find_runs(store, "third/num_layers=2")[1][0].cell_id == "ccc333"


@pytest.mark.parametrize(("number", "more"), [(8, ""), (9, "; and 1 more"), (11, "; and 3 more")])
def test_no_more_than_eight_cells_are_listed(tmp_path, number, more):
    store = Store(tmp_path / "many")
    for cell in range(number):
        fields = {"settings": {}, "variant": "sca", "revision": "1"}
        store.save(RunRecord(cell_id=f"eee{cell:x}", seed=0, status="done", **fields))
    with pytest.raises(InputError) as caught:
        find_runs(store, "eee")
    assert f"means {number} cells: eee0; eee1; " in caught.value.problem
    assert caught.value.problem.endswith(f"eee7{more}")


def test_the_nearest_name_is_that_of_an_id_too(store):
    with pytest.raises(InputError, match="did you mean aaa111"):
        find_runs(store, "aa111")
    with pytest.raises(InputError, match="did you mean depth/num_layers=2"):
        find_runs(store, "dept/num_layers=2")
    with pytest.raises(InputError, match="no such finished run: it is failed"):
        find_finished(store, "aaa222/0")
    with pytest.raises(InputError, match="no run of it has seed 7; it has 0, 1"):
        find_runs(store, "aaa111/7")
    with pytest.raises(InputError, match="is in a suite, but was never run"):
        find_runs(store, "num_layers=7")


# --- beside what is damaged -------------------------------------------------------------------


def damage(store, cell, seed):
    (store.run_dir(cell, seed) / "record.json").write_text("{")


def test_a_damaged_manifest_names_nothing_and_hides_no_other(store):
    (store.root / "suites" / "bad.tiny.json").write_text("[]")
    for text in ("num_layers=2", "depth/num_layers=2", "aaa222"):
        assert {run.cell_id for run in find_runs(store, text)[1]} == {"aaa222"}
    assert [str(name) for name in cell_names(store)["aaa111"]] == [
        "depth/num_layers=1",
        "other/num_layers=1",
    ]
    with pytest.raises(InputError, match="did you mean depth/num_layers=2"):
        find_runs(store, "dept/num_layers=2")
    with pytest.raises(InputError, match=r"means 2 cells: aaa111 or depth/num_layers=1 or other"):
        find_runs(store, "aaa")


@pytest.mark.parametrize("text", ["ccc333/1", "ccc333/seed-1", "blank images, seed 1"])
def test_a_damaged_run_is_named_where_it_is_meant(store, text):
    damage(store, "ccc333", 1)
    with pytest.raises(InputError, match=r"ccc333/seed-1/record\.json: damaged file"):
        find_runs(store, text)
    for name in ("ccc333/0", "ccc333", "blank images"):  # the others are there
        assert [run.seed for run in find_runs(store, name)[1]] == [0]
    with pytest.raises(InputError, match=r"no run of it has seed 7; it has 0$"):
        find_runs(store, "ccc333/7")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ccc", r"ccc333/seed-0/record\.json: damaged"),
        ("ccc333/1", r"ccc333/seed-1/record\.json: damaged"),
        ("blank images", r"ccc333/seed-0/record\.json: damaged"),
        ("ccc333/5", "no such run"),
        ("blank images, seed 5", "is in a suite, but was never run"),
        ("ddd", "no such run"),
    ],
)
def test_a_cell_all_of_whose_runs_are_damaged(store, text, said):
    for seed in (0, 1):
        damage(store, "ccc333", seed)
    with pytest.raises(InputError, match=said):
        find_runs(store, text)


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no such run; no run is here; run a suite first"):
        find_runs(Store(tmp_path / "none"), "aaa")


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (("running",), "it is running; wait until it is done"),
        (("failed", "running"), "it is failed, running; run its suite again"),
        (("killed", "killed"), "it is killed; run its suite again"),
        (("pruned",), "it is pruned; run its suite again"),
    ],
)
def test_why_a_run_is_not_finished(tmp_path, statuses, said):
    store = Store(tmp_path / "runs")
    for seed, status in enumerate(statuses):
        fields = {"settings": {}, "variant": "sca", "revision": "1"}
        store.save(RunRecord(cell_id="fff", seed=seed, status=status, **fields))
    with pytest.raises(InputError, match=f"fff: no such finished run: {said}$"):
        find_finished(store, "fff")


def test_a_suite_is_called_as_its_reports_are(store):
    """Another profile than the default has its name behind a dot; the suite alone means both."""
    cells = {"num_layers=9": "ccc333"}
    store.save_manifest(manifest("depth", cells, profile="small"))
    assert find_runs(store, "depth.small/num_layers=9")[1][0].cell_id == "ccc333"
    assert find_runs(store, "depth.small")[1][0].cell_id == "ccc333"
    assert find_runs(store, "depth/num_layers=2")[1][0].cell_id == "aaa222"
    with pytest.raises(InputError, match="no such run"):
        find_runs(store, "depth/num_layers=9")  # not a cell of the default profile
    assert str(cell_names(store)["ccc333"][-1]) in (
        "depth/blank images",
        "depth.small/num_layers=9",
    )


def test_a_cell_called_as_its_suite_has_one_name(store):
    store.save_manifest(manifest("alone", {"alone": "ccc333"}))
    assert "alone" in map(str, cell_names(store)["ccc333"])
    assert find_runs(store, "alone")[1][0].cell_id == "ccc333"
    assert find_runs(store, "alone/alone")[1][0].cell_id == "ccc333"
