"""Frozen matrices in the type that autocast would cast them to, cast once."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sca_bench.models.products import FastConv1D, FastLinear

MATRICES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Conv1D, FastLinear, FastConv1D)
"""Modules whose weights autocast casts at every use: what they compute is on its list."""


def keep_matrices_in(part: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of frozen matrices and their biases, in place.

    Autocast keeps its casts of trained weights for a forward pass, and makes those of frozen ones
    again at every use. The values are the same, so under autocast of this type no bit moves;
    without it such a module takes no float32. Embeddings and norms stay in float32, as does an
    embedding whose rows a language model's head shares: the head gets a matrix of its own.

    Args:
        part: A module with frozen parts; what requires a gradient stays as it is.
        dtype: The type of autocast, bfloat16 or float16.
    """
    cast: dict[nn.Parameter, nn.Parameter] = {}  # parts that share a weight go on sharing it
    for module in part.modules():
        if type(module) not in MATRICES:
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.requires_grad or weight.dtype != torch.float32:
                continue
            if weight not in cast:
                cast[weight] = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
            setattr(module, name, cast[weight])
