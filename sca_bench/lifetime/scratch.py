"""One folder for all that a command keeps for a while, so that nothing of it is ever left behind.

Whatever asks for a temporary folder (this package, multiprocessing, Java, libraries, and the
processes that are started) gets it inside of this one. It is deleted at the end. Where its process
was killed, the next command deletes it: the folder says whose it is, and its owner holds a lock
that ends with the owner, however that comes about. Numbers of processes prove nothing: they are
used again, and other containers on one machine have their own.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from sca_bench.lifetime import stops

_PREFIX = "sca_bench-"
_NAME = re.compile(r"sca_bench-[0-9]+-[a-z0-9_]{8}")
_OWNER = "owner"
_MARK = "a temporary folder of sca_bench; its process holds a lock on this file\n"
_TRIES = 20
_CLEAR_TRIES, _CLEAR_PAUSE_S = 10, 0.02
_YOUNG_S = 60.0

_ASKED = "SCA_BENCH_TMPDIR"
"""Variable that tells started processes the temporary folder that the user named."""

_held: dict[Path, int] = {}
"""Folders of this process, and what holds their locks."""


def lend() -> None:
    """Let temporary folders of this process, and of those it starts, be made in one of its own.

    What killed commands left beside it is deleted. Where no folder can be made, all stays as it is.
    """
    with contextlib.suppress(OSError):
        asked = tempfile.gettempdir()
        sweep(Path(asked))
        folder = claim(Path(asked))
        os.environ.setdefault(_ASKED, asked)
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


def lasting() -> Path:
    """Return the temporary folder that the user named, for what is to be found again later."""
    return Path(os.environ.get(_ASKED) or tempfile.gettempdir())


def claim(parent: Path) -> Path:
    """Make a folder that is this process's until `give_back`, or until the process is gone.

    Raises:
        OSError: It cannot be made.
    """
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        _at_exit()
        handle = os.open(path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _held[path] = handle
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(handle, path / _OWNER):  # nobody took it for abandoned meanwhile
                os.write(handle, _MARK.encode())
                return path
        os.close(_held.pop(path))
        _clear(path)
    raise OSError(None, "no lock can be had", str(parent))


@functools.cache
def _at_exit() -> None:
    """Delete the folders after those that use them have cleared away, which say so later."""
    atexit.register(give_back)
    stops.at_end(give_back)


def give_back() -> None:
    """Delete this process's folders."""
    while _held:
        path = next(iter(_held))
        _clear(path)
        os.close(_held.pop(path))


def _clear(path: Path) -> None:
    """Delete a folder, the mark of its owner last: where that is cut short, it still is known.

    Processes that are ending may write into it meanwhile, so it is tried a few times.
    """
    for _ in range(_CLEAR_TRIES):
        try:
            for inside in path.iterdir():
                if inside.is_dir() and not inside.is_symlink():
                    shutil.rmtree(inside, ignore_errors=True)
                elif inside.name != _OWNER:
                    inside.unlink()
            path.joinpath(_OWNER).unlink(missing_ok=True)
            path.rmdir()
            return
        except FileNotFoundError:
            if not path.exists():
                return
        except OSError:
            time.sleep(_CLEAR_PAUSE_S)


def sweep(parent: Path) -> None:
    """Delete what killed commands of this user left in a folder; nothing else there is touched."""
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    for name in names:
        if _NAME.fullmatch(name):
            with contextlib.suppress(OSError):
                _sweep_one(parent / name)


def _sweep_one(path: Path) -> None:
    """Delete a folder if it is this user's, was made here, and is nobody's any more."""
    found = path.lstat()
    if found.st_uid != os.geteuid() or path.is_symlink() or not path.is_dir():
        return
    try:
        handle = os.open(path / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        _sweep_empty(path, found)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its owner would hold it
        mark = os.read(handle, len(_MARK) + 1)
        if _is_file(handle, path / _OWNER) and (
            mark == _MARK.encode() or (not mark and [p.name for p in path.iterdir()] == [_OWNER])
        ):
            _clear(path)
    finally:
        os.close(handle)


def _sweep_empty(path: Path, found: os.stat_result) -> None:
    """Delete an empty folder that was killed before it had an owner; a young one may get one."""
    if time.time() - found.st_mtime > _YOUNG_S:
        path.rmdir()


def _is_file(handle: int, path: Path) -> bool:
    """Say whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
