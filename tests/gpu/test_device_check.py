"""The check of a GPU runs in small, on a CPU and on the make-believe device."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from device.ghost import ghost_cuda

HERE = Path(__file__).parent
PARTS = ("start", "training", "generation", "encoder")


@pytest.mark.usefixtures("training")
def test_a_dry_run_goes_through_every_section_and_leaves_its_figures(tmp_path):
    """The command as it is called, in a process of its own."""
    command = [sys.executable, str(HERE / "device_check.py"), "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "device.json").read_text(encoding="utf-8"))
    sections = ["start", "correctness", "training", "generation", "encoder", "waits", "kernels"]
    assert list(found) == sections
    assert not [name for name, figures in found.items() if "broke" in figures]
    assert len(found["training"]) == 5
    assert "| start | machine | no GPU |" in done.stdout


@pytest.fixture
def check_on(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import measures

    def check(device):
        made = measures.Check(torch.device(device), True, time.monotonic() + 60)
        for name in PARTS:
            made.section = name
            getattr(measures, name)(made)
        return made

    return check


@pytest.mark.usefixtures("training")
def test_what_only_a_gpu_is_asked_runs_on_the_make_believe_one(check_on, capsys):
    with ghost_cuda():
        found = check_on("cuda:0").found
    assert found["start"]["machine"] != "no GPU"
    assert found["start"]["100 MB to the device, pinned"]["ms"] > 0
    assert all(len(found[name]) for name in PARTS)


def test_a_section_that_breaks_is_told_and_the_others_run(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(HERE))
    import device_check
    import measures

    def broken(check):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(measures, "encoder", broken)
    words = ["--dry", "--only", "encoder,waits", "--out", str(tmp_path)]
    monkeypatch.setattr(device_check, "make_known", lambda root, folder: None)
    assert device_check.main(words) == 1
    out = capsys.readouterr().out
    assert "| encoder | broke | RuntimeError: out of luck |" in out
    assert "| waits | a step | needs CUDA |" in out
    with pytest.raises(SystemExit):
        device_check.main(["--only", "encodr"])


def test_a_repository_that_is_not_installed_is_made_known(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE))
    import device_check

    def missing(name):
        raise device_check.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(device_check.metadata, "distribution", missing)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "before")
    device_check.make_known(device_check.ROOT, tmp_path)
    assert sys.path[:2] == [str(device_check.ROOT), str(tmp_path)]
    points = (tmp_path / "sca_bench-0.dist-info" / "entry_points.txt").read_text()
    assert "[sca_bench.variants]\n" in points
    assert "grit = " in points
