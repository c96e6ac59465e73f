"""`plan` on the command line: the tree, the forwards, what is missing, and what it all takes."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sca_bench.cli import main
from sca_bench.cli import plan as plan_command
from sca_bench.engine.forecast.costs import PlanCosts
from sca_bench.lifetime import stops
from sca_bench.output import UNREAD

ROOT = Path(__file__).parents[1]
DEPTH = ROOT / "ablations" / "mixer_layers.yaml"


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_the_tree_has_cells_with_id_and_state_below_what_they_share(capsys):
    assert main(["plan", str(DEPTH), "--no-probe"]) == 0
    out = capsys.readouterr().out
    parts = re.findall(r"^(\S.*?): ", out, re.MULTILINE)
    assert parts[:6] == [
        "preprocessing",
        "image encoder",
        "prompt encoder + SAM mixer",
        "text decoder",
        "data order",
        "pretraining",
    ]
    assert "[3 cells, 9 runs]" in out
    leaves = re.findall(r"^  - (\S+) \((\w{12})\): seeds 0, 1, 2 to run$", out, re.MULTILINE)
    assert [name for name, _ in leaves] == ["num_layers=1", "num_layers=2", "num_layers=4"]
    assert "0 runs done, 9 to run; 2250 training steps" in out
    assert re.search(r"image encoder, images +27,180 +1,690 +93.8 %", out)
    assert "predicted" not in out


def test_a_machine_without_the_data_is_told_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(plan_command, "costs_of", lambda *a, **b: PlanCosts(device="cpu", cores=2))
    assert main(["plan", str(DEPTH), "--profile", "paper"]) == 0
    out = capsys.readouterr().out
    assert "num_layers=24: seeds 0, 1, 2 blocked" in out
    assert "blocked, 5 cells: paths.sam is not given, --set paths.sam=PATH (sam_vit_h" in out
    assert "0 runs done, 0 to run, 15 blocked; 0 training steps" in out
    assert re.search(r"image encoder, images +>= 24,120,000 +>= 200 +-", out)
    assert "the train split is not here: what it takes to keep its features is not counted" in out
    assert re.search(r"SAM mixer, regions +>= 385,920,000 +>= 77,184,000 +-", out)


def test_a_plan_that_nobody_reads_ends_while_it_is_measured(monkeypatch):
    unread = subprocess.CompletedProcess([], UNREAD, stderr=b"")
    monkeypatch.setattr(stops, "run_child", lambda *_, **__: unread)
    with pytest.raises(SystemExit) as caught:
        main(["plan", str(DEPTH)])
    assert caught.value.code == UNREAD


def test_planning_loads_no_torch():
    code = (
        "import sys\nfrom sca_bench.cli import main\n"
        f"main(['plan', {str(DEPTH)!r}, '--no-probe'])\n"
        "heavy = {'torch', 'mmengine', 'mlflow', 'transformers', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("counting")
def test_gpu_hours_at_the_papers_scale(capsys):
    words = ["plan", str(DEPTH), "--profile", "paper", "--only", "num_layers=2"]
    words += ["--set", "features.cache=off", "--gpu", "h200,rtx4090"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "GPU-hours of what is left, products at 60% of the peak, at least" in out
    row = re.search(r"num_layers=2 +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)", out)
    h200, shared, small, _, gib = map(float, row.groups())
    # 200,000 steps: 151 ms for 8 images, 5 ms for 128 regions, and 91 ms of the cell's own before
    # that was made faster; then the captions
    assert 200_000 * (0.151 + 0.005 + 0.5 * 0.091) / 3600 < h200 < 200_000 * 0.260 / 3600
    assert shared == pytest.approx(h200, rel=0.02)  # one cell shares with nobody
    assert 4 < small / h200 < 6  # 4.8 times the bandwidth, 6 times the operations
    assert 15 < gib < 30
    started = time.monotonic()
    assert main(words) == 0  # counted once, remembered
    assert "counting" not in capsys.readouterr().out
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("opened", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_suite_may_come_through_a_pipe_of_the_shell(opened, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    end, start = os.pipe()
    with open(end, "rb"), open(start, "wb") as writer:
        writer.write((ROOT / "ablations" / "mixer_layers.yaml").read_bytes())
        writer.close()
        words = ["plan", opened.format(end), "--no-probe", "--runs-dir", str(tmp_path / "runs")]
        assert main(words) == 0
    assert "mixer_layers, profile tiny" in capsys.readouterr().out
