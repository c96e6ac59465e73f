"""Groups of captioners of two numbers, which step in no time."""

import pytest
import torch
from torch import nn

from sca_bench.captioner import Decoding
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.rng import RngStream
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.types import Prediction

CPU = torch.device("cpu")


class Two(nn.Module):
    """Two numbers; its loss is their squared distance from something drawn."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.fault = None
        self.seen = []

    def loss(self, batch):
        self.seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        if isinstance(self.fault, Exception):
            raise self.fault
        noise = torch.randn(2)
        return (self.numbers - noise).square().sum() * (1.0 if self.fault is None else self.fault)

    def generate(self, batch, decoding):
        self.seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        if isinstance(self.fault, Exception):
            raise self.fault
        said = f"{decoding.num_beams} {decoding.max_new_tokens}"
        return [Prediction(region, said, 0.0, (), 0.0) for region in batch.region_ids]

    def trainable_state(self):
        return {"numbers": self.numbers.detach().clone()}

    def load_trainable_state(self, state, where=None):
        self.numbers.data.copy_(state["numbers"])


@pytest.fixture
def group_of(cell_settings):
    """Return a function that makes a group of so many cells, each with a seed of its own."""

    def build(number=2, decoding=None, **train):
        settings = cell_settings({"train": {"learning_rate": 0.1, "warmup_steps": 0, **train}})
        members = [
            Member(f"cell{n}", Two(), CellIdentity(settings, {}), RngStream(n, CPU))
            for n in range(number)
        ]
        return CellGroup(members, CPU, {}, decoding or Decoding(3, 7))

    return build
