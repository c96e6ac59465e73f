"""Where a number came from: command, versions, machine."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sca_bench import __version__

_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "mmengine",
    "segment-anything",
    "numpy",
    "pycocoevalcap",
)


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
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what the run ran on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            x.partition(":")[2].strip() for x in info.read_text().splitlines() if "model name" in x
        ]
        cpu = names[0] if names else cpu
    facts: dict[str, Any] = {"cpu": cpu, "system": platform.platform(), "device": str(device)}
    facts["threads"] = threads
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
