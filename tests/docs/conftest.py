"""The built site, once for the tests that look at it."""

import os
import subprocess
import sys

import pytest
from helpers.printed import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the pages as `.ci/run` does, strictly; return the folder."""
    out = tmp_path_factory.mktemp("site")
    around = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "NO_MKDOCS_2_WARNING": "1",
    }
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(out),
    ]
    done = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
