"""Products by oneDNN: those of `F.linear` to the last digits, float32 throughout, nothing left."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from sca_bench.models import products
from sca_bench.models.products import FastConv1D, FastLinear, fast_layers, linear


@pytest.mark.parametrize("rows", [(1,), (3,), (48,), (5, 7), (0,)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("columns_first", [False, True])
def test_it_is_a_linear_layer(rows, bias, columns_first):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(*rows, 64, generator=generator)
    weight = torch.randn(64, 96, generator=generator).t()
    weight = weight if columns_first else weight.contiguous()
    added = torch.randn(96, generator=generator) if bias else None
    exact = F.linear(x.double(), weight.double(), None if added is None else added.double())
    found = linear(x, weight, added)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=2e-5, rtol=2e-6)
    # As near to the exact sum as torch's own product: nothing is rounded to fewer digits.
    own = (F.linear(x, weight, added).double() - exact).norm()
    assert (found.double() - exact).norm() <= 3 * own + 1e-12


def test_rows_that_lie_apart_are_read_where_they_lie():
    x, weight = torch.randn(4, 9, 64), torch.randn(32, 64)
    torch.testing.assert_close(linear(x[:, -1], weight), F.linear(x[:, -1], weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_autocast_take_the_usual_way(dtype):
    x, weight = torch.randn(4, 64), torch.randn(32, 64)
    found = linear(x.to(dtype), weight.to(dtype))
    assert torch.equal(found, F.linear(x.to(dtype), weight.to(dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_where_torch_has_no_onednn_it_is_the_usual_way(monkeypatch):
    x, weight = torch.randn(4, 64), torch.randn(32, 64)
    monkeypatch.setattr(products, "_ONEDNN", False)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_those_of_a_linear_layer(frozen):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), Conv1D(4, 12)).requires_grad_(not frozen)
    fast = copy.deepcopy(plain)
    fast_layers(fast)
    assert [type(layer) for layer in fast] == [FastLinear, nn.Tanh, FastConv1D]
    assert fast.state_dict().keys() == plain.state_dict().keys()
    found = []
    for model in (plain, fast):
        x = torch.linspace(-1, 1, 2 * 5 * 8).view(2, 5, 8).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_its_operations_are_counted():
    with FlopCounterMode(display=False) as counter:
        linear(torch.randn(2, 3, 8), torch.randn(5, 8))
    assert counter.get_total_flops() == 2 * 6 * 8 * 5
