"""Files and folders that are there whole or not at all; how they are named and read.

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
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sca_bench.errors import InputError

_CANNOT_FLUSH_A_FOLDER = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that know no flush of a folder."""

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
