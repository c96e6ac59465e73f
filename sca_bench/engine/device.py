"""Which device a run uses, and what it can use there."""

from __future__ import annotations

import os

from sca_bench.devices import gpu
from sca_bench.errors import InputError
from sca_bench.study.plan.schedule import Machine


def this_machine(device: str) -> Machine:
    """Return what runs on a device can use here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(device, cores or 1, num_gpus(device))


def resolve_device(wanted: str) -> str:
    """Return the device to use for `runtime.device`.

    Raises:
        InputError: CUDA was asked for and is not there, or the name is not a device.
    """
    if wanted == "auto":
        return gpu.ANY if gpu.has_gpu() else "cpu"
    if wanted == "cpu":
        return wanted
    kind, _, index = wanted.partition(":")
    if kind != gpu.ANY or not (index.isdigit() or wanted == gpu.ANY):
        fix = "use auto, cpu, cuda or cuda:N"
        raise InputError("settings", "runtime.device", f"{wanted!r} is no device", fix)
    if int(index or 0) >= (count := gpu.num_gpus()):
        fix = "use runtime.device: cpu or auto"
        problem = f"{wanted!r}: this machine has {count} CUDA devices"
        raise InputError("settings", "runtime.device", problem, fix)
    return wanted


def num_gpus(device: str) -> int:
    """Return how many GPUs jobs on this device may be spread over; 0 on a CPU."""
    if not gpu.is_gpu(device):
        return 0
    return gpu.num_gpus() if device == gpu.ANY else 1
