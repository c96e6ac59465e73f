"""Gradient checkpointing of a language model, whatever mode it is in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


@contextlib.contextmanager
def checkpointing(language_model: Any, wanted: bool = True) -> Iterator[None]:
    """Let the layers of a transformers model drop their activations inside the block.

    transformers checkpoints a layer in training mode only, and training mode would bring dropout
    along. Here a layer's own flag is set, and not those of the modules in it, so that dropout stays
    as it was. Nothing is left behind: a decoder may be shared by several captioners.

    Args:
        language_model: A causal language model of transformers.
        wanted: Whether to do anything at all; without gradient nothing is done either.

    Raises:
        ValueError: The model has no layers that transformers can checkpoint.
    """
    if not (wanted and torch.is_grad_enabled()):
        yield
        return
    layers = layers_of(language_model)
    if not layers:
        raise ValueError(f"{type(language_model).__name__} has no layers to checkpoint")
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.training = layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = functools.partial(
            checkpoint, use_reentrant=False, context_fn=functools.partial(_again, layer)
        )
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training, layer.gradient_checkpointing = mode, False


def layers_of(language_model: Any) -> list[Any]:
    """Return the layers of a transformers model, those that it can checkpoint."""
    return [m for m in language_model.modules() if isinstance(m, GradientCheckpointingLayer)]


def keeps_activations(layer: Any, _: object = None) -> bool:
    """Say whether a layer computes once, and keeps all that the backward pass needs.

    It does not where nothing is to be learnt, nor inside of `checkpointing`, both times.

    Args:
        layer: One of `layers_of`.
    """
    return torch.is_grad_enabled() and not layer.gradient_checkpointing


def _again(layer: nn.Module) -> tuple[Any, Any]:
    """Return contexts of the first and the second computation: the second has the first's modes.

    Between the two, another captioner that shares the decoder may have switched its dropout.
    """
    return contextlib.nullcontext(), _modes(layer, {m: m.training for m in layer.modules()})


@contextlib.contextmanager
def _modes(layer: Any, wanted: dict[nn.Module, bool]) -> Iterator[None]:
    flag, layer.gradient_checkpointing = layer.gradient_checkpointing, True
    modes = {module: module.training for module in layer.modules()}
    for module, mode in wanted.items():
        module.training = mode
    try:
        yield
    finally:
        layer.gradient_checkpointing = flag
        for module, mode in modes.items():
            module.training = mode
