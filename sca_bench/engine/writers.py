"""Who writes a file of a shard, told by its name, and whether that process is still at work."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

_ABANDONED_S = 24 * 3600.0
HOST = "".join(c for c in socket.gethostname() if c.isalnum()) or "host"
"""This machine, in the names of its shards."""


def is_abandoned(path: Path) -> bool:
    """Say whether nobody writes a file any more: its process is gone, or it is a day old."""
    host, _, pid = (
        path.name.lstrip(".").split(".")[0].removeprefix("shard-").partition("-")[2].rpartition("-")
    )
    try:
        if host == HOST and re.fullmatch("[0-9]{1,9}", pid):
            os.kill(int(pid), 0)
            return _has_ended(int(pid))
        return time.time() - path.stat().st_mtime > _ABANDONED_S
    except ProcessLookupError:
        return True
    except (PermissionError, FileNotFoundError):
        return False


def _has_ended(pid: int) -> bool:
    """Say whether a process that still has its number has ended, and waits to be collected."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False  # another system, or it is gone by now: the next look will tell
    return "\nState:\tZ" in status
