"""Where processes are forked from: servers that hold the libraries and have never met CUDA.

A process may use CUDA only if none it was forked from has asked for it before: one call of
`torch.cuda.is_available()` in the parent is enough for "Cannot re-initialize CUDA in forked
subprocess" in every child. So the lists below are chosen by hand: they hold what takes long to
import and is known not to ask, and not mmengine, whose import does. Each process imports that for
itself. `tests/engine/worker/test_pool_reaches_cuda.py` looks at the children of both servers.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext
from pathlib import Path

from sca_bench.engine.process import die_with_parent, end_when_told
from sca_bench.errors import InputError
from sca_bench.lifetime import scratch, stops

FOR_WORKERS = (
    "torch",
    "transformers",
    "sca_bench.models.build",
    "sca_bench.data.load",
    "sca_bench.engine.job",
    "sca_bench.engine.loaders",
    # What takes longest of mmengine's own import; what is not installed is passed over.
    "cv2",
    "rich.progress",
    "yapf.yapflib.yapf_api",
)
FOR_LOADERS = (
    "torch.utils.data",
    "sca_bench.data.pipeline.collate",
    "sca_bench.data.pipeline.dataset",
    "sca_bench.engine.features.split_bank",
)

_LONGEST_ADDRESS = 107
"""Bytes of a socket's address on Linux; the system has room for no more."""
_SOCKET = len("/pymp-xxxxxxxx/listener-xxxxxxxx")
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def worker_processes() -> ForkServerContext:
    """Return the context in which worker processes are started.

    The first call starts the server and returns at once; the server imports meanwhile.
    """
    # Waiting threads that spin take the cores from the neighbours: 5 x the CPU seconds here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return _served(FOR_WORKERS)


def loader_processes() -> ForkServerContext:
    """Return the context in which data loaders start theirs.

    Forked from the process that trains, they would inherit its threads and its CUDA.
    """
    return _served(FOR_LOADERS)


def end_with_trainer(worker: int) -> None:
    """Let a data loader's process end with the one that it loads for; torch's own watch does not.

    Args:
        worker: Its number, which torch hands over.
    """
    die_with_parent()
    end_when_told()


def _served(preload: Sequence[str]) -> ForkServerContext:
    _make_socket_folder()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))  # without effect once the server runs
    with stops.blocked():
        resource_tracker.ensure_running()  # it lets signals through again when it starts
    with stops.blocked():  # in the server, and in all that is forked from it
        forkserver.ensure_running()
    return context


def _make_socket_folder() -> None:
    """Have multiprocessing's own folder made where the addresses of its sockets are short enough.

    It lies in this command's own temporary folder, which may be deep in a job's. This process
    remembers it, and so do all that it starts.

    Raises:
        InputError: There is no other place.
    """
    asked = tempfile.gettempdir()
    if len(os.fsencode(asked)) + _SOCKET <= _LONGEST_ADDRESS:
        return
    before = tempfile.tempdir
    try:
        for folder in _SHORT_FOLDERS:
            try:
                scratch.sweep(Path(folder))
                tempfile.tempdir = str(scratch.claim(Path(folder)))
                util.get_temp_dir()
            except OSError:
                continue
            return
    finally:
        tempfile.tempdir = before
    others = ", ".join(_SHORT_FOLDERS)
    problem = f"is too long for the sockets of worker processes, and none of {others} is open"
    raise InputError("TMPDIR", asked, problem, "name a folder with a shorter path")
