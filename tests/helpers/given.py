"""Folders that only their owner has: real photos, annotations, weights and recorded outputs.

A variable of the environment names each. Where it is not set, a folder of a fixed name beside the
checkout stands for it, if there is one. What takes a quarter of an hour runs only where a variable
names its data.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[3] / "shared"
FOLDERS = {
    "SCA_BENCH_DATA_DIR": ("data", "real photos and annotations"),
    "SCA_BENCH_WEIGHTS_DIR": ("weights", "MobileSAM's weights"),
}
"""Variable -> the folder in `BESIDE`, and what the tests that need it are on."""
_FOUND = "SCA_BENCH_FOUND_BESIDE"
"""Names the variables that `look_beside` has set, for test processes that inherit them."""


def look_beside() -> None:
    """Set the variables that are not set to the folders beside the checkout that are there."""
    for variable, (name, _) in FOLDERS.items():
        if not os.environ.get(variable) and (BESIDE / name).is_dir():
            os.environ[variable] = str(BESIDE / name)
            os.environ[_FOUND] = f"{os.environ.get(_FOUND, '')} {variable}".strip()


def is_named(variable: str) -> bool:
    """Say whether somebody has named a folder, and it was not just found beside the checkout."""
    return bool(os.environ.get(variable)) and variable not in os.environ.get(_FOUND, "").split()


def which_folders() -> list[str]:
    """Return a line for each folder: which one is read, or what is skipped for lack of it."""
    lines = []
    for variable, (name, subject) in FOLDERS.items():
        value = os.environ.get(variable)
        how = "named" if is_named(variable) else "found beside the checkout"
        lack = f"SKIPPED, for {variable} is not set and there is no {BESIDE / name}"
        lines.append(f"tests on {subject}: " + (f"read {value} ({how})" if value else lack))
    return lines


def given_folder(variable, *needed):
    """Return the folder that a variable names; skip without one, fail where it lacks some."""
    value = os.environ.get(variable)
    if not value:
        name, _ = FOLDERS[variable]
        pytest.skip(f"{variable} is not set and there is no {BESIDE / name}: it holds {needed[0]}")
    for name in needed:
        if not (Path(value) / name).exists():
            pytest.fail(f"{variable}={value} lacks {name}")
    return Path(value)
