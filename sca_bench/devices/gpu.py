"""What the suite asks of a GPU, in one place, so that it can be exchanged, and rehearsed without.

Every function may be called for any device: on a CPU there is nothing to wait for or to free. It is
`torch.cuda` that is asked, at each call anew, since a test may put something else in its place.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from sca_bench.errors import InputError

ANY = "cuda"
"""What a user calls a GPU without saying which; `cuda:1` is the second one."""


def is_gpu(device: torch.device | str) -> bool:
    """Say whether a device is a GPU: it has a memory, streams and generators of its own."""
    return torch.device(device).type == ANY


def resolve_device(wanted: str, where: str = "settings", key: str = "runtime.device") -> str:
    """Return the device to use for what a user wrote.

    Args:
        wanted: `auto`, which takes a GPU where there is one, `cpu`, `cuda` or `cuda:N`.
        where: Where it is written.
        key: Setting or option.

    Raises:
        InputError: CUDA was asked for and is not there, or the name is not a device.
    """
    if wanted == "auto":
        return ANY if has_gpu() else "cpu"
    if wanted == "cpu":
        return wanted
    kind, _, index = wanted.partition(":")
    if kind != ANY or not (index.isdigit() or wanted == ANY):
        fix = "use auto, cpu, cuda or cuda:N"
        raise InputError(where, key, f"{wanted!r} is no device", fix)
    if int(index or 0) >= (count := num_gpus()):
        problem = f"{wanted!r}: this machine has {count} CUDA devices"
        raise InputError(where, key, problem, "use cpu or auto")
    return wanted


def num_gpus() -> int:
    """Return how many GPUs this process sees; it starts none of them."""
    return torch.cuda.device_count()


def has_gpu() -> bool:
    """Say whether there is a GPU that works. To ask spoils the forks of a process, in torch."""
    return torch.cuda.is_available()


def gpu_name(device: torch.device) -> str:
    """Return what a GPU calls itself, such as `NVIDIA H200`."""
    return torch.cuda.get_device_name(device)


def has_tf32(device: torch.device) -> bool:
    """Say whether a GPU multiplies in TensorFloat-32: those of NVIDIA do since Ampere."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def make_current(device: torch.device | str) -> None:
    """Let a GPU with a number be what `cuda` means, and whose streams are used.

    Whoever computes on `cuda:1` does this first: events are recorded on the current GPU.
    """
    device = torch.device(device)
    if is_gpu(device) and device.index is not None:
        torch.cuda.set_device(device)


def wait_for(device: torch.device) -> None:
    """Wait until a device has done everything that it was given; a CPU always has."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device, without waiting until it has arrived.

    What is there already is returned as it is. For what is made in a step and has to be small: it
    is copied to page-locked memory first. Batches are locked by their loader.
    """
    if is_gpu(device) and not is_gpu(tensor.device):
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def free_unused_memory(device: torch.device) -> None:
    """Give memory back that torch keeps for later, and nothing holds."""
    if is_gpu(device):
        torch.cuda.empty_cache()


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the most memory that tensors took on a GPU at a time; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if is_gpu(device) else None


def free_memory_bytes(device: torch.device) -> int | None:
    """Return the memory that a GPU still has for this process, what torch keeps for later too.

    None on a CPU.
    """
    if not is_gpu(device):
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_bytes` begin anew."""
    if is_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)


def rng_state(device: torch.device) -> Tensor | None:
    """Return the state of a GPU's generator, a CPU tensor of uint8; None on a CPU."""
    return torch.cuda.get_rng_state(device) if is_gpu(device) else None


def set_rng_state(device: torch.device, state: Tensor) -> None:
    """Put a state back that `rng_state` returned for the same device."""
    torch.cuda.set_rng_state(state, device)


class Stopwatch:
    """Takes the time of what a device does, without making the host wait for it.

    On a GPU it is read off two events, which the device passes when it gets there.

    Args:
        device: The device; it is the current one (`make_current`).
    """

    def __init__(self, device: torch.device) -> None:
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)] if is_gpu(device) else []
        )
        self._begin_s = self._end_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether `seconds` may have to wait for the device."""
        return bool(self._events)

    def start(self) -> None:
        """Begin."""
        if self._events:
            self._events[0].record()
        else:
            self._begin_s = time.perf_counter()

    def stop(self) -> None:
        """End."""
        if self._events:
            self._events[1].record()
        else:
            self._end_s = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds between start and stop, once the device has got there."""
        if not self._events:
            return self._end_s - self._begin_s
        begin, end = self._events
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000
