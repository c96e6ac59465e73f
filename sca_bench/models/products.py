"""Products with frozen float32 matrices on a CPU, by oneDNN.

torch takes MKL for these, oneDNN for convolutions and half precision. On one core of an AMD
EPYC with AVX-512, a product of 48 rows with GPT-2's matrices runs at 88 GFLOP/s by MKL and at 195
to 209 by oneDNN, one of 16 rows at 62 and at 114 to 157. Both sum in float32.
It is oneDNN wherever torch has it, whatever the processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D


def _has_onednn() -> bool:
    """Say whether this torch has the operation that its own compiler uses for linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x_XI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return `F.linear(x, weight, bias)` up to rounding, without gradient.

    Args:
        x_XI: Rows of I channels, with any dimensions before.
        weight_OI: The matrix, in memory row by row or column by column.
        bias_O: What is added to each row.
    """
    plain = x_XI.dtype == weight_OI.dtype == torch.float32 and x_XI.device.type == "cpu"
    if not plain or torch.is_autocast_enabled("cpu") or not _has_onednn():
        return F.linear(x_XI, weight_OI, bias_O)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x_XI, weight_OI, bias_O, "none", [], "")
    return product


WORTH_A_CALL = 2**22
"""Multiplications of a product from which on it is made by a call of its own."""


def times(a_NXI: Tensor, b_NYI: Tensor) -> Tensor:
    """Return N products (N, X, Y) of a matrix and another one's transpose, without gradient.

    Large ones are made one by one with `linear`, as a matter of shapes alone.

    Args:
        a_NXI: The first factors, in memory row by row or column by column.
        b_NYI: The second ones, in memory row by row or column by column.
    """
    size = a_NXI.shape[1] * a_NXI.shape[2] * b_NYI.shape[1]
    if torch.compiler.is_compiling() or isinstance(a_NXI, FakeTensor) or size < WORTH_A_CALL:
        return torch.bmm(a_NXI, b_NYI.transpose(1, 2))
    if a_NXI.dtype != torch.float32 or a_NXI.device.type != "cpu":
        return torch.bmm(a_NXI, b_NYI.transpose(1, 2))
    products = [linear(a, b) for a, b in zip(a_NXI, b_NYI, strict=True)]
    return products[0][None] if len(products) == 1 else torch.stack(products)


@contextlib.contextmanager
def without_gradient(module: nn.Module) -> Iterator[None]:
    """Let linear layers of a module compute by `linear` inside the block; no gradient is kept."""
    changed = [each for each in module.modules() if type(each) in _FORWARD]
    for each in changed:
        each.forward = _FORWARD[type(each)](each)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for each in changed:
            del each.forward


def _of_linear(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: linear(x, layer.weight, layer.bias)


def _of_conv1d(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: linear(x, layer.weight.t(), layer.bias)


_FORWARD = {nn.Linear: _of_linear, Conv1D: _of_conv1d}
