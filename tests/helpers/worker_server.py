"""One server of worker processes for a whole test session."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

IMPORTS = "helpers.worker_imports"


def start():
    """Start the server that this process forks its workers from; later calls find it running."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([IMPORTS])
    tests = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join(filter(None, (str(tests), os.environ.get("PYTHONPATH"))))
        patch.setenv("PYTHONPATH", path)
        patch.chdir(tests.parent)
        forkserver.ensure_running()


def stop():
    """End the server, so that the next process to be forked starts another one."""
    forkserver._forkserver._stop()
