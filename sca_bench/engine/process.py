"""What a worker process does about itself: its output and its end."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from sca_bench.output import VisibleStream


def redirect(log_path: str) -> None:
    """Append all output of this process to a file, as UTF-8 whatever the locale says."""
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    handle = open(log_path, "ab", buffering=0)  # noqa: SIM115 (lives as long as the process)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
    sys.stdout, sys.stderr = (
        VisibleStream(
            open(number, "wb", closefd=False),  # noqa: SIM115
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        for number in (1, 2)
    )
    logging.getLogger("transformers").setLevel(logging.ERROR)


def die_with_parent() -> None:
    """End this process when its parent is gone, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(143)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many threads inside; 0 changes nothing."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
