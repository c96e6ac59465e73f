"""Linear layers in float32 on a CPU, multiplied by oneDNN.

torch takes MKL for these, oneDNN for convolutions and half precision. On one core of an AMD EPYC
with AVX-512, a product of 48 rows with GPT-2's matrices runs at 88 GFLOP/s by MKL and at 195 to 209
by oneDNN, one of 200 rows at 103 and 236, one of 64 rows with a matrix of 128 x 384 at 101 and 157.
Both sum in float32. It is oneDNN wherever torch has it, whatever the processor. It writes code for
every shape, in less than a millisecond, and keeps it, 0.6 MB each and that of 1024 at most: a
process of tiny cells grows by 0.2 GB. With `ONEDNN_PRIMITIVE_CACHE_CAPACITY=64` it would be 0.1 GB
less, and a step 5 % slower, since shapes come back: so that is left alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula
from transformers.pytorch_utils import Conv1D

from sca_bench.models.stacked import call_cells, in_vmap

_TAKES = ("Tensor", "Tensor", "Optional[Tensor]", "str", "List[Optional[number]]", "Optional[str]")


def _has_onednn() -> bool:
    """Say whether torch has what its own compiler makes of linear layers, as it is called here.

    It is looked at and not tried: a process that has computed must not be forked.
    """
    packet = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if packet is None or not torch.backends.mkldnn.is_available():
        return False
    return tuple(str(a.type) for a in packet.default._schema.arguments) == _TAKES


_ONEDNN = _has_onednn()


def linear(x_XI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return `F.linear(x, weight, bias)` up to rounding, with its gradients, once differentiable.

    Anything but float32 on a CPU, no rows at all, and what is compiled or under autocast, is
    `F.linear` itself. So are tensors without content: they size and count a step on a GPU, wherever
    they say they are. Mapped over cells it is one product with all their matrices.

    Args:
        x_XI: Rows of I channels, with any dimensions before.
        weight_OI: The matrix, in memory row by row or column by column.
        bias_O: What is added to each row.
    """
    if in_vmap() and bias_O is not None:
        return call_cells(_linear_of_cells, x_XI, weight_OI, bias_O)
    if not _suits(x_XI, weight_OI):
        return F.linear(x_XI, weight_OI, bias_O)
    given = (x_XI, weight_OI, bias_O)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given):
        differentiable: Tensor = _Linear.apply(*given)  # type: ignore[no-untyped-call]
        return differentiable
    return _product(*given)


def _linear_of_cells(x_GXI: Tensor, weight_GOI: Tensor, bias_GO: Tensor) -> Tensor:
    """Return the rows of several cells times their matrices, which may be rows that all share."""
    cells, width, _ = weight_GOI.shape
    if cells > 1 and x_GXI.stride(0) == 0:
        every_XO = F.linear(x_GXI[0], weight_GOI.flatten(0, 1), bias_GO.flatten())
        return every_XO.unflatten(-1, (cells, width)).movedim(-2, 0)  # type: ignore[no-any-return]
    rows_GRI = x_GXI.flatten(1, -2)
    product_GRO = torch.baddbmm(bias_GO[:, None], rows_GRI, weight_GOI.transpose(1, 2))
    return product_GRO.unflatten(1, x_GXI.shape[1:-1])  # type: ignore[no-any-return]


def _suits(x_XI: Tensor, weight_OI: Tensor) -> bool:
    """Say whether oneDNN multiplies these."""
    plain = x_XI.dtype == weight_OI.dtype == torch.float32 and x_XI.device.type == "cpu"
    if not (plain and _ONEDNN) or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    if isinstance(x_XI, FakeTensor) or not x_XI.numel() or in_vmap():
        return False
    return x_XI.shape[-1] == weight_OI.shape[-1]  # else torch says what is wrong


def fast_layers(module: nn.Module) -> None:
    """Let the linear layers of a module compute by `linear`, in place, with weights as they are."""
    for layer in module.modules():
        if type(layer) in _FAST:
            layer.__class__ = _FAST[type(layer)]


class FastLinear(nn.Linear):
    """A linear layer that computes by `linear`."""

    def forward(self, x_XI: Tensor) -> Tensor:
        """Return what a linear layer does."""
        return linear(x_XI, self.weight, self.bias)


class FastConv1D(Conv1D):  # type: ignore[misc]
    """transformers' transposed linear layer, as GPT-2 has it, computed by `linear`."""

    def forward(self, x_XI: Tensor) -> Tensor:
        """Return what a transposed linear layer does."""
        return linear(x_XI, self.weight.t(), self.bias)


_FAST: dict[type, type] = {nn.Linear: FastLinear, Conv1D: FastConv1D}


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_XI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_XI if ctx.needs_input_grad[1] else None, weight_OI)
        return _product(x_XI, weight_OI, bias_O)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_XO: Tensor) -> tuple[Tensor | None, ...]:
        x_XI, weight_OI = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows_RO = grad_XO.reshape(-1, grad_XO.shape[-1])
        grad_x = _product(grad_XO, weight_OI.t()) if needs_x else None
        grad_weight = None
        if needs_weight:
            grad_weight = _product(rows_RO.t(), x_XI.reshape(-1, x_XI.shape[-1]).t())
        return grad_x, grad_weight, rows_RO.sum(0) if needs_bias else None


def _product(x_XI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    bias_O = None if bias_O is None else bias_O.contiguous()  # its stride is not looked at
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x_XI, weight_OI, bias_O, "none", [], "")
    return product


WORTH_A_CALL = 2**22
"""Multiplications of a product from which on it is made by a call of its own."""


def times(a_NXI: Tensor, b_NYI: Tensor, added: Tensor | None = None) -> Tensor:
    """Return N products (N, X, Y) of a matrix and another one's transpose, without gradient.

    Large ones are made one by one with `linear`, as a matter of shapes alone. A GPU adds on the
    way, without writing the product first.

    Args:
        a_NXI: The first factors, in memory row by row or column by column.
        b_NYI: The second ones, in memory row by row or column by column.
        added: What is added to the products, of their shape or broadcast to it.
    """
    if added is not None:
        if a_NXI.device.type != "cpu" or isinstance(a_NXI, FakeTensor):
            return torch.baddbmm(added, a_NXI, b_NYI.transpose(1, 2))
        return times(a_NXI, b_NYI).add_(added)
    size = a_NXI.shape[1] * a_NXI.shape[2] * b_NYI.shape[1]
    # In this order: a compiler that compares sizes makes a graph for either answer.
    if not _suits(a_NXI, b_NYI) or size < WORTH_A_CALL:
        return torch.bmm(a_NXI, b_NYI.transpose(1, 2))
    products = [linear(a, b) for a, b in zip(a_NXI, b_NYI, strict=True)]
    return products[0][None] if len(products) == 1 else torch.stack(products)


if _ONEDNN and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    # torch by itself counts no operation of these.
    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)  # type: ignore[untyped-decorator]
    def _flops(x_shape: Any, weight_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return 2 * int(math.prod(x_shape)) * int(weight_shape[0])
