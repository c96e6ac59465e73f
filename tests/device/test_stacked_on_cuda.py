"""Cells stepped as one on CUDA: each as alone, up to rounding, its dropout included."""

import pytest
import torch

from device.cells import job_of, make_believe, results, run, smallest
from sca_bench.engine.worker.cell_group import CellGroup

pytestmark = pytest.mark.usefixtures("training")

CELL = {
    "train.steps": 4,
    "train.val_every": 4,
    "train.learning_rate": 0.001,
    "mixer.dropout": 0.3,
    "runtime.checkpoint_every": 4,
}
RATES = ({}, {"train.learning_rate": 0.0003}, {"train.clip_norm": 0.1})
MOST = {"fp32": 1e-4, "fp16": 2e-2}


def off(one, other):
    both = [(one.weights[name].double(), other.weights[name].double()) for name in other.weights]
    apart = sum(float((a - b).square().sum()) for a, b in both)
    return (apart / sum(float(b.square().sum()) for _, b in both)) ** 0.5


@pytest.mark.parametrize("precision", MOST)
def test_cells_stepped_as_one_are_where_each_is_alone(
    device_kind, precision, tmp_path, monkeypatch
):
    def failed(self, stack, states, error):
        raise error

    monkeypatch.setattr(CellGroup, "_undo", failed)
    with make_believe(device_kind):
        always = {**CELL, "train.precision": precision, "runtime.cache_dir": str(tmp_path / "kept")}
        cells = [smallest("sca", tmp_path / "files", always, rate) for rate in RATES]
        alone = job_of(cells, tmp_path / "alone", "cuda")
        stacked = [c.model_copy(update={"train": with_it(c.train)}) for c in cells]
        together = job_of(stacked, tmp_path / "together", "cuda")
        for job in (alone, together):
            assert not run(job).failed
        found = list(zip(results(together), results(alone), strict=True))
    for one, other in found:
        assert (one.record.status, one.record.provenance["machine"]["stacked"]) == ("done", 3)
        distance = off(one, other)
        print(f"{precision}: {distance:.1e}")
        assert distance <= MOST[precision]
    weights = [one.weights["projection.bias"] for one, _ in found]
    assert not torch.equal(weights[0], weights[1])


def with_it(train):
    return train.model_copy(update={"stacked": True})
