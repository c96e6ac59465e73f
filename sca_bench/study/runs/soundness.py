"""Is a file of trained weights, or a checkpoint, what was once written? Told by the file itself.

Both kinds carry a SHA-256 of their content and the run they belong to (`<cell id>/seed-<n>`):

- `trainable.safetensors`: the keys `sca_bench.sha256` and `sca_bench.run` of the header's
  `__metadata__`. The digest covers the run, the description of every tensor and all data bytes.
- `checkpoint-<step>.pt`: the comment of the zip file that `torch.save` writes, which any reader of
  torch or zip files skips. The digest covers the run and every byte before the comment.

Files of older runs have neither; they count as sound as long as their own format says nothing else
and they load. Only what was read completely can be damaged: an error of the disk, of permissions or
of memory is raised as it is and says nothing of the content. No torch here.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

from sca_bench.errors import InputError
from sca_bench.files import flush, rename
from sca_bench.reading import open_regular

_SHA256, _RUN = "sca_bench.sha256", "sca_bench.run"
_LONGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself takes at most."""
_BLOCK = 1 << 20
_COMMENT = re.compile(rb"sca_bench sha256=([0-9a-f]{64}) run=([^\n]+)\Z")
_LONGEST_COMMENT = 0xFFFF


class Damaged(Exception):
    """A file was read completely and is not what was written; the message says why."""


def run_name(run_dir: Path) -> str:
    """Return what the files of a run call it: the names of its cell's folder and of its own."""
    return f"{run_dir.parent.name}/{run_dir.name}"


def _opened(path: Path) -> io.BufferedReader:
    """Open a file of a run; a folder, or a named pipe, is nothing that was written there."""
    try:
        return open_regular(path)
    except InputError as fault:
        raise Damaged(f"it {fault.problem}") from None


# --- trained weights --------------------------------------------------------------------------


def seal_weights(content: bytes, run: str) -> tuple[bytes, memoryview]:
    """Return header and data of a safetensors file that says what it holds and whose it is.

    Args:
        content: The file as safetensors serialises it.
        run: Name of the run.
    """
    length = struct.unpack("<Q", content[:8])[0]
    entries: dict[str, Any] = json.loads(content[8 : 8 + length])
    entries.pop("__metadata__", None)
    data = memoryview(content)[8 + length :]
    digest = _weights_digest(entries, run)
    digest.update(data)
    text = json.dumps({"__metadata__": {_SHA256: digest.hexdigest(), _RUN: run}, **entries})
    header = text.encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header, data


def check_weights(path: Path, run: str = "", *, thorough: bool = True) -> bool:
    """Check a file of trained weights.

    Args:
        path: The file.
        run: The run it should belong to; any where empty.
        thorough: Read the data, too, and compare their digest; else only the header is read, which
            tells a torn file and one of another run.

    Returns:
        Whether the file holds a digest; one of an older run does not.

    Raises:
        Damaged: It is torn, was changed, or belongs to another run.
        OSError: It cannot be read, for whatever other reason.
    """
    with _opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        entries = _header(handle, size)
        metadata = entries.pop("__metadata__", {})
        _check_size(entries, size - handle.tell())
        known = {key: metadata.get(key, "") for key in (_SHA256, _RUN)}
        if not any(known.values()):
            return False
        if not all(known.values()):
            raise Damaged("its header is damaged")
        if run and known[_RUN] != run:
            raise Damaged(f"it holds the weights of {known[_RUN]}, not of {run}")
        if thorough:
            digest = _weights_digest(entries, known[_RUN])
            while block := handle.read(_BLOCK):
                digest.update(block)
            if digest.hexdigest() != known[_SHA256]:
                raise Damaged("its content does not fit its checksum")
    return True


