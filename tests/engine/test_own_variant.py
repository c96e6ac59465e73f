"""A third party's variant, as the README describes it, runs through the same loop."""

import sys
import textwrap

import pytest
import torch

from sca_bench import variants
from sca_bench.study.store import Store

MODULE = '''
import torch
from torch import nn
from sca_bench.types import Prediction


class Mine(nn.Module):
    """Says `a` for bright images; trains one number."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.rand(()))

    def loss(self, batch):
        return (batch.pixel_values_B3HW.mean() - self.level) ** 2

    def generate(self, batch, decoding):
        return [Prediction(r, "a", 0.0, (), 0.0) for r in batch.region_ids]

    def trainable_state(self):
        return {"level": self.level.detach()}

    def load_trainable_state(self, state, where=""):
        with torch.no_grad():
            self.level.copy_(state["level"])


def build(settings, parts=None, *, where=""):
    return Mine()
'''


class Point:
    """Stands for an installed entry point."""

    value = "my_package:SPEC"

    def load(self):
        return variants.VariantSpec(name="mine", builder="my_package:build", summary="Mine")


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(variants, "entry_points", lambda group: [Point()])
    yield
    sys.modules.pop("my_package", None)


def test_it_trains_and_captions(my_package, group_job, run_group):
    job = group_job({"variant": "mine"})
    assert not run_group(job).failed
    store, cell = Store(job.runs_dir), job.cells[0]
    record = store.record(cell.cell_id, 0)
    assert record.cost["num_trainable_params"] == 1
    losses = [row["loss"] for row in store.log(cell.cell_id, 0) if "loss" in row]
    assert len(losses) == 6
    assert torch.isfinite(torch.tensor(losses)).all()
    assert {row["caption"] for row in store.predictions(cell.cell_id, 0)} == {"a"}


def test_a_name_registered_twice_is_refused(my_package, monkeypatch):
    class Twin(Point):
        def load(self):
            return variants.VariantSpec(name="sca", builder="x:y", summary="another")

    monkeypatch.setattr(variants, "entry_points", lambda group: [Twin()])
    with pytest.raises(variants.InputError, match="sca: registered twice"):
        variants.all_variants()
