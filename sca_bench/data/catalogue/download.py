"""Downloads that go on where they stopped, and archives that unpack inside their folder only."""

from __future__ import annotations

import http.client
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sca_bench.errors import InputError
from sca_bench.files import (
    delete,
    delete_folder,
    make_folder,
    open_to_write,
    publish,
    rename,
    write_atomic,
)

_BLOCK = 1 << 20
_TIMEOUT_S = 60
_TRIES = 3

Say = Callable[[str], None]


def partial_path(target: Path) -> Path:
    """Return where the part of a file lies that is here already."""
    return target.with_name(f"{target.name}.part")


def download(url: str, target: Path, say: Say) -> None:
    """Fetch a file; what an earlier try left (`NAME.part`) is kept and completed.

    The server is asked for the rest of the same file only (`If-Range`); where it cannot tell, or
    the file has changed, the download begins anew. The file gets its name when it is complete.

    Args:
        url: http or https.
        target: Where it goes.
        say: Takes lines for the user.

    Raises:
        InputError: The server cannot be reached or refuses, or cut the file off every time.
    """
    make_folder(target.parent)
    for attempt in range(_TRIES):
        before = _size(partial_path(target))
        try:
            complete = _once(url, target, say)
        except urllib.error.HTTPError as fault:
            fault.close()
            raise _unreachable(url, target, f"{fault.code} {fault.reason}") from None
        except (OSError, http.client.HTTPException) as fault:
            reason = getattr(fault, "reason", fault) or type(fault).__name__
            gained = _size(partial_path(target)) > before
            if not gained or attempt == _TRIES - 1:
                raise _unreachable(url, target, str(reason)) from None
            continue
        if complete:
            return
    here = _size(partial_path(target))
    problem = f"the download was cut off {_TRIES} times; {here} bytes are here"
    raise InputError(url, "", problem, "run the same command again to go on")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into a folder, all of it or nothing.

    Raises:
        InputError: It is damaged, or a member would lie outside the folder.
    """
    temporary = folder / f".{archive.name}.unpacking"
    delete_folder(temporary)
    make_folder(temporary)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise InputError(archive, name, "would be unpacked outside the folder")
                opened.extractall(temporary)
        else:
            with tarfile.open(archive) as opened_tar:
                opened_tar.extractall(temporary, filter="data")
        _move_into(temporary, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as fault:
        fix = "delete it and run the same command again"
        raise InputError(archive, "", f"cannot be unpacked: {fault}", fix) from None
    finally:
        delete_folder(temporary)


def _once(url: str, target: Path, say: Say) -> bool:
    """Make one request; say whether the file is complete now."""
    part, known = partial_path(target), target.with_name(f"{target.name}.part.etag")
    have = _size(part)
    validator = known.read_text(encoding="utf-8") if known.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "sca-bench"})
    if have and validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        total = _total(answer, have if resumed else 0)
        say(f"{url}: {'going on after' if resumed else 'fetching,'} {_mib(have, total, resumed)}")
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        write_atomic(known, "" if version.startswith("W/") else version)
        with open_to_write(part, "a" if resumed else "w") as handle:
            while block := answer.read(_BLOCK):
                handle.write(block)
    if total is not None and _size(part) != total:
        return False
    publish(part, target)
    delete(known)
    return True


def _total(answer: http.client.HTTPResponse, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return have + int(length) if length is not None else None


def _mib(have: int, total: int | None, resumed: bool) -> str:
    whole = "of unknown size" if total is None else f"{total / 2**20:.1f} MiB"
    return f"{have / 2**20:.1f} of {whole}" if resumed else whole


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unreachable(url: str, target: Path, reason: str) -> InputError:
    fix = f"check the network and run the same command again, or fetch it by hand to {target}"
    return InputError(url, "", f"cannot be fetched: {reason}", fix)


def _move_into(source: Path, folder: Path) -> None:
    """Move everything below `source` to `folder`; folders that are there already are completed."""
    for path in sorted(source.iterdir()):
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _move_into(path, target)
        else:
            rename(path, target)
