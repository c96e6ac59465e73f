"""Which device a run uses, and what it can use there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch

from sca_bench.devices import gpu
from sca_bench.devices.arithmetic import arithmetic
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
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


def computing(settings: CellSettings, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which a run of these settings computes on a device.

    It sets how a GPU rounds; mixed precision is another matter (`autocast`). A CPU computes in
    float32 where settings say `tf32`, which is for those who only look at a run; see
    `check_precision`.
    """
    return arithmetic(
        device,
        tf32=settings.train.precision == "tf32",
        deterministic=settings.runtime.deterministic,
    )


def check_precision(settings: CellSettings, device: torch.device) -> None:
    """Refuse a run in a precision that its device does not have.

    Raises:
        InputError: `fp16` or `tf32` on a CPU.
    """
    precision = settings.train.precision
    if precision in ("fp16", "tf32") and not gpu.is_gpu(device):
        fix = "use bf16 or fp32 on a CPU"
        raise InputError("settings", "train.precision", f"{precision} needs CUDA", fix)


def num_gpus(device: str) -> int:
    """Return how many GPUs jobs on this device may be spread over; 0 on a CPU."""
    if not gpu.is_gpu(device):
        return 0
    return gpu.num_gpus() if device == gpu.ANY else 1
