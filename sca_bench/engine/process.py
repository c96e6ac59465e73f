"""What a worker process does about itself: its output and its end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from pathlib import Path


def redirect(log_path: str) -> None:
    """Append all output of this process to a file."""
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    handle = open(log_path, "ab", buffering=0)  # noqa: SIM115 (lives as long as the process)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
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
