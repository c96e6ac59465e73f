"""Launches, bytes and operations of graphs that can be counted by hand."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from sca_bench.engine.forecast.costs import Kernels, Work
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import cuda_rules


@pytest.fixture
def counted():
    """Count what a function does, made of tensors without content, at a precision."""

    def count(make, precision="fp32"):
        counter = OpCounter()
        with FakeTensorMode(), cuda_rules(precision):
            run = make()
            with counter:
                run()
        work = counter.work()
        return work.launches, work.flop, work.bytes

    return count


def test_views_and_memory_are_no_launches(counted):
    def make():
        x = torch.empty(4, 6)
        return lambda: (x.T.reshape(2, 2, 6), x[1:], x.expand(3, 4, 6), torch.empty(5), x.detach())

    assert counted(make) == (1, 0, 2 * 24 * 4)  # the transposed one has to be copied


def test_a_product_reads_its_factors_and_writes_the_product(counted):
    def make():
        a, b = torch.empty(4, 6), torch.empty(6, 5)
        return lambda: a @ b

    assert counted(make) == (1, 2 * 4 * 6 * 5, 4 * (24 + 30 + 20))


def test_what_is_broadcast_counts_once(counted):
    def make():
        x, row = torch.empty(100, 6), torch.empty(6)
        return lambda: x + row.expand(100, 6)

    assert counted(make) == (1, 0, 4 * (600 + 6 + 600))


def test_rows_that_are_picked_count_and_not_their_table(counted):
    def make():
        table, index = torch.empty(1000, 8), torch.zeros(3, dtype=torch.long)
        return lambda: F.embedding(index, table)

    assert counted(make) == (1, 0, 3 * 8 * 4 + 3 * 8 + 3 * 8 * 4)


def test_what_is_overwritten_is_not_read(counted):
    def make():
        x, y = torch.empty(8), torch.empty(8)
        return lambda: (x.zero_(), x.copy_(y), x.add_(y))

    assert counted(make) == (3, 0, 4 * (8 + 16 + 24))


def test_half_precision_casts_what_is_frozen_at_each_use_and_what_learns_once(counted):
    def make(trained):
        layer, x = nn.Linear(6, 5, bias=False).requires_grad_(trained), torch.empty(4, 6)
        return lambda: (layer(x), layer(x))

    product, weight, input = 2 * (24 + 30 + 20), (4 + 2) * 30, (4 + 2) * 24
    assert counted(lambda: make(False), "fp16") == (6, 480, 2 * (product + weight + input))
    assert counted(lambda: make(True), "fp16") == (5, 480, 2 * product + weight + 2 * input)


def test_norms_stay_in_float32_and_softmax_reads_half_itself(counted):
    def make():
        norm, x = nn.LayerNorm(6), torch.empty(4, 6, dtype=torch.half)
        return lambda: (norm(x), x.softmax(-1), x.sum())

    cast, statistics = (2 + 4) * 24, 4 * (6 + 6 + 4 + 4)
    normed, softmax, total = 2 * 4 * 24 + statistics, (2 + 4) * 24, 2 * 24 + 4
    assert counted(make, "fp16") == (4, 0, cast + normed + softmax + total)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_and_dropout_are_a_kernel_each_and_another_backwards(counted, precision):
    def make():
        heads = torch.empty(2, 3, 5, 8, requires_grad=True)

        def run():
            mixed = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.1)
            F.dropout(mixed, 0.1).sum().backward()

        return run

    launches, flop, _ = counted(make, precision)
    forward = 2 * 2 * 6 * 5 * 5 * 8
    assert flop == forward + forward * 5 / 2  # backwards the scores are computed again
    # Three forward and two backward; the start of the gradient, its way into one tensor (two sums
    # and a copy); in half precision a cast of the heads, of their gradient, and of the sum's.
    assert launches == 3 + 2 + 1 + 3 + (3 if precision == "bf16" else 0)


def test_lists_of_tensors_are_cut_as_torch_does_it(counted):
    def make(number, size):
        lists = [torch.empty(size) for _ in range(number)]
        return lambda: torch._foreach_mul_(lists, 2.0)

    assert counted(lambda: make(110, 8))[0] == 1
    assert counted(lambda: make(111, 8))[0] == 2
    assert counted(lambda: make(1, 321 * 65_536))[0] == 2
    assert counted(lambda: make(3, 8)) == (1, 0, 2 * 3 * 8 * 4)


def test_parts_are_counted_apart_and_put_together():
    counter = OpCounter()
    with FakeTensorMode(), counter:
        x = torch.empty(4)
        with counter.part("one"):
            y = x + x
        with counter.part("two"):
            y.mul_(2)
    assert counter.work("one").launches == 1
    assert counter.work("one").bytes == 4 * 12
    assert counter.work().bytes == 4 * (12 + 8)
    assert counter.names["two"] == {"aten.mul_.Tensor": 1}


def test_kernels_of_one_kind_are_put_together_and_others_are_not():
    one = Kernels(rate="half", launches=1, flop=1000, bytes=10)
    other = Kernels(rate="half", launches=1, flop=10, bytes=10)
    work = Work.of([one, other, one, one.model_copy(update={"rate": "single"})], 2.0)
    assert [(k.launches, k.flop) for k in work.kernels] == [(4, 4000), (2, 20), (2, 2000)]
    assert (work.launches, work.flop, work.bytes) == (8, 6020, 80)


def test_tf32_bounds_products_and_not_attention():
    """Torch's attention of float32 adds products up so that it loses nothing."""
    rates = {}
    for tf32 in (False, True):
        counter = OpCounter(tf32=tf32)
        with FakeTensorMode(), cuda_rules("tf32"), counter:
            x = torch.empty(2, 3, 5, 8)
            with counter.part("product"):
                _ = x @ x.transpose(2, 3)
            with counter.part("convolution"):
                F.conv2d(x, torch.empty(4, 3, 2, 2))
            with counter.part("half"):
                _ = x.half() @ x.half().transpose(2, 3)
            with counter.part("attention"):
                F.scaled_dot_product_attention(x, x, x)
        parts = ("product", "convolution", "half", "attention")
        rates[tf32] = [[k.rate for k in counter.work(p).kernels if k.flop] for p in parts]
    assert rates == {
        False: [["single"], ["single"], ["half"], ["single"]],
        True: [["tf32"], ["tf32"], ["half"], ["single"]],
    }
