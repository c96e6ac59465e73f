"""Trained matrices in the type of mixed precision, cast in a few launches instead of one by one.

Autocast casts each matrix and each bias by a kernel of its own, and each of their gradients back by
another: a mixer of 12 layers has 500 of them in a step, more than a third of what its forward pass
launches. Values and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def cast_together(
    modules: Iterable[nn.Module], dtype: torch.dtype, left_out: Iterable[str] = ()
) -> list[Mapping[str, Tensor]]:
    """Cast the matrices and biases of linear layers, of all modules at once.

    Args:
        modules: What has them.
        dtype: The type of autocast.
        left_out: Names of parameters that autocast does not cast.

    Returns:
        For each module the name of a parameter and its cast, for `called_with`; the gradients of
        the casts reach the parameters.
    """
    places: list[tuple[int, str]] = []
    parameters: list[Tensor] = []
    modules, without = list(modules), set(left_out)
    for number, module in enumerate(modules):
        for name, parameter in linear_parameters(module, without):
            if parameter.dtype != dtype:
                places.append((number, name))
                parameters.append(parameter)
    casts: tuple[Tensor, ...] = _Cast.apply(dtype, *parameters) if parameters else ()
    named: list[dict[str, Tensor]] = [{} for _ in modules]
    for (number, name), cast in zip(places, casts, strict=True):
        named[number][name] = cast
    return list(named)


def linear_parameters(
    module: nn.Module, left_out: Iterable[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Yield the matrices and biases of a module's linear layers, by name.

    Args:
        module: What has them.
        left_out: Names of others that are not yielded.
    """
    without = set(left_out)
    for prefix, part in module.named_modules():
        for leaf, parameter in part.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if isinstance(part, nn.Linear) and name not in without:
                yield name, parameter


def called_with(module: nn.Module, casts: Mapping[str, Tensor]) -> Callable[..., Any]:
    """Return a function that calls a module with casts in the place of its parameters."""

    def call(*inputs: Any) -> Any:
        return torch.func.functional_call(module, dict(casts), inputs)

    return call


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [parameter.dtype for parameter in parameters]
        return _copied(parameters, [dtype] * len(parameters))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [g for g in gradients if g is not None]
        kinds = [d for g, d in zip(gradients, ctx.dtypes, strict=True) if g is not None]
        wide = iter(_copied(given, kinds))
        return None, *(None if g is None else next(wide) for g in gradients)


def _copied(tensors: Iterable[Tensor], dtypes: Iterable[torch.dtype]) -> tuple[Tensor, ...]:
    tensors = list(tensors)
    copies = [torch.empty_like(x, dtype=d) for x, d in zip(tensors, dtypes, strict=True)]
    if copies:
        torch._foreach_copy_(copies, tensors)
    return tuple(copies)
