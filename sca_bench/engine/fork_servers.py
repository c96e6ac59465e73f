"""Where processes are forked from: servers that hold the libraries and have never met CUDA.

A process may use CUDA only if none it was forked from has asked for it before: one call of
`torch.cuda.is_available()` in the parent is enough for "Cannot re-initialize CUDA in forked
subprocess" in every child. So the lists below are chosen by hand: they hold what takes long to
import and is known not to ask, and not mmengine, whose import does. Each process imports that for
itself. `tests/engine/worker/test_pool_reaches_cuda.py` looks at the children of both servers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext

from sca_bench.engine.process import die_with_parent

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
)


def worker_processes() -> ForkServerContext:
    """Return the context in which worker processes are started."""
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


def _served(preload: Sequence[str]) -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))  # without effect once the server runs
    return context
