"""A runs folder from somebody else: names, links and swapped files lead nowhere outside of it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from fuzz import runs_folder

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.report.write import write_reports
from sca_bench.study.find_run import find_finished, find_runs
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.trained_index import TrainedIndex

SECRET = "the victim's own words"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A finished runs folder beside a folder of somebody's own files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sca_bench.report.write.write_pictures", lambda suite, folder: [])
    runs_folder.records_seeds(tmp_path)
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("record.json", "mlflow.json", "precious", "im0.png", "sizes.json", "about.json"):
        (victim / name).write_text(SECRET, encoding="utf-8")
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path):
    yield
    for path in (tmp_path / "victim").iterdir():
        assert path.read_text(encoding="utf-8") == SECRET
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "victim", "reports", "linked"}
    assert len(list((tmp_path / "victim").iterdir())) == 6


def rewrite(path: Path, **changes):
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")


def said(capsys) -> str:
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert SECRET not in text
    assert "Traceback" not in text
    return text


NAMES = ["../../x", "/tmp/x", "..", ".", "", "a/b", "a\0b", "-x", "a b", "x" * 300, "a\nb"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["suite", "profile", "default_profile", "cell_id"])
def test_a_manifest_names_no_path(runs, name, key, capsys):
    path = runs / "suites" / "small.tiny.json"
    if key == "cell_id":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        rewrite(path, cells=[{**cells[0], "cell_id": name}, *cells[1:]])
    else:
        rewrite(path, **{key: name})
    assert main(["report", "--runs-dir", str(runs), "--no-mlflow"]) == 2
    assert "small.tiny.json" in said(capsys)
    assert main(["list", "runs", "--runs-dir", str(runs)]) == 1
    assert "left out" in said(capsys)
    assert not (runs.parent / "reports").exists()


def test_a_manifest_lies_under_its_own_name(runs):
    (runs / "suites" / "small.tiny.json").rename(runs / "suites" / "other.tiny.json")
    with pytest.raises(InputError, match=r"is the manifest of small\.tiny, not of this name"):
        Store(runs).manifests()


@pytest.mark.parametrize(
    "changes",
    [
        {"cell_id": "../../.."}, {"cell_id": "c-2"}, {"seed": 1}, {"seed": 10**30},
        {"seed": "0/.."},
        {"images_dir": "../victim"}, {"images_dir": "/etc"}, {"masks_file": "../victim/precious"},
        {"masks_file": "masks/../../victim/precious"},
        {"lineage": [{"stage": "s", "cell_id": "../..", "seed": 0, "steps": 1}]},
        {"lineage": [{"stage": "s", "cell_id": "c-2", "seed": "0/../..", "steps": 1}]},
        {"settings": {"train": 3}}, {"settings": {"pretraining": 3}},
        {"provenance": {"started": 3}},
        {"cost": {"step_s": float("nan")}}, {"scores": {"cider_d": {"value": "high"}}},
    ],
)  # fmt: skip
def test_a_record_names_no_path_and_holds_what_it_should(runs, changes, capsys):
    path = runs / "cells" / "c-1" / "seed-0" / "record.json"
    rewrite(path, **changes)
    with pytest.raises(InputError, match=r"c-1/seed-0/record\.json"):
        Store(runs).record("c-1", 0)
    assert main(["list", "runs", "--runs-dir", str(runs)]) == 1
    text = said(capsys)
    assert "two layers" in text  # the rest is listed
    assert "left out" in text
    assert find_finished(Store(runs), "c-2")[0].cell_id == "c-2"
    for name in ("c-1/0", "small/one layer/0", "num_layers=1"):
        with pytest.raises(InputError, match=r"c-1/seed-0/record\.json"):
            find_runs(Store(runs), name)
    with pytest.raises(InputError, match=r"c-1/seed-0/record\.json"):
        write_reports(Store(runs), None, runs.parent / "reports", pages=False)
    assert Store(runs).settle_interrupted() == 0


@pytest.mark.parametrize(
    ("place", "to"),
    [
        ("cells", "."), ("cells/c-1", "."), ("cells/c-1/seed-0", "."), ("suites", "."),
        ("suites/small.tiny.json", "precious"), ("images", "."), ("images/feed", "."),
        ("images/feed/im0.png", "im0.png"), ("images/feed/sizes.json", "sizes.json"),
        ("masks/feed.jsonl", "precious"), ("mlflow.db", "precious"), ("sweeps.db", "precious"),
        ("fingerprints.sqlite", "precious"), (".lock", "precious"), ("probes.json", "precious"),
        *(
            (f"cells/c-1/seed-0/{name}", "precious")
            for name in ("record.json", "predictions.jsonl", "region_scores.json", "log.jsonl",
                         "mlflow.json", "region_statistics.safetensors", "trainable.safetensors",
                         "checkpoint-4.pt", "predictions.partial.jsonl")
        ),
    ],
)  # fmt: skip
def test_no_link_of_a_runs_folder_is_followed_out_of_it(runs, place, to, capsys):
    path = runs / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(runs.parent / "victim" / to)
    assert main(["list", "runs", "--runs-dir", str(runs)]) in (0, 1, 2)
    said(capsys)
    with pytest.raises(InputError, match="leads out of") as fault:
        read_all(runs)
    assert SECRET not in str(fault.value)


def read_all(runs):
    Store(runs).manifests()
    Store(runs).run_dir("c-1", 0)
    runs_folder.report(runs, runs.parent)


def test_links_that_a_user_makes_are_fine(runs, capsys):
    """The runs folder, its features, and links that stay inside."""
    real = runs.rename(runs.parent / "linked")
    runs.symlink_to(real)
    (real / "features").symlink_to(runs.parent / "victim")
    feed = real / "images" / "feed"
    feed.rename(real / "images" / "kept")
    feed.symlink_to("kept")
    assert main(["list", "runs", "--runs-dir", str(runs)]) == 0
    assert main(["report", "--no-mlflow", "--no-pages", "--runs-dir", str(runs)]) == 0
    assert main(["cache", "clear", "--yes", "--runs-dir", str(runs)]) in (0, 1)
    said(capsys)


def test_a_folder_that_is_no_store_is_not_cleared(runs, capsys):
    project = runs / "features" / "project"
    project.mkdir(parents=True)
    (project / "index.json").write_text("{}")
    (project / "thesis.tex").write_text("long")
    (runs / "features" / "store").symlink_to(runs.parent / "victim")
    assert main(["cache", "clear", "--yes", "--runs-dir", str(runs)]) == 1
    assert "holds other files" in said(capsys)
    assert (project / "thesis.tex").exists()


def test_a_lock_is_no_link(runs):
    from sca_bench.engine.features.cache import Cache, locked

    cache = runs / "features"
    cache.mkdir()
    for name in (".k.use", ".k.lock"):
        (cache / name).symlink_to(runs.parent / "victim" / "precious")
    with locked(cache, ["k"]):  # nobody waits, and nothing is locked or emptied elsewhere
        assert len(Cache(cache).store("k")) == 0
    for name in ("../victim", "/tmp/k", ".."):
        with pytest.raises(InputError, match="cannot be the name"):
            Cache(cache).store(name)


def test_pointers_to_weights_lead_nowhere_else(runs):
    index, path = TrainedIndex(Store(runs)), runs / "stages" / "t" / "seed-0.json"
    path.parent.mkdir(parents=True)
    known = {"cell_id": "../../victim", "seed": 0, "steps": 1, "weights_sha256": "0"}
    path.write_text(json.dumps(known), encoding="utf-8")
    assert index.find("t", 0) is None
    path.unlink()
    os.mkfifo(path)
    assert index.find("t", 0) is None
    path.unlink()
    path.symlink_to(runs.parent / "victim" / "precious")
    assert index.find("t", 0) is None


def test_a_report_that_is_a_link_is_not_written_into(runs, capsys):
    reports = runs.parent / "reports"
    reports.mkdir()
    (reports / "small").symlink_to(runs.parent / "victim")
    assert main(["report", "--no-mlflow", "--no-pages", "--runs-dir", str(runs)]) == 2
    assert "leads out of" in said(capsys)


def test_the_rest_of_a_folder_is_reported_beside_a_damaged_manifest(runs, capsys):
    (runs / "suites" / "torn.tiny.json").write_text('{"suite":', encoding="utf-8")
    words = ["report", "--no-mlflow", "--no-pages", "--runs-dir", str(runs)]
    assert main(words) == 2
    assert "torn.tiny.json: damaged file" in said(capsys)
    assert (runs.parent / "reports" / "small" / "table.csv").exists()
    assert main([*words, "small"]) == 0
    assert main([*words, "torn"]) == 2
    assert "torn.tiny.json: damaged file" in said(capsys)


@pytest.mark.parametrize("named", ["/etc/x", "../victim", "images//feed"])
def test_a_refused_path_is_shown_whole(runs, named):
    path = runs / "cells" / "c-1" / "seed-0" / "record.json"
    rewrite(path, images_dir=named)
    with pytest.raises(InputError) as fault:
        Store(runs).record("c-1", 0)
    head = f'{path}: images_dir: "{named}" cannot be a path below the runs folder; '
    assert str(fault.value).startswith(head)


@pytest.mark.parametrize("name", ["cells", "suites"])
def test_a_file_where_a_folder_belongs_is_named(runs, name, capsys):
    shutil.rmtree(runs / name)
    (runs / name).write_text("no folder", encoding="utf-8")
    for command in ("list runs", "report", "plan mixer_layers", "run mixer_layers", "track sync"):
        assert main([*command.split(), "--runs-dir", str(runs)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert f"{runs / name}: is no folder" in lines[0]


@pytest.mark.parametrize("place", ["suites/newer.tiny.json", "cells/c-1/seed-0/record.json"])
def test_what_a_newer_version_wrote_is_left_out(runs, place, capsys):
    path = runs / place
    path.write_text('{"schema_version": 2, "cell_id": {"new": 1}}', encoding="utf-8")
    line = f"{path}: written by a newer version (2); update sca_bench"
    words = ["--runs-dir", str(runs)]
    assert main(["list", "runs", *words]) == 1
    assert line in capsys.readouterr().err
    code = main(["report", "--no-mlflow", "--no-pages", *words])
    assert code == (1 if "record" in place else 2)
    assert line in capsys.readouterr().err
    assert (runs.parent / "reports" / "small" / "table.csv").exists()


def test_what_an_older_version_wrote_is_read(runs):
    path = runs / "cells" / "c-1" / "seed-0" / "record.json"
    rewrite(path, schema_version=0)
    assert Store(runs).record("c-1", 0).schema_version == 0
