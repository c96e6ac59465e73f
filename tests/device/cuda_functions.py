"""What is behind `torch.cuda` on the make-believe device: its generator, its memory, its events."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from device.journal import EVENT, Journal

CUDA = torch.device("cuda", 0)
StandIn = tuple[Any, str, Any]
"""A class or module, the name of something in it, and what stands there instead."""


class Device:
    """The one device: its generator, its memory, what is pinned for it, its journal."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.state = torch.get_rng_state()
        self.used = self.peak = 0
        self.sizes: dict[int, int] = {}
        self.pinned: set[int] = set()

    def seed(self, seed: int) -> None:
        """Begin the generator anew."""
        outer = torch.get_rng_state()
        self.state = torch.default_generator.manual_seed(int(seed)).get_state()
        torch.set_rng_state(outer)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Let the CPU draw from the device's generator."""
        outer = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(outer)

    def count(self, raw: Tensor) -> None:
        """Count a storage as the device's, for as long as it lives."""
        storage = raw.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.used += self.sizes[key]
            self.peak = max(self.peak, self.used)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.used -= self.sizes.pop(key)

    def pin(self, tensor: Tensor) -> Tensor:
        """Return a copy in pinned memory, or what lies there already."""
        if self.is_pinned(tensor):
            return tensor
        copy = tensor.clone()
        key = copy.untyped_storage()._cdata
        self.pinned.add(key)
        weakref.finalize(copy.untyped_storage(), self.pinned.discard, key)
        return copy

    def is_pinned(self, tensor: Tensor) -> bool:
        """Say whether a tensor lies in pinned memory."""
        return tensor.untyped_storage()._cdata in self.pinned


class _Properties:
    name = "Ghost"
    total_memory = 80 * 2**30
    major, minor = 9, 0
    multi_processor_count = 132


def stand_ins(device: Device) -> Iterator[StandIn]:
    """Yield what stands in for `torch.cuda`, and for what asks whether it is there."""
    journal, total = device.journal, _Properties.total_memory

    class Event:
        """An event, which the device has always passed already."""

        def __init__(self, **_: Any) -> None:
            self.at = 0.0

        def record(self, stream: Any = None) -> None:
            self.at = time.perf_counter()

        def query(self) -> bool:
            return True

        def synchronize(self) -> None:
            journal.note(EVENT, "synchronize")

        def elapsed_time(self, end: Event) -> float:
            return 1000 * (end.at - self.at)

    def constant(value: Any) -> Any:
        return lambda *_, **__: value

    def emptied() -> None:
        journal.emptied += 1

    cuda = {
        "is_available": constant(True),
        "is_initialized": constant(True),
        "_initialized": True,
        "_is_in_bad_fork": constant(False),
        "_lazy_init": constant(None),
        "device_count": constant(1),
        "current_device": constant(0),
        "set_device": constant(None),
        "device": constant(contextlib.nullcontext()),
        "get_device_name": constant(_Properties.name),
        "get_device_properties": constant(_Properties),
        "get_device_capability": constant((_Properties.major, _Properties.minor)),
        "is_bf16_supported": constant(True),
        "Event": Event,
        "synchronize": lambda *_: journal.note(EVENT, "synchronize"),
        "empty_cache": emptied,
        "memory_allocated": lambda *_: device.used,
        "max_memory_allocated": lambda *_: device.peak,
        "reset_peak_memory_stats": lambda *_: setattr(device, "peak", device.used),
        "memory_reserved": lambda *_: device.used,
        "mem_get_info": lambda *_: (total - device.used, total),
        "manual_seed": device.seed,
        "manual_seed_all": device.seed,
        "get_rng_state": lambda *_: device.state.clone(),
        "set_rng_state": lambda state, *_: setattr(device, "state", state.clone()),
    }
    accelerator = {
        "is_available": constant(True),
        "device_count": constant(1),
        "current_accelerator": constant(torch.device("cuda")),
        "current_device_index": constant(0),
        "set_device_index": constant(None),
    }
    for owner, names in ((torch.cuda, cuda), (torch.accelerator, accelerator)):
        yield from ((owner, name, stand_in) for name, stand_in in names.items())
    optimizer = torch.optim.Optimizer
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(optimizer, name):
            yield optimizer, name, constant(None)
    import torch.cuda.amp.common as common
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    yield common, "amp_definitely_not_available", constant(False)
    yield amp_optimizer_wrapper, "is_cuda_available", constant(True)
