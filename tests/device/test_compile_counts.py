"""`runtime.compile` with the real compiler: what it compiles, what moves, and what it brings.

    OMP_NUM_THREADS=1 python -m pytest tests/device/test_compile_counts.py -m bench -s

Trains the smallest cell of the main design for 50 steps, as it is and compiled. Compiling takes
minutes of an idle core. `tests/models/test_compiled_blocks.py` counts graphs without a compiler.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from device import cells
from sca_bench.engine.worker.cell_group import CellGroup

pytestmark = [
    pytest.mark.bench,
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
STEPS = int(os.environ.get("STEPS", "50"))
SETTINGS = {
    "train.steps": STEPS,
    "train.images_per_batch": 1,
    "mixer.num_layers": 3,
    "data.train.num_images": 12,
    "runtime.log_every": 1,
}
ONE_MORE = 3
"""Graphs for a size of one, which torch never makes dynamic: of each of three kinds of block."""


@pytest.fixture(scope="module")
def compiler():
    """Skip where inductor finds no C++ compiler."""
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler as error:
        pytest.skip(f"no C++ compiler: {error}")


@pytest.fixture
def steps(monkeypatch):
    """The CPU seconds, new graphs and regions of each step of the group that trains."""
    found = []
    whole = CellGroup.train_step

    def train_step(self, data, optim_wrapper):
        began, graphs = time.process_time(), counters["stats"]["unique_graphs"]
        losses = whole(self, data, optim_wrapper)
        new = counters["stats"]["unique_graphs"] - graphs
        found.append((time.process_time() - began, new, data.num_regions))
        return losses

    monkeypatch.setattr(CellGroup, "train_step", train_step)
    return found


def test_fifty_steps(compiler, steps, tmp_path: Path):
    print(f"\n{compiler}, torch {torch.__version__}")
    losses = {}
    made = {}
    for compiles in (False, True):
        counters.clear()
        torch._dynamo.reset()
        settings = cells.smallest("sca", tmp_path, SETTINGS, {"runtime.compile": compiles})
        job = cells.job_of([settings], tmp_path / str(compiles), "cpu")
        cells.run(job)
        (ran,) = cells.results(job)
        assert ran.record.status == "done", ran.record.error
        losses[compiles], made[compiles] = ran.losses, list(steps)
        steps.clear()
        breaks = dict(counters["graph_break"])
        graphs = counters["stats"]["unique_graphs"]
        print(f"compile {compiles}: {graphs} graphs with captions, breaks {breaks}")
        assert sum(breaks.values()) <= 1
    took, graphs, regions = zip(*made[True], strict=True)
    print("regions", regions, "new graphs", graphs)
    assert graphs[0] > 0
    assert sum(graphs[2:]) <= (ONE_MORE if 1 in regions else 0)
    off = max(abs(a - b) / b for a, b in zip(losses[True], losses[False], strict=True))
    print(f"largest relative difference of a loss: {off:.1e}")
    assert len(losses[True]) == STEPS
    assert off < 1e-5
    eager = sorted(s[0] for s in made[False])[STEPS // 2]
    compiled = sorted(took)[STEPS // 2]
    start = sum(took) - STEPS * compiled
    print(f"a step: {eager * 1e3:.1f} ms, compiled {compiled * 1e3:.1f} ms; start {start:.0f} s")
    if compiled < eager:
        print(f"break-even after {start / (eager - compiled):.0f} steps")
