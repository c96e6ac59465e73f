"""Where a number came from: command, versions, machine."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sca_bench import __version__
from sca_bench.devices.gpu import gpu_name, is_gpu

_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "mmengine",
    "segment-anything",
    "numpy",
    "pycocoevalcap",
)
_CPU_INFO = Path("/proc/cpuinfo")
_MODEL_FIELDS = {
    "cpu family": "family",
    "model": "model",
    "stepping": "stepping",
    "CPU implementer": "implementer",
    "CPU part": "part",
    "CPU variant": "variant",
    "CPU revision": "revision",
}
"""Lines of `/proc/cpuinfo` on x86 and on Arm -> what they are called here."""


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that can move a number."""
    versions = {"sca_bench": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_commit() -> str:
    """Return the commit of this source tree (`+dirty` if changed), empty outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def machine(
    device: torch.device, threads: int, frozen_threads: Sequence[int] = ()
) -> dict[str, Any]:
    """Return what the run ran on, with all that decides how a sum is rounded there.

    `cpu` is the processor's name and `cpu_model` what tells processors of one name apart;
    `cpu_capability` names the vector instructions of torch's own kernels, `blas` the library of its
    matrix products. What cannot be found out is left out, the name of `blas` apart.

    Args:
        device: Where it computes.
        threads: CPU threads of what is computed for each cell.
        frozen_threads: Those of its frozen features, kept ones included, where they are known.
    """
    name, model = processor(_CPU_INFO.read_text("utf-8") if _CPU_INFO.exists() else "")
    facts: dict[str, Any] = {"cpu": name or platform.processor() or platform.machine()}
    if model:
        facts["cpu_model"] = model
    facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    facts["blas"] = blas_library(torch.__config__.show())
    facts |= {"system": platform.platform(), "device": str(device), "threads": threads}
    if frozen_threads:
        facts["frozen_threads"] = sorted(frozen_threads)
    if is_gpu(device):
        facts["gpu"] = gpu_name(device)
    return facts


def processor(cpu_info: str) -> tuple[str, str]:
    """Return name and precise model of the first processor; empty where they are not stated.

    Clouds call different processors by one name ("AMD EPYC"), which the model tells apart:
    `family 25, model 17, stepping 1`.

    Args:
        cpu_info: Content of `/proc/cpuinfo`.
    """
    first, _, _ = cpu_info.strip().partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    stated = {key.strip(): value.strip() for key, _, value in lines}
    model = [f"{ours} {stated[key]}" for key, ours in _MODEL_FIELDS.items() if stated.get(key)]
    return stated.get("model name", ""), ", ".join(model)


def blas_library(build: str) -> str:
    """Return torch's library of matrix products, with its version where the build states one.

    Args:
        build: What `torch.__config__.show()` says, for instance with `BLAS_INFO=mkl` in it.
    """
    stated = re.search(r"\bBLAS_INFO=(\w+)", build)
    name = stated[1].lower() if stated else "not stated"
    version = re.search(r"Math Kernel Library Version ([\d.]+)", build)
    return f"{name} {version[1]}" if name == "mkl" and version else name
