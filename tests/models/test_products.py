"""Products by oneDNN: those of `F.linear` to the last digits, float32 throughout, nothing left."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from sca_bench.engine.measure.counter import OpCounter
from sca_bench.models import products
from sca_bench.models.products import FastConv1D, FastLinear, fast_layers, linear, times


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


def test_a_bias_that_lies_apart_is_added():
    x, weight, bias = torch.randn(4, 64), torch.randn(32, 64), torch.randn(64)[::2]
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))


def test_what_does_not_fit_is_said_by_torch():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(4, 63), torch.randn(32, 64))


def test_this_torch_has_what_is_called(monkeypatch):
    """One that takes other arguments is not called."""
    assert torch.backends.mkldnn.is_available() == products._ONEDNN
    monkeypatch.setattr(products, "_TAKES", (*products._TAKES, "int"))
    assert not products._has_onednn()


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


@pytest.mark.parametrize("rows", [(0,), (2, 0)])
def test_no_rows_have_gradients_of_zero(rows):
    weight, bias = torch.randn(5, 8, requires_grad=True), torch.randn(5, requires_grad=True)
    x = torch.randn(*rows, 8, requires_grad=True)
    linear(x, weight, bias).sum().backward()
    assert x.grad.shape == x.shape
    assert torch.equal(weight.grad, torch.zeros(5, 8))
    assert torch.equal(bias.grad, torch.zeros(5))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_products_one_by_one_are_those_together(count, monkeypatch):
    one, other = torch.randn(count, 6, 8), torch.randn(count, 7, 8)
    together = torch.bmm(one, other.transpose(1, 2))
    monkeypatch.setattr(products, "WORTH_A_CALL", 0)
    torch.testing.assert_close(times(one, other), together)


def test_a_gpus_work_is_counted_as_that_of_a_linear_layer():
    """Tensors without content stand for a GPU's, which oneDNN does not multiply."""
    found = []
    for kind in (nn.Linear, FastLinear):
        with FakeTensorMode():
            layer, x, counter = kind(8, 12), torch.randn(4, 5, 8), OpCounter()
            with counter:
                layer(x).sum().backward()
        found.append(counter.names)
    assert found[0] == found[1]


def test_its_operations_are_counted():
    with FlopCounterMode(display=False) as counter:
        linear(torch.randn(2, 3, 8), torch.randn(5, 8))
    assert counter.get_total_flops() == 2 * 6 * 8 * 5
