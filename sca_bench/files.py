"""Files and folders that are there whole or not at all; how they are named and read.

Everything that belongs to a run is written through this module: under a temporary name in the same
folder, flushed to the disk, renamed, and the folder flushed after it. A reader, a killed process
and a power cut find the old content or the new one, never a part. The mode of a file is the one
that the umask gives. Nobody else opens for writing, renames, deletes or locks: each operation is a
function here, so that a test can let any of them fail. No torch here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import io
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sca_bench.errors import InputError

_CANNOT_FLUSH_A_FOLDER = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that know no flush of a folder."""
_BUFFER_BYTES = 1 << 17

# --- operations -------------------------------------------------------------------------------


def before_operation(what: str, path: Path) -> None:
    """Called before every operation on a file or folder that may fail; it does nothing.

    Tests put a function in its place that raises: whatever is below must then come out right.

    Args:
        what: `open`, `write`, `flush`, `rename`, `delete`, `make folder`, `touch`, `mode`, `link`,
            `lock`, `list` or `connect`.
        path: What it is done to.
    """


def _open_itself(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, and nothing that a link of its name leads to; such a link is an `ELOOP`."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


class _Written(io.FileIO):
    """A file that is written to."""

    def __init__(self, path: Path, mode: str) -> None:
        before_operation("open", path)
        super().__init__(path, mode, opener=_open_itself)
        self._path = path

    def write(self, content: Any, /) -> int:
        before_operation("write", self._path)
        try:
            return super().write(content)
        except OSError as fault:
            fault.filename = str(self._path)
            raise


def open_to_write(path: Path, mode: str = "w") -> IO[bytes]:
    """Open a file for writing; it can be read, too.

    Args:
        path: The file; its folder exists.
        mode: `w` for a new or emptied file, `x` for a new one, `a` to write at its end. A link is
            none of these, since what it leads to may be anywhere.

    Raises:
        OSError: It cannot be opened; later, that something cannot be written.
    """
    return io.BufferedRandom(_Written(path, f"{mode}+"), _BUFFER_BYTES)  # type: ignore[return-value]


def append(path: Path, text: str) -> None:
    """Write text at the end of a file, which is made where there is none.

    Raises:
        OSError: It cannot be written; a part of the text may be.
    """
    with open_to_write(path, "a") as handle:
        handle.write(text.encode())


def make_folder(path: Path) -> None:
    """Make a folder, and those above it; one that is there already is fine.

    Raises:
        OSError: It cannot be made.
    """
    if not path.is_dir():
        before_operation("make folder", path)
        path.mkdir(parents=True, exist_ok=True)


def delete(path: Path) -> None:
    """Delete a file, if there is one.

    Raises:
        OSError: It cannot be deleted.
    """
    before_operation("delete", path)
    path.unlink(missing_ok=True)


def delete_folder(path: Path) -> None:
    """Delete a folder with all that is in it, as far as that can be deleted."""
    with contextlib.suppress(OSError):
        if not path.exists():
            return
        before_operation("delete", path)
        shutil.rmtree(path, ignore_errors=True)


def rename(path: Path, to: Path) -> None:
    """Give a file or an empty name's folder another name; a file of that name is replaced.

    Raises:
        OSError: It cannot be renamed.
    """
    before_operation("rename", path)
    path.replace(to)


def touch(path: Path) -> None:
    """Make an empty file, or set the time of one that is there.

    Raises:
        OSError: It cannot be made.
    """
    before_operation("touch", path)
    handle = _open_itself(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.utime(handle)
    finally:
        os.close(handle)


def link(path: Path, to: Path) -> None:
    """Make a symbolic link.

    Raises:
        OSError: It cannot be made.
    """
    before_operation("link", path)
    path.symlink_to(to)


def flush(path: Path) -> None:
    """Have the disk take what was written to a file, or what a folder says is in it.

    Raises:
        OSError: The disk does not take it.
    """
    before_operation("flush", path)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in _CANNOT_FLUSH_A_FOLDER or not path.is_dir():
            raise
    finally:
        os.close(handle)


def take_lock(path: Path, *, shared: bool = False, wait: bool = True) -> int:
    """Make a lock file where there is none, take its lock, and return the open file.

    Closing it (`os.close`), or the end of the process, gives the lock back.

    Args:
        path: The lock file; its folder exists.
        shared: Whether others may hold it, too, who share it.
        wait: Wait until nobody else holds it.

    Raises:
        BlockingIOError: Somebody holds it, and nobody waits.
        OSError: The file cannot be opened or locked.
    """
    before_operation("lock", path)
    handle = _open_itself(path, os.O_CREAT | os.O_RDWR)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(handle)
        fault.filename = fault.filename or str(path)
        raise
    return handle


def connect(database: Path, **how: Any) -> sqlite3.Connection:
    """Open a data base of ours, which is made where there is none; arguments as SQLite's.

    Raises:
        OSError, sqlite3.Error: It cannot be opened.
    """
    make_folder(database.parent)
    before_operation("connect", database)
    connection: sqlite3.Connection = sqlite3.connect(database, **how)
    return connection


def listed(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name; nothing where there is none.

    Raises:
        OSError: It may not be looked into, which a pattern would pass over without a word.
    """
    before_operation("list", folder)
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


# --- whole files and folders ------------------------------------------------------------------


def write_atomic(path: Path, content: str | bytes, *, lasting: bool = True) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Text is written as UTF-8; folders above the file are made.

    Args:
        path: The file.
        content: All that is in it.
        lasting: As for `atomic_file`.

    Raises:
        OSError: It cannot be written; the old content is still there.
    """
    with atomic_file(path, lasting=lasting) as handle:
        handle.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, lasting: bool = True) -> Iterator[IO[bytes]]:
    """Give a handle to write a file with; the file gets its name when the block ends well.

    For content that is written piece by piece. The handle can be read, too, so that a writer may
    look at what it wrote. Where the block raises, nothing is left behind.

    Args:
        path: The file.
        lasting: Whether it has to outlive a power cut. The disk is not waited for where not.

    Raises:
        OSError: It cannot be written, on a full disk for instance.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with open_to_write(temporary) as handle:
            yield handle
        if lasting:
            publish(temporary, path)
        else:
            rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            delete(temporary)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the name that somebody knows
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
    delete_folder(temporary)
    make_folder(temporary)
    try:
        yield temporary
        mode = _usual_mode(temporary)
        for part in sorted(temporary.rglob("*"), reverse=True):  # a folder after what it holds
            if part.is_file() and part.stat().st_mode & 0o777 != mode:
                before_operation("mode", part)
                part.chmod(mode)  # safetensors writes 0600 whatever the umask
            flush(part)
        publish(temporary, path)
    finally:
        delete_folder(temporary)


@contextlib.contextmanager
def replaced_files(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; its files then replace those of the same names in another one.

    For files that belong together: where the block raises, the older ones are all still there, and
    no empty folder is left that was not there before.

    Raises:
        OSError: They cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    for left in folder.glob(".new.*.tmp"):
        if not _is_at_work(left):
            delete_folder(left)
    temporary = _temporary(folder / "new")
    make_folder(temporary)
    try:
        yield temporary
        for part in listed(temporary):
            flush(part)
        for part in listed(temporary):
            rename(part, folder / part.name)
        flush(folder)
    finally:
        delete_folder(temporary)
        _delete_empty(made)


def _delete_empty(folders: Sequence[Path]) -> None:
    """Delete folders, the innermost first, up to one in which something lies."""
    with contextlib.suppress(OSError):
        for folder in folders:
            if next(folder.iterdir(), None) is not None:
                return
            folder.rmdir()


def publish(finished: Path, path: Path) -> None:
    """Give a finished file or folder its name: flush it, rename it, flush the folder it is in."""
    flush(finished)
    rename(finished, path)
    flush(path.parent)


def drop_unfinished(folder: Path, *, others_write: bool = False) -> None:
    """Delete what killed writers left in a folder.

    Args:
        folder: The folder.
        others_write: Whether another process may write there now: what may be its own stays.

    Raises:
        OSError: Something cannot be deleted.
    """
    for path in folder.glob(".*.tmp"):
        if path.is_file() and not (others_write and _is_at_work(path)):
            delete(path)


def drop_unfinished_of(path: Path) -> None:
    """Delete what killed writers of one file left beside it; nothing else in its folder.

    Raises:
        OSError: Something cannot be deleted.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if left.is_file() and not _is_at_work(left):
            delete(left)


def _usual_mode(folder: Path) -> int:
    """Return the mode that the umask gives to a new file."""
    probe = folder / ".mode"
    touch(probe)
    mode = probe.stat().st_mode & 0o777
    delete(probe)
    return mode


def _is_at_work(temporary: Path) -> bool:
    """Say whether the process that a temporary name names is there; never of this one's own."""
    number = temporary.name.split(".")[-2]
    if not number.isdigit() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except OSError:
        pass  # somebody else's
    return True


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
    steps = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if steps and os.pardir not in steps:
        above = (root.joinpath(*steps[:count]) for count in range(1, len(steps) + 1))
        if not any(part.is_symlink() for part in above):
            return path
        real, home = os.path.realpath(path), os.path.realpath(root).rstrip(os.sep)
        if (
            real.startswith(home + os.sep) and not Path(real).is_symlink()
        ):  # else it leads to itself
            return path
    problem = f"leads out of {root} by a link, so it is neither read nor written"
    raise InputError(path, "", problem, "put what it leads to in its place, or delete it")


def file_name(image_id: str) -> str:
    """Return a name for a file about an image, whatever its id holds."""
    content = image_id.encode("utf-8", "surrogatepass")
    if re.fullmatch(r"\w[\w.-]*", image_id) and len(content) <= _LONGEST_NAME:
        return image_id
    return "id-" + hashlib.sha256(content).hexdigest()[:16]


def name_text(name: str | os.PathLike[str]) -> str:
    """Return a file's name as text that can be stored: bytes that are no UTF-8 with a backslash."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
