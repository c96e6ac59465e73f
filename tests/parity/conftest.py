"""Turns the folders of recorded outputs into tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixture_folders import model_folders, read
from recorded import FIXTURES


def _root(config: pytest.Config) -> Path:
    return Path(config.getoption("--parity-dir") or FIXTURES)


@pytest.fixture
def parity_root(request):
    return _root(request.config)


def pytest_generate_tests(metafunc):
    folders = model_folders(_root(metafunc.config))
    if "recorded" in metafunc.fixturenames:
        checked = [folder for folder, problem in folders.items() if problem is None]
        metafunc.parametrize("recorded", checked, ids=lambda folder: folder.name, indirect=True)
    if "unsupported" in metafunc.fixturenames:
        refused = [(folder, problem) for folder, problem in folders.items() if problem]
        names = [folder.name for folder, _ in refused]
        # One case for "there is none" keeps pytest from reporting an empty set as a skip.
        metafunc.parametrize("unsupported", refused or [None], ids=names or ["none"])


@pytest.fixture
def recorded(request):
    return read(request.param)
