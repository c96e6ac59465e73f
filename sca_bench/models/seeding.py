"""Untrained weights that depend on their own seed only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generator inside the block, and put it back as it was afterwards.

    CUDA generators are neither used nor touched: weights are drawn on the CPU and moved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
