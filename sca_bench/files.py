"""Files and folders that are there whole or not at all; how they are named, digested and read.

Everything that belongs to a run is written through this module: under a temporary name in the same
folder, flushed to the disk, renamed, and the folder flushed after it. A reader, a killed process
and a power cut find the old content or the new one, never a part. The mode of a file is the one
that the umask gives. No torch here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from sca_bench import __version__
from sca_bench.errors import InputError
from sca_bench.walk import is_hidden, never, walk, walk_with_circles

_CANNOT_FLUSH_A_FOLDER = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that know no flush of a folder."""
_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000
"""Two changes that are so far apart have two times: on file systems of today, and on old ones."""
_AT_ONCE, _READERS = 500, 8
"""Files that are looked up, or digested, before that is remembered; and threads that read them."""
DIGESTS = "fingerprints.sqlite"
"""Where a runs folder remembers the digests of all that its runs read."""
_MUCH_BYTES = 2 * 2**30
"""Digesting more than this takes so long that a line says so."""
_LOG = logging.getLogger(__name__)

# --- writing ----------------------------------------------------------------------------------


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Text is written as UTF-8; folders above the file are made.
    """
    with atomic_file(path) as handle:
        handle.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a handle to write a file with; the file gets its name when the block ends well.

    For content that is written piece by piece. The handle can be read, too, so that a writer may
    look at what it wrote. Where the block raises, nothing is left behind.

    Raises:
        OSError: It cannot be written, on a full disk for instance.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("w+b") as handle:
            yield handle
        publish(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it gets its name, with all that is in it, at the end.

    Where the block raises, nothing is left behind.

    Raises:
        OSError: It cannot be written; or, with `EEXIST` or `ENOTEMPTY`, there is a folder of that
            name by now that is not empty. That one is left alone.
    """
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        mode = _usual_mode(temporary)
        for inside in sorted(temporary.rglob("*"), reverse=True):  # a folder after what it holds
            if inside.is_file() and inside.stat().st_mode & 0o777 != mode:
                inside.chmod(mode)  # safetensors writes 0600 whatever the umask
            flush(inside)
        publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(finished: Path, path: Path) -> None:
    """Give a finished file or folder its name: flush it, rename it, flush the folder it is in."""
    flush(finished)
    finished.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Have the disk take what was written to a file, or what a folder says is in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in _CANNOT_FLUSH_A_FOLDER or not path.is_dir():
            raise
    finally:
        os.close(handle)


def drop_unfinished(folder: Path) -> None:
    """Delete what killed writers left in a folder; call it only while nobody writes there."""
    for path in folder.glob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _usual_mode(folder: Path) -> int:
    """Return the mode that the umask gives to a new file."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    return mode


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


# --- names and content ------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_LONGEST_NAME = 200
"""File systems take 255 bytes; the rest is for endings and temporary names."""


def path_name(name: object, where: object = None, key: str = "") -> str:
    """Return a name that stands in a path as it is; refuse what could lead anywhere else.

    What a suite, a record or a cache is called becomes a file or a folder. Whoever makes a path of
    such a name passes it through here; names that are only shown may be of any letters.

    Args:
        name: The name, as it was read.
        where: The file that says it; None where `errors.at` tells.
        key: The field that it stands in.

    Raises:
        InputError: It is no text, empty, hidden, too long, or has other characters than ASCII
            letters, digits, `.`, `_` and `-`.
    """
    if isinstance(name, str) and len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
        return name
    shown = repr(name[:60]) if isinstance(name, str) else f"a {type(name).__name__}"
    problem = f"{shown} cannot be the name of a file or a folder"
    fix = f"use letters, digits, '_', '-' and '.', at most {_LONGEST_NAME}, the first no '-' or '.'"
    raise InputError(where, key, problem, fix)


def inside(root: Path, path: Path) -> Path:
    """Return a path below a folder; refuse one that a link leads out of that folder.

    The folder itself may be a link, and so may whatever lies above it.

    Args:
        root: The folder.
        path: What is to be read or written; it need not exist.

    Raises:
        InputError: It is not below the folder, or it, or a folder above it, is a link to elsewhere.
    """
    home, real = os.path.realpath(root), os.path.realpath(path)
    if real.startswith(home.rstrip(os.sep) + os.sep):
        return path
    problem = f"leads out of {root} by a link, so it is neither read nor written"
    raise InputError(path, "", problem, "put what it leads to in its place, or delete it")


def file_name(image_id: str) -> str:
    """Return a name for a file about an image, whatever its id holds."""
    if re.fullmatch(r"\w[\w.-]*", image_id):
        return image_id
    return "id-" + hashlib.sha256(image_id.encode()).hexdigest()[:16]


def name_text(name: str | os.PathLike[str]) -> str:
    """Return a file's name as text that can be stored: bytes that are no UTF-8 with a backslash."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a torn last line (a killed writer) is left out.

    Raises:
        InputError: A line other than the last is not JSON.
    """
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number >= len(lines) - 1 and not path.read_text(encoding="utf-8").endswith("\n"):
                break
            raise InputError(path, f"line {number}", f"not JSON ({error.msg})") from error
    return rows


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as handle:
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
                self._known.update(
                    (str(memo), str(d)) for memo, d in connection.execute(query, part)
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
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._memory, timeout=30, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)  # by whichever thread drops it
            self._connection.execute("PRAGMA synchronous = OFF")  # what is lost is digested again
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS files (memo TEXT PRIMARY KEY, digest TEXT)"
            )
        return self._connection

    def _begin_anew(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        if self._memory is not None:
            with contextlib.suppress(OSError):
                self._memory.unlink()


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
