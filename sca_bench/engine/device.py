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
        InputError: `fp16` or `tf32` on a CPU, or `tf32` on a GPU that would compute in float32.
    """
    precision = settings.train.precision
    if precision not in ("fp16", "tf32"):
        return
    if not gpu.is_gpu(device):
        fix = "use bf16 or fp32 on a CPU"
        raise InputError("settings", "train.precision", f"{precision} needs CUDA", fix)
    if precision == "tf32" and not gpu.has_tf32(device):
        problem = f"{gpu.gpu_name(device)} has no TensorFloat-32"
        raise InputError("settings", "train.precision", problem, "use fp32, or fp16")


def num_gpus(device: str) -> int:
    """Return how many GPUs jobs on this device may be spread over; 0 on a CPU."""
    if not gpu.is_gpu(device):
        return 0
    return gpu.num_gpus() if device == gpu.ANY else 1
