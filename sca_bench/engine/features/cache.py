"""The folder of kept features: whose turn it is to write, and what must go when it is full.

No torch here: `cache ls|du|verify|clear` answer at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sca_bench.digests import DIGESTS
from sca_bench.engine.features.shards import ShardStore
from sca_bench.errors import InputError
from sca_bench.files import (
    delete,
    delete_folder,
    make_folder,
    path_name,
    take_lock,
    touch,
    write_atomic,
)
from sca_bench.settings import RuntimeSettings
from sca_bench.walk import bytes_of

ABOUT, USED = "about.json", ".used"
_IN_USE = ".use"
_RESERVE_BYTES = 64 * 2**20
"""Left free on the disk, so that records can still be written."""
_GIB = 2**30
_OF_A_STORE = re.compile(
    r"about\.json|\.used|\.has-.+|shard-.+\.(json|safetensors)|\..+\.tmp|index\.json|\w+\.npy"
)
"""Names of the files of a store; the last two of an older layout."""


def cache_root(runs_dir: Path, runtime: RuntimeSettings) -> Path:
    """Return where features are kept."""
    return Path(runtime.cache_dir).expanduser() if runtime.cache_dir else runs_dir / "features"


@dataclass(frozen=True)
class Cache:
    """A folder of stores with a size limit.

    Attributes:
        root: The folder.
        limit_bytes: How much it may hold; None leaves it to the disk.
        since: Nothing that was used after this time (seconds since the epoch) is deleted to make
            room.
        digests: Where the digests of images are remembered; nowhere where None.
    """

    root: Path
    limit_bytes: int | None = None
    since: float = 0.0
    digests: Path | None = None

    @staticmethod
    def of(runs_dir: Path, runtime: RuntimeSettings, since: float = 0.0) -> Cache:
        """Return the cache that a cell's settings name."""
        limit = runtime.cache_limit_gib
        root = cache_root(runs_dir, runtime)
        return Cache(root, None if limit is None else int(limit * _GIB), since, runs_dir / DIGESTS)

    def store(self, key: str) -> ShardStore:
        """Return the store of a key, for reading and writing.

        Nobody deletes it to make room as long as this one lives.
        """
        make_folder(self.root)
        folder = self._folder(key)
        lock = take_lock(self.root / f".{key}{_IN_USE}", shared=True)
        store = ShardStore(folder)
        weakref.finalize(store, os.close, lock)
        return store

    def _folder(self, key: str) -> Path:
        """Return the folder of a store.

        Raises:
            InputError: It, or something in it, is a link, which nobody makes here.
        """
        folder = self.root / path_name(key, self.root)
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            if folder.is_symlink() or any(entry.is_symlink() for entry in entries):
                raise InputError(folder, "", "is a link, or holds one", "delete it")
        return folder

    def used(self, key: str, about: dict[str, Any] | None = None) -> None:
        """Note that a store is in use now; say what it is, for people, the first time.

        Raises:
            InputError: The cache folder cannot be written.
        """
        folder = self._folder(key)
        try:
            make_folder(folder)
            touch(folder / USED)
            if about is not None and not (folder / ABOUT).exists():
                write_atomic(folder / ABOUT, json.dumps(about, indent=1) + "\n")
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            fix = "name another folder in runtime.cache_dir, or set features.cache: off"
            raise InputError(self.root, "runtime.cache_dir", problem, fix) from error

    def holds(self, key: str, split: str) -> bool:
        """Say whether a store held all of a split when that was last looked at."""
        return (self.root / key / f".has-{split}").exists()

    def note(self, key: str, split: str, *, whole: bool) -> None:
        """Note whether a store holds all of a split, for `holds`."""
        mark = self.root / key / f".has-{split}"
        with contextlib.suppress(FileNotFoundError):  # nothing was kept, or all was cleared since
            if whole:
                touch(mark)
            else:
                delete(mark)

    def make_room(self, num_bytes: int) -> str:
        """Delete stores, least recently used first, until so much fits; return why it does not.

        Returns:
            Nothing where it fits, else the reason.
        """
        passed: set[Path] = set()
        while reason := self._lack(num_bytes):
            idle = (folder for folder in self._idle() if folder not in passed)
            oldest = min(idle, key=last_use, default=None)
            if oldest is None:
                return reason
            if not delete_store(oldest):
                passed.add(oldest)  # in use: the next one
        return ""

    def _lack(self, num_bytes: int) -> str:
        if self.limit_bytes is not None and num_bytes + bytes_of(self.root) > self.limit_bytes:
            return f"runtime.cache_limit_gib of {self.limit_bytes / _GIB:.3g} is reached"
        free = shutil.disk_usage(self.root).free
        if num_bytes + _RESERVE_BYTES > free:
            return f"the disk of {self.root} has {free / 2**20:.0f} MiB left"
        return ""

    def _idle(self) -> list[Path]:
        """Return the stores that nobody used since this run began."""
        return [folder for folder in store_folders(self.root) if last_use(folder) < self.since]


def store_folders(root: Path) -> list[Path]:
    """Return the folders of a cache folder's stores, by name."""
    if not root.is_dir():
        return []
    marks = (USED, ABOUT, "index.json")  # the last one of an older layout
    return sorted(
        folder
        for folder in root.iterdir()
        if not folder.is_symlink() and any((folder / mark).is_file() for mark in marks)
    )


def is_only_a_store(folder: Path) -> bool:
    """Say whether a folder holds what stores hold and nothing else, so that it may be deleted."""
    try:
        with os.scandir(folder) as entries:
            return all(
                _OF_A_STORE.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False)
                for entry in entries
            )
    except OSError:
        return False


def delete_store(folder: Path) -> bool:
    """Delete a store, unless somebody reads or fills it; say whether it is gone.

    A folder that holds anything else than stores do is left as it is.
    """
    if folder.is_symlink() or not is_only_a_store(folder):
        return False
    lock = folder.parent / f".{folder.name}{_IN_USE}"
    try:
        held = take_lock(lock, wait=False)
    except OSError:
        return False
    try:
        delete_folder(folder)
    finally:
        os.close(held)
    gone = not folder.exists()
    if gone:
        for left in folder.parent.glob(f".{folder.name}.*"):
            delete(left)
    return gone


def last_use(folder: Path) -> float:
    """Return when a store was last used, in seconds since the epoch."""
    try:
        return (folder / USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0  # of an older layout, or never finished: the first to go


@contextlib.contextmanager
def locked(root: Path, names: Iterable[str]) -> Iterator[None]:
    """Keep other processes from computing the same features; wait while one of them does.

    Only so that nothing is computed twice: several writers of one store harm nobody.
    """
    make_folder(root)
    with contextlib.ExitStack() as stack:
        for name in sorted(names):  # in one order, or two processes could wait for each other
            lock = root / f".{path_name(name, root)}.lock"
            stack.callback(os.close, take_lock(lock))
        yield


def since_text(seconds: float) -> str:
    """Return how long ago something was, for people."""
    ago = max(0.0, time.time() - seconds)
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if ago >= length:
            return f"{ago / length:.0f} {unit} ago"
    return f"{ago:.0f} s ago"
