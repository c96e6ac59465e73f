"""What several cells are computed with in one pass: stacks of parameters, rows, draws."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.worker.rng import RngStream
from sca_bench.errors import CellError
from sca_bench.models.stacked import (
    OwnDraws,
    call_rows,
    dropout_of_each_cell,
    in_vmap,
    no_other_draws,
    of_each_cell,
    stack_parameters,
)

CPU = torch.device("cpu")


def cells(number=3, requires=True):
    return [
        {
            "a": torch.randn(4, 2, requires_grad=requires),
            "b": torch.randn(5, requires_grad=requires),
        }
        for _ in range(number)
    ]


def test_stacks_hold_the_parameters_and_give_gradients_back():
    given = cells()
    stacks = stack_parameters(given)
    assert {name: tuple(x.shape) for name, x in stacks.items()} == {"a": (3, 4, 2), "b": (3, 5)}
    weights = torch.randn(3, 4, 2)
    (stacks["a"] * weights).sum().backward()
    for place, cell in enumerate(given):
        assert torch.equal(stacks["a"][place], cell["a"])
        assert torch.equal(cell["a"].grad, weights[place])
        assert cell["b"].grad is None  # nothing was asked of it


def test_what_is_cast_on_the_way_gets_its_gradient_in_its_own_type():
    given = cells()
    stacks = stack_parameters(given, ["a"], torch.bfloat16)
    assert (stacks["a"].dtype, stacks["b"].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(stacks["a"][1], given[1]["a"].bfloat16())
    (stacks["a"].float().square().sum() + stacks["b"].sum()).backward()
    for cell in given:
        assert cell["a"].grad.dtype == torch.float32
        assert torch.allclose(cell["a"].grad, 2 * cell["a"].bfloat16().float(), rtol=1e-2)
        assert torch.equal(cell["b"].grad, torch.ones(5))


def test_stacking_takes_a_few_launches_however_many_there_are():
    given = [{f"p{n}": torch.randn(3, requires_grad=True) for n in range(40)} for _ in range(3)]
    counter = OpCounter()
    with counter:
        sum(x.sum() for x in stack_parameters(given).values())
    assert sum(n for name, n in counter.names[""].items() if "foreach" in name) <= 2


class Rows(torch.autograd.Function):
    """A square that torch cannot map."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x)
        assert not in_vmap()
        return x.square() + y

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient, gradient


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))

    def rows(self, x, shared):
        return call_rows(Rows.apply, x * self.weight, shared)

    def shared_rows(self, shared):
        return call_rows(Rows.apply, shared, shared) * self.weight


def test_rows_of_all_cells_are_given_at_once():
    layers = [Layer() for _ in range(3)]
    x, shared = torch.randn(3, 2, 4, requires_grad=True), torch.randn(2, 4)
    stacks = stack_parameters([dict(layer.named_parameters()) for layer in layers])
    found = of_each_cell(layers[0], "rows", stacks, x, given=(shared,))
    assert not in_vmap()
    found.sum().backward()
    for place, layer in enumerate(layers):
        expected = (x[place] * layer.weight).square() + shared
        assert torch.allclose(found[place], expected)
        assert torch.allclose(layer.weight.grad, (2 * x[place].square() * layer.weight).sum(0))


def test_rows_that_no_cell_has_for_itself():
    layer, shared = Layer(), torch.randn(2, 4)
    stacks = stack_parameters([{"weight": layer.weight}] * 2)
    found = of_each_cell(layer, "shared_rows", stacks, given=(shared,))
    expected = (shared.square() + shared) * layer.weight
    assert torch.allclose(found, expected.expand(2, -1, -1))


def test_a_fault_inside_leaves_no_mark():
    layer = Layer()
    stacks = stack_parameters([{"weight": layer.weight}] * 2)
    with pytest.raises(RuntimeError):
        of_each_cell(layer, "rows", stacks, torch.randn(2, 2, 3), given=(torch.randn(2, 4),))
    assert not in_vmap()


def streams(seeds=(0, 1, 2)):
    return [RngStream(seed, CPU) for seed in seeds]


def drawn(function):
    """Return what a function gives for each cell's rows in its own stream."""
    made = []
    for place, stream in enumerate(streams()):
        with stream.active():
            made.append(function(place))
    return torch.cat(made)


@pytest.mark.parametrize("inplace", [False, True])
def test_dropout_is_drawn_by_each_cell(inplace):
    x = torch.randn(6, 4)
    layer = nn.Dropout(0.5, inplace=inplace)
    with OwnDraws([stream.active for stream in streams()]):
        found = layer(x.clone())
    assert torch.equal(found, drawn(lambda g: F.dropout(x[2 * g : 2 * g + 2], 0.5)))
    assert torch.equal(layer.eval()(x), x)


def test_so_is_that_of_attention():
    q, k, v = torch.randn(3, 6, 2, 5, 4).unbind()
    with OwnDraws([stream.active for stream in streams()]):
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, is_causal=True)
        plain = F.scaled_dot_product_attention(q, k, v, None, 0.0, True)

    def alone(g):
        mine = [x[2 * g : 2 * g + 2] for x in (q, k, v)]
        return F.scaled_dot_product_attention(*mine, None, 0.5, True)

    assert torch.equal(found, drawn(alone))
    assert torch.equal(plain, F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_dropout_of_stacked_rows():
    x = torch.randn(3, 2, 4)
    own = [stream.active for stream in streams()]
    assert dropout_of_each_cell(x, 0.0, own) is x
    found = dropout_of_each_cell(x, 0.5, own)
    assert torch.equal(found.flatten(0, 1), drawn(lambda g: F.dropout(x[g], 0.5)))


def test_other_draws_are_refused():
    with no_other_draws(CPU), streams()[0].active():
        torch.rand(3)
    with pytest.raises(CellError, match="something beside dropout draws"), no_other_draws(CPU):
        torch.rand(3)
