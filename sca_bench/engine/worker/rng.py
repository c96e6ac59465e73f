"""One random stream per cell, so that a cell trains the same alone and beside others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sca_bench.devices import gpu

State = dict[str, Tensor]


class RngStream:
    """A private torch random state (CPU and, where used, CUDA).

    Args:
        seed: Start of the stream.
        device: The device whose generator belongs to the stream beside the CPU's.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        outer = self._read()
        torch.manual_seed(seed)
        self.state: State = self._read()
        self._write(outer)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Swap the stream in; what is drawn inside advances it and nothing else."""
        outer = self._read()
        self._write(self.state)
        try:
            yield
        finally:
            self.state = self._read()
            self._write(outer)

    def _read(self) -> State:
        state = {"cpu": torch.get_rng_state()}
        if (on_gpu := gpu.rng_state(self._device)) is not None:
            state[gpu.ANY] = on_gpu
        return state

    def _write(self, state: State) -> None:
        torch.set_rng_state(state["cpu"])
        if gpu.ANY in state:
            gpu.set_rng_state(self._device, state[gpu.ANY])
