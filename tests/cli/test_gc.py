"""`gc` lists what nothing refers to, and deletes nothing else: planted folders, no run."""

import json
import os
import re
import sqlite3

import pytest

from sca_bench.cli import main
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

NAMED, STAGE, TRIAL, GONE, SHOWN, USED = (f"{letter}" * 12 for letter in "abcdef")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    store = Store("runs")
    (tmp_path / "depth.yaml").write_text(
        "suite: depth\nquestion: Why?\naxes: {mixer.num_layers: [1]}\n"
    )
    fields = {"profile": "tiny", "default_profile": "tiny", "file": "depth.yaml", "question": "?"}
    store.save_manifest(
        SuiteManifest(
            suite="depth",
            seeds=[0],
            metrics=["cider_d"],
            path=str(tmp_path / "depth.yaml"),
            cells=[CellEntry(cell_id=NAMED, name="sca", coordinates={}, variant="sca")],
            **fields,
        )
    )
    settings = load_suite("depth.yaml").cells[0].settings.model_dump(mode="json")
    for cell in (NAMED, STAGE, TRIAL, GONE, SHOWN, USED):
        plant(store, cell, settings)
    (record,) = (r for r in store.records() if r.cell_id == NAMED)
    lineage = [{"stage": "pretraining", "cell_id": STAGE, "seed": 0, "steps": 1}]
    store.save(record.model_copy(update={"lineage": lineage}))
    (record,) = (r for r in store.records() if r.cell_id == STAGE)
    reads = {"text_decoder": {"weights": f"runs/cells/{USED}/seed-0/trainable.safetensors"}}
    store.save(record.model_copy(update={"stage": "s", "settings": settings | reads}))
    (store.run_dir(SHOWN, 0) / "mlflow.json").write_text("{}")
    with sqlite3.connect(store.root / "sweeps.db") as connection:
        connection.execute("CREATE TABLE trial_user_attributes (key TEXT, value_json TEXT)")
        row = ("cell_id", json.dumps(TRIAL))
        connection.execute("INSERT INTO trial_user_attributes VALUES (?, ?)", row)
    connection.close()
    for cell in (STAGE, GONE):
        pointer = store.root / "stages" / f"{cell}1" / "seed-0.json"
        pointer.parent.mkdir(parents=True)
        pointer.write_text(json.dumps({"cell_id": cell, "seed": 0, "weights_sha256": "0" * 64}))
    return store


def plant(store, cell, settings):
    attempt = f"depth2-{cell}-s0-1"
    run = {"settings": settings, "variant": "sca", "revision": "1", "status": "done"}
    provenance = {"attempt": attempt}
    store.save(RunRecord(cell_id=cell, seed=0, provenance=provenance, images_dir="images/1", **run))
    (store.run_dir(cell, 0) / "predictions.jsonl").write_text("x" * 1000)
    (store.root / "attempts" / attempt).mkdir(parents=True)
    (store.root / "attempts" / attempt / "run.log").write_text("log")


def left(store):
    return sorted(p.parent.name for p in store.root.glob("cells/*/seed-0"))


def test_it_lists_and_deletes_what_nothing_refers_to_and_nothing_else(store, capsys):
    everything = left(store)
    (store.root / "images" / "1").mkdir(parents=True)
    (store.root / "images" / "2").mkdir()
    (store.root / "suites" / ".x.1.tmp").write_text("")
    os.utime(store.root / "suites" / ".x.1.tmp", (0, 0))
    (store.root / "cells" / GONE / "seed-7").mkdir()
    assert main(["gc"]) == 0
    said = capsys.readouterr().out
    for path, why in (
        (f"cells/{GONE}/seed-0", "done, in no suite any more"),
        (f"cells/{GONE}/seed-7", "began, and has no record"),
        (f"attempts/depth2-{GONE}-s0-1", "no run names it"),
        (f"stages/{GONE}1/seed-0.json", "the run that it names is gone, or goes"),
        ("images/2", "no run shows them"),
        ("suites/.x.1.tmp", "a killed process left it"),
    ):
        (line,) = (line for line in said.splitlines() if f" {path} " in line)
        assert why in line
    assert re.search(
        r"^6 items, \d+ KiB may go; nothing was deleted \(--delete does it\)", said, re.M
    )
    assert "note: runs in no suite stay because MLflow shows them; " in said
    assert left(store) == everything

    assert main(["gc", "--delete"]) == 0
    assert re.search(r"^6 items, \d+ KiB deleted", capsys.readouterr().out, re.M)
    assert left(store) == sorted(set(everything) - {GONE})
    assert not (store.root / "cells" / GONE).exists()
    assert not (store.root / "stages" / f"{GONE}1").exists()
    assert not list(store.root.rglob("*.tmp"))
    assert main(["gc"]) == 0
    assert "nothing in runs is left over" in capsys.readouterr().out

    assert main(["gc", "--mirrored", "--delete"]) == 0
    assert left(store) == sorted(set(everything) - {GONE, SHOWN})


