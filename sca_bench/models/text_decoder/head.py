"""A language model's head for few rows: the matrix is the largest of the model.

On a CPU a product of few rows with a large matrix is slow: one of 48 rows with GPT-2's runs at 60
GFLOP/s, in blocks at 84; one of 3 rows at 8, and at 28 as the matrix times the rows (one core of an
AMD EPYC, 108 GFLOP/s at most). Which way is taken depends on shapes alone.

Shape legend: R rows, D width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 2048
"""Words of a block: at common widths a block of the matrix stays in a core's cache."""
FEW_ROWS = 8
"""Up to so many rows the matrix is multiplied with the rows, not the rows with the matrix."""


def head_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that computes what a head does: hidden states (R, D) to logits (R, V)."""
    weight = getattr(module, "weight", None)
    if type(module) is not nn.Linear or weight is None or weight.device.type != "cpu":
        return module

    def logits(hidden_RD: Tensor) -> Tensor:
        return linear_of_few_rows(hidden_RD, module.weight, module.bias)

    return logits


def linear_of_few_rows(x_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Return `F.linear(x, weight, bias)`, (R, V), up to rounding, without gradient.

    Args:
        x_RD: The rows.
        weight_VD: The matrix.
        bias_V: What is added to each row.
    """
    rows, words = x_RD.shape[0], weight_VD.shape[0]
    if rows == 1 or words <= 2 * BLOCK:
        return F.linear(x_RD, weight_VD, bias_V)
    if rows <= FEW_ROWS:
        if bias_V is None:
            return (weight_VD @ x_RD.T).T
        return torch.addmm(bias_V[:, None], weight_VD, x_RD.T).T
    biases = [None] * -(-words // BLOCK) if bias_V is None else bias_V.split(BLOCK)
    blocks = zip(weight_VD.split(BLOCK), biases, strict=True)
    return torch.cat([F.linear(x_RD, weight, bias) for weight, bias in blocks], dim=1)