def _header(handle: IO[bytes], size: int) -> dict[str, Any]:
    first = handle.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
    if length > min(size - 8, _LONGEST_HEADER):
        raise Damaged("it is torn")
    try:
        entries: dict[str, Any] = json.loads(handle.read(length))
        metadata = entries.get("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise Damaged("its header is damaged")
    except (ValueError, AttributeError, RecursionError) as error:
        raise Damaged("its header is damaged") from error
    return entries


def _check_size(entries: dict[str, Any], num_bytes: int) -> None:
    """Compare the bytes of data with what the header says of them."""
    try:
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise Damaged("its header is damaged") from error
    if end != num_bytes:
        raise Damaged(f"it is torn: {num_bytes:,} of {end:,} bytes of data")


def _weights_digest(entries: dict[str, Any], run: str) -> Any:
    text = json.dumps([run, entries], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode())


# --- checkpoints ------------------------------------------------------------------------------


def seal_checkpoint(handle: IO[bytes], run: str) -> None:
    """Add digest and run to a checkpoint that `torch.save` has just written.

    Args:
        handle: The file, open for reading and writing.
        run: Name of the run.
    """
    size = len(_comment(b"0" * 64, run))
    handle.seek(-2, os.SEEK_END)  # a zip file ends with the length of its comment, which is 0
    handle.write(struct.pack("<H", size))
    handle.seek(0)
    digest = hashlib.sha256(run.encode())
    while block := handle.read(_BLOCK):
        digest.update(block)
    handle.write(_comment(digest.hexdigest().encode(), run))


def check_checkpoint(path: Path, run: str = "") -> bool:
    """Read all of a checkpoint and check it.

    Args:
        path: The file.
        run: The run it should belong to; any where empty.

    Returns:
        Whether the file holds a digest; one of an older run does not, and is checked by the CRCs
        of the zip format.

    Raises:
        Damaged: It is torn, was changed, or belongs to another run.
        OSError: It cannot be read, for whatever other reason.
    """
    with _opened(path) as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - _LONGEST_COMMENT))
        said = _COMMENT.search(handle.read())
        handle.seek(0)
        if said is None:
            _check_zip(handle.read())
            return False
        owner, left = said[2].decode(errors="replace"), size - len(said[0])
        digest = hashlib.sha256(said[2])
        while left and (block := handle.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
        if digest.hexdigest().encode() != said[1]:
            raise Damaged("its content does not fit its checksum")
        if run and owner != run:
            raise Damaged(f"it is a checkpoint of {owner}, not of {run}")
    return True


def _check_zip(content: bytes) -> None:
    if content[-22:-18] != b"PK\5\6" or content[-2:] != b"\0\0":  # a zip's end, and no comment
        raise Damaged("it is torn, or no checkpoint")
    # In memory: of a file, zipfile would call an error of the disk a damaged zip.
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            damaged = opened.testzip()
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises of many kinds on what is no zip file
        raise Damaged(f"it is torn, or no checkpoint ({error})") from error
    if damaged is not None:
        raise Damaged(f"{damaged} in it does not fit its checksum")


def _comment(digest: bytes, run: str) -> bytes:
    return b"sca_bench sha256=" + digest + b" run=" + run.encode()


# --- what becomes of a file that cannot be used -----------------------------------------------


def set_aside(path: Path) -> Path:
    """Give a damaged file a name under which nothing reads it (`NAME.damaged`); return that."""
    aside = path.with_name(f"{path.name}.damaged")
    rename(path, aside)
    flush(path.parent)
    return aside


def is_set_aside(path: Path) -> bool:
    """Say whether a damaged file was set aside and nothing has taken its place yet."""
    return not path.exists() and path.with_name(f"{path.name}.damaged").exists()


def unusable(path: Path, error: BaseException) -> str:
    """Return in one line why a run cannot use a file; set the file aside if it is damaged."""
    if isinstance(error, Damaged):
        return f"{path}: damaged: {error}; set aside as {set_aside(path).name}, run again"
    reason = str(error).splitlines()[0] if str(error) else "no reason given"
    if isinstance(error, OSError) and error.errno is not None:
        reason = f"{errno.errorcode.get(error.errno, error.errno)}, {error.strerror}"
    kept = "nothing was deleted, run again once that is put right"
    return f"{path}: cannot be read ({type(error).__name__}: {reason}); {kept}"