def test_what_is_young_is_kept_where_asked(store, capsys):
    assert main(["gc", "--older-than", "1"]) == 0
    assert "nothing in runs is left over" in capsys.readouterr().out
    assert main(["gc", "--older-than", "nan"]) == 2


def test_it_refuses_while_a_command_works_there(store, capsys):
    from sca_bench.files import take_lock

    lock = take_lock(store.root / ".lock")
    try:
        assert main(["gc", "--delete"]) == 2
        assert "in use by process" in capsys.readouterr().err
        assert GONE in left(store)
        assert main(["gc"]) == 0
        assert "a command works here now" in capsys.readouterr().out
    finally:
        os.close(lock)


@pytest.mark.parametrize("lost", ["manifest", "record", "sweeps", "suite", "card"])
def test_where_it_cannot_know_it_deletes_no_run(store, capsys, lost):
    (store.root / "cells" / GONE / "seed-7").mkdir()
    everything, logs = left(store), sorted((store.root / "attempts").iterdir())
    if lost == "manifest":
        (store.root / "suites" / "depth.tiny.json").write_text("{")
    elif lost == "record":
        (store.run_dir(NAMED, 0) / "record.json").write_text("{")
    elif lost == "sweeps":
        (store.root / "sweeps.db").write_text("no database")
    elif lost == "card":
        (store.root / "exported" / "export.json").mkdir(parents=True)
    else:
        (store.root.parent / "depth.yaml").unlink()
        for cell in everything:
            record = store.record(cell, 0)
            own = {"attempt": f"depth-{cell}-s0-1"}
            store.save(record.model_copy(update={"provenance": own}))
    assert main(["gc", "--delete"]) == 0
    assert "note: " in capsys.readouterr().out
    assert left(store) == everything
    assert (store.root / "cells" / GONE / "seed-7").exists()
    assert lost == "suite" or sorted((store.root / "attempts").iterdir()) == logs


def test_what_the_record_of_a_sweep_names_is_kept(store):
    """Its storage may lie elsewhere."""
    (store.root / "sweeps").mkdir()
    (store.root / "sweeps" / "depth.tiny.json").write_text(json.dumps({"cell_id": GONE}))
    everything = left(store)
    assert main(["gc", "--delete"]) == 0
    assert left(store) == everything


def test_cells_that_only_the_suites_file_names_are_kept(store, tmp_path):
    """A last run with `--set` leaves a manifest of those cells alone."""
    from sca_bench.study.plan.plan import make_plan

    (job,) = make_plan(load_suite("depth.yaml"), store).jobs[:1]
    settings = job.cell.settings.model_dump(mode="json")
    plant(store, job.cell.cell_id, settings)
    assert main(["gc", "--delete"]) == 0
    assert job.cell.cell_id in left(store)


def test_links_are_left_alone_and_nothing_outside_is_touched(store, tmp_path, capsys):
    outside = tmp_path / "outside"
    (outside / "seed-0").mkdir(parents=True)
    (outside / "about.json").write_text("{}")
    (store.root / "attempts" / "linked").symlink_to(outside)
    (store.root / "attempts" / f"depth2-{GONE}-s0-1" / "in").symlink_to(outside)
    (store.root / "features").symlink_to(outside)
    (store.root / "suites" / "seed-1").mkdir()
    (store.root / "cells" / "linked").symlink_to("../suites")
    assert main(["gc", "--delete"]) == 0
    assert "features is a link, and left alone" in capsys.readouterr().out
    assert (outside / "about.json").exists()
    assert (store.root / "attempts" / "linked").is_symlink()
    assert (store.root / "suites" / "seed-1").exists()


def test_features_that_no_run_reads_may_go(store, capsys):
    from sca_bench.study.plan.plan import make_plan

    identity = make_plan(load_suite("depth.yaml"), store).jobs[0].cell.identity
    key = next(iter(identity.store_keys("train", identity.families).values()))
    for name in (key, "0123456789ab"):
        (store.root / "features" / name).mkdir(parents=True)
        (store.root / "features" / name / "about.json").write_text("{}")
    assert main(["gc", "--delete"]) == 0
    assert [p.name for p in (store.root / "features").iterdir() if p.is_dir()] == [key]


def test_no_folder_is_one_line(tmp_path, capsys):
    assert main(["gc", "--runs-dir", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.startswith("no runs folder is at ")
    assert not (tmp_path / "none").exists()


def test_a_killed_deletion_leaves_no_half_of_a_run(store, monkeypatch):
    """A run loses its name before anything of it is deleted."""
    from sca_bench import files

    monkeypatch.setattr(files, "delete_folder", lambda path: None)
    assert main(["gc", "--delete"]) == 1
    assert GONE not in left(store)
    assert list((store.root / "cells" / GONE).glob(".seed-0.*.tmp"))
    assert all(r.cell_id != GONE for r in store.records())
