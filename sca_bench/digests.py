"""What the content of files is, as digests: found out once, remembered, written down with a folder.

The memory lies in a runs folder and is only a memory: without it everything is digested again. No
torch here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import stat
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sca_bench import __version__
from sca_bench.errors import InputError
from sca_bench.files import atomic_folder, connect, delete, name_text, write_atomic
from sca_bench.reading import open_regular
from sca_bench.walk import is_hidden, never, walk, walk_with_circles

_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000
"""Two changes that are so far apart have two times: on file systems of today, and on old ones."""
_AT_ONCE, _READERS = 500, 8
"""Files that are looked up, or digested, before that is remembered; and threads that read them."""
DIGESTS = "fingerprints.sqlite"
"""Where a runs folder remembers the digests of all that its runs read."""
_MUCH_BYTES = 2 * 2**30
"""Digesting more than this takes so long that a line says so."""
_TABLE = "CREATE TABLE files (memo TEXT PRIMARY KEY, digest TEXT)"
_LONGEST_DIGEST = 4096
_BESIDE = ("-journal", "-wal", "-shm")
"""Endings of what SQLite writes beside a database."""
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")
"""The end of a journal that names another one (https://sqlite.org/fileformat2.html, 3)."""
_LOG = logging.getLogger(__name__)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits.

    Raises:
        InputError: It is no regular file.
        OSError: There is no such file, or it cannot be read.
    """
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# --- digests that are remembered --------------------------------------------------------------


def file_stamp(path: Path) -> dict[str, int]:
    """Return what changes whenever a file's content is replaced or written to.

    Size and time of change can be put back by whoever copies or edits a file; the time of the last
    change of the inode, and the inode, cannot.

    Raises:
        OSError: There is no such file.
    """
    stat = path.stat()
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def has_stamp(path: Path, known: Mapping[str, Any]) -> bool:
    """Say whether a file has the stamp that was noted of it; not if the note lacks a part."""
    return all(known.get(key) == value for key, value in file_stamp(path).items())


def _memo(what: str, path: Path) -> tuple[str, dict[str, int]]:
    stamp = file_stamp(path)
    named = (what, name_text(str(path.absolute())))
    return "|".join((*filter(None, named), *map(str, stamp.values()))), stamp


def _settled(stamps: Iterable[Mapping[str, int]]) -> Callable[[Mapping[str, int]], bool]:
    """Wait until the clock that stamps files has moved on; return what says of which it has.

    A file that is written to twice between two ticks of that clock has one stamp for two contents.
    """
    now = time.time_ns()
    ages = [now - stamp["ctime_ns"] for stamp in stamps]
    if young := [age for age in ages if 0 <= age < _TICK_NS]:
        time.sleep((_TICK_NS - min(young)) / 1e9)
        now = time.time_ns()

    def is_settled(stamp: Mapping[str, int]) -> bool:
        whole_seconds = stamp["ctime_ns"] % 10**9 == 0  # a file system that knows no finer time
        return now - stamp["ctime_ns"] >= (_COARSE_TICK_NS if whole_seconds else _TICK_NS)

    return is_settled


class FileDigests:
    """SHA-256 of files, remembered by path and `file_stamp`: the one memory of all that digests.

    Several processes may share one memory, which lies in the runs folder and never beside what is
    digested. It is only a memory: where it cannot be read or written (a read-only runs folder), or
    is damaged, files are digested again.

    Args:
        memory: SQLite file that keeps them between processes; none where None.
        what: Name of what is found out about a file, where that is not its SHA-256; another one
            wherever it would be found out otherwise.
        find_out: Called with a path that is not remembered; returns no empty text.
    """

    def __init__(
        self,
        memory: Path | None = None,
        what: str = "",
        find_out: Callable[[Path], str] | None = None,
    ) -> None:
        self._memory, self._what = memory, what
        self._find_out = find_out or file_sha256
        self._known: dict[str, str] = {}
        self._connection: sqlite3.Connection | None = None

    def of(self, path: Path) -> str:
        """Return the digest of a file.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        return self.of_all([path])[0]

    def of_all(self, paths: Iterable[Path]) -> list[str]:
        """Return the digests of files, in their order.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        found = [(path, *_memo(self._what, path)) for path in paths]
        self._look_up([memo for _, memo, _ in found if memo not in self._known])
        new = {memo: (path, stamp) for path, memo, stamp in found if memo not in self._known}
        if sum(stamp["size"] for _, stamp in new.values()) > _MUCH_BYTES:
            first = next(iter(new.values()))[0]
            _LOG.warning("%d files are digested once, the first is %s", len(new), first)
        fresh = self._digest(new)
        return [self._known.get(memo) or fresh[memo] for _, memo, _ in found]

    def _digest(self, new: dict[str, tuple[Path, dict[str, int]]]) -> dict[str, str]:
        """Digest files and remember those that cannot change again without another stamp."""
        settled = _settled([stamp for _, stamp in new.values()])
        fresh: dict[str, str] = {}
        items = list(new.items())
        with ThreadPoolExecutor(_READERS) as pool:  # it starts no thread before it is asked
            for start in range(0, len(items), _AT_ONCE):  # an interrupted pass goes on from there
                part = items[start : start + _AT_ONCE]
                paths = [path for _, (path, _) in part]
                each = pool.map if len(part) > 1 else map
                digests = each(self._find_out, paths)
                done = dict(zip((memo for memo, _ in part), digests, strict=True))
                fresh |= done
                lasting = [(m, d) for m, d in done.items() if settled(new[m][1])]
                self._known.update(lasting)
                self._remember(lasting)
        return fresh

    def _look_up(self, memos: list[str]) -> None:
        try:
            connection = self._open()
            if connection is None:
                return
            for start in range(0, len(memos), _AT_ONCE):
                part = memos[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT memo, digest FROM files WHERE memo IN ({marks})"
                found = connection.execute(query, part)
                self._known.update(
                    (memo, digest)
                    for memo, digest in found
                    if isinstance(digest, str) and 0 < len(digest) <= _LONGEST_DIGEST
                )
        except (sqlite3.OperationalError, OSError):
            return  # busy, or not to be written
        except sqlite3.DatabaseError:
            self._begin_anew()

    def _remember(self, rows: list[tuple[str, str]]) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):
            connection = self._open()
            if connection is not None and rows:
                with connection:  # or nothing of it
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)

    def _open(self) -> sqlite3.Connection | None:
        if self._connection is None and self._memory is not None:
            if not is_plain_database(self._memory):
                self._begin_anew()
            connection = connect(
                self._memory, timeout=30, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, connection.close)  # by whichever thread drops it
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA synchronous = OFF")  # what is lost is digested again
            connection.execute(_TABLE.replace("TABLE", "TABLE IF NOT EXISTS", 1))
            self._connection = connection
            schema = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
            if [sql for (sql,) in connection.execute(schema)] != [_TABLE]:
                self._begin_anew()  # a view or trigger of somebody else would run on each look-up
                if self._memory.exists():
                    self._memory = None
                return self._open()
        return self._connection

    def _begin_anew(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        if self._memory is not None:
            for ending in ("", *_BESIDE):
                with contextlib.suppress(OSError):
                    delete(self._memory.with_name(self._memory.name + ending))


def is_plain_database(path: Path) -> bool:
    """Say whether SQLite may be given a file: it is absent, or a regular file with its own journal.

    A journal that names another one is of a transaction over several databases, which nobody makes
    here; SQLite would look for that other file, and may delete it.
    """
    for ending in ("", *_BESIDE):
        beside = path.with_name(path.name + ending)
        try:
            if not stat.S_ISREG(beside.lstat().st_mode):
                return False
            with beside.open("rb") as handle:
                handle.seek(-min(8, beside.stat().st_size), os.SEEK_END)
                if ending and handle.read() == _NAMES_ANOTHER:
                    return False
        except FileNotFoundError:
            continue
    return True


def folder_content(
    folder: Path, digests: FileDigests, skip: Callable[[str], bool] = never
) -> list[list[str]]:
    """Return [name, SHA-256] of every file below a folder, as `walk` finds them.

    Raises:
        InputError: A link leads nowhere, or a file or folder cannot be read.
    """
    found = list(walk_with_circles(folder, skip))
    try:
        hashes = iter(digests.of_all(path for _, path, circle in found if not circle))
    except OSError as error:
        raise InputError(
            error.filename or folder, "", f"cannot be read ({error.strerror})"
        ) from None
    # What a link back shows depends on which folder it leads to.
    return [
        [name_text(name), f"folder {circle}" if circle else next(hashes)]
        for name, _, circle in found
    ]


# --- folders that are written once ------------------------------------------------------------


def folder_digests(path: Path) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of a file, or of every file below a folder, hidden ones left out."""
    if path.is_file():
        return {path.name: _facts(path)}
    return {name: _facts(inside) for name, inside in walk(path, is_hidden)}


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def write_once(
    out: Path,
    card_name: str,
    origin: Mapping[str, Any],
    write: Callable[[Path], Mapping[str, Any]],
) -> tuple[dict[str, Any], bool]:
    """Write a folder, or find that it was written from the same origin before.

    Args:
        out: The folder; absent, empty, or one that this function wrote from the same origin.
        card_name: Name of the card in it, JSON.
        origin: What decides the content.
        write: Fills a folder that will be renamed to `out`, and returns facts for the card.

    Returns:
        The card, and whether the folder was written now.

    Raises:
        InputError: The folder holds something else, or what was written there has changed.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "", "is no folder", "name a new folder")
    if out.is_dir() and any(out.iterdir()):
        return _written_before(out, card_name, origin), False
    with atomic_folder(out) as temporary:
        facts = write(temporary)
        card = {
            "written_by": f"sca_bench {__version__}",
            "origin": dict(origin),
            **facts,
            "files": folder_digests(temporary),
        }
        write_atomic(temporary / card_name, json.dumps(card, indent=1) + "\n")
    return card, True


def _written_before(out: Path, card_name: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    fix = "name a new folder, or delete this one"
    try:
        card: dict[str, Any] = json.loads((out / card_name).read_text(encoding="utf-8"))
        known, files = card["origin"], card["files"]
    except FileNotFoundError:
        raise InputError(
            out, "", f"is not empty, and not ours: no {card_name} in it", fix
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(out / card_name, "", f"is damaged ({error})", fix) from error
    if known != dict(origin):
        raise InputError(out, "", "was written from something else", fix)
    here = folder_digests(out)
    for name, facts in files.items():
        if here.get(name) != facts:
            problem = "has changed since it was written" if name in here else "is missing"
            raise InputError(out / name, "", problem, fix)
    return card
