"""Which suites are reported, and that the room stays free of torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from report_fake_runs import axis_manifest, build, manifest

from sca_bench.errors import InputError
from sca_bench.report import write_reports
from sca_bench.study.runs.store import Store


def store_with(tmp_path: Path, *profiles: str) -> Store:
    store = Store(tmp_path / "runs")
    for profile in profiles:
        store.save_manifest(manifest(profile=profile))
    return store


def test_empty_runs_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sca-bench run SUITE"):
        write_reports(Store(tmp_path / "runs"), None, tmp_path)


def test_unknown_suite_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'mixer_layer' .*did you mean mixer_layers\?"):
        write_reports(store_with(tmp_path, "tiny"), ["mixer_layer"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_choose_suites_and_profiles(tmp_path: Path) -> None:
    store = store_with(tmp_path, "tiny", "paper")
    out = tmp_path / "out"
    both = {out / "mixer_layers", out / "mixer_layers.paper"}
    assert set(write_reports(store, None, out)) == both
    assert set(write_reports(store, ["mixer_layers"], out)) == both
    assert write_reports(store, ["mixer_layers.paper"], out) == [out / "mixer_layers.paper"]
    assert write_reports(store, ["mixer_layers.tiny"], out) == [out / "mixer_layers"]


def test_no_torch_and_no_pyplot_are_imported() -> None:
    code = (
        "import sys, sca_bench.report;"
        "print([m for m in ('torch', 'mmengine', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    store, suite = build(tmp_path / "runs")
    build(tmp_path / "runs", axis_manifest({"variant": ["sca", "sca_roi_align"]}))
    torn = store.run_dir(suite.cells[1].cell_id, 0) / "record.json"
    torn.write_text("{")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"record\.json: damaged file"):
        write_reports(store, None, out)
    names = {path.name for path in out.iterdir()}
    assert {"axes", "mixer_layers", "index.html", "index.md"} <= names
    text = (out / "index.md").read_text(encoding="utf-8")
    assert "1 damaged" in text
    assert "has no report" not in text
