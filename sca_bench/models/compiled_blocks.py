"""Blocks that a model repeats, compiled one by one instead of the whole loss.

What stands around them (captions, tokenizer, lists of ids) changes with every batch, and torch
would compile anew for each. A block sees tensors only, and equal blocks share their code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

HOW: dict[str, Any] = {
    # Regions, caption lengths and images change from batch to batch.
    "dynamic": True,
    # Dropout draws what it draws without compiling; inductor has a generator of its own.
    "options": {"fallback_random": True},
}
"""What `torch.compile` is asked for."""
MOST_GRAPHS = 64
"""Graphs of all blocks of a process: cells of a group may have blocks of several sizes."""


def compile_block(block: nn.Module, when: Callable[[Tensor], bool] = lambda _: True) -> None:
    """Have a block compiled at its next call; copies of it are not compiled.

    A block that several captioners share is compiled once.

    Args:
        block: The block; it takes and returns tensors, the first one by position.
        when: Asked at every call, with the block's first input; where it says no, the block runs
            as it was written.
    """
    if block._compiled_call_impl is not None:
        return
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, MOST_GRAPHS)
    block.compile(**HOW)
    compiled = cast("Callable[..., Any]", block._compiled_call_impl)

    def call(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (compiled if when(first) else block._call_impl)(first, *args, **kwargs)

    block._compiled_call_impl = call
