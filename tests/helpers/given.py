"""Folders that only their owner has: real photos and weights, named by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def given_folder(variable, *needed):
    """Return the folder that a variable names; skip without one, fail where it lacks some."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder with {needed[0]}")
    for name in needed:
        if not (Path(value) / name).exists():
            pytest.fail(f"{variable}={value} lacks {name}")
    return Path(value)
