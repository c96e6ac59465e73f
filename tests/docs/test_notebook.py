"""The notebook runs from its first cell to its last, and shows what its stored outputs show."""

import json
import os
import subprocess
import sys
import time

import pytest
from helpers.printed import ROOT

NOTEBOOK = ROOT / "docs/notebook.ipynb"
MOST_S = 240
"""Far more than the notebook takes: some 15 s of an idle core."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook as a reader has it after running all cells in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    around = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = ROOT / "tests/helpers/notebook.py"
    command = [sys.executable, str(program), str(NOTEBOOK), "out.ipynb"]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=around, capture_output=True, text=True, timeout=MOST_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"the notebook took {time.monotonic() - started:.0f} s")
    return json.loads((folder / "out.ipynb").read_text("utf-8"))


def kinds(notebook):
    """Return what each code cell shows, by kind."""
    return [
        ["text" if "text" in out else sorted(out["data"]) for out in cell["outputs"]]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_every_cell_runs_and_shows_what_is_stored(executed):
    stored = json.loads(NOTEBOOK.read_text("utf-8"))
    assert kinds(executed) == kinds(stored)
    assert [c["source"] for c in executed["cells"]] == [c["source"] for c in stored["cells"]]
    shown = kinds(executed)
    assert sum(["image/png", "text/plain"] in cell for cell in shown) == 2, "figure, overlay"
    assert sum(["text/html", "text/plain"] in cell for cell in shown) >= 4, "frames"


def test_it_is_small_and_says_nothing_of_the_machine():
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 150_000
    for word in ("/home/", "/root/", "/tmp/", "0x7f", "Traceback"):
        assert word not in text
