"""Files of others, read as data: only regular files, of a size and form that a reader can take.

Nothing here waits or takes memory without end: a named pipe, a device, a socket and a folder are
refused before they are opened, and a file that is larger than its kind can be before it is read.
What is no text or no JSON is one `InputError` with the file, the line and what to do. A file that
is not there, or that may not be read, stays an `OSError`, since a missing file often means
something. No torch here.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from sca_bench.errors import InputError
from sca_bench.output import one_line

_MIB, _GIB = 2**20, 2**30
SUITE_BYTES = 1 * _MIB
"""A suite, a sweep, a profile: what somebody writes by hand."""
RECORD_BYTES = 64 * _MIB
"""A record, a card, a manifest, settings, a tokenizer: what a program writes about one thing."""
ROWS_BYTES = 8 * _GIB
"""Predictions, detections, tables of regions: a line or row for each region."""
ANNOTATION_BYTES = 16 * _GIB
"""Annotations of a whole data set in one file; the largest of those published hold 7 GB."""

MOST_LEVELS = 100
"""How deep JSON of up to 1 MiB may be nested. Larger is parsed to what Python's parser takes (about
1,000 levels), since looking through all of it again would cost time; its readers know where they
look."""
_LOOKED_THROUGH = 1 * _MIB
_MOST_SHOWN = 60
"""Characters of a value that an error shows."""
_SHOWN_BITS = 14_000
"""Python writes no longer numbers out."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NUMBER = re.compile(r"-?\d+")
_LONE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_OWN_IDS = ("region_id", "id", "ref_id", "sent_id", "image_id")

Part = str | int
_Way: TypeAlias = "tuple[_Way, Part] | None"
"""The way to a value, from its end: copied nowhere, however deep a pickle is."""


# --- bytes and text ---------------------------------------------------------------------------


def open_regular(
    path: str | os.PathLike[str], key: str = "", *, pipe: bool = False
) -> io.BufferedReader:
    """Open a file to read its bytes, if it is one; never waits for somebody to write to it.

    Args:
        path: The file; a link to one is one.
        key: What names it, such as a setting, for errors.
        pipe: Whether it may be a pipe, which is waited for: one that a shell has opened.

    Raises:
        InputError: It is a folder, a named pipe, a socket or a device, or the name can be none.
        OSError: There is no such file, or it cannot be read.
    """
    try:
        _check_regular(path, Path(path).stat().st_mode, key, pipe)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except ValueError:  # a NUL, or half of a surrogate pair
        raise InputError(ascii(str(path))[1:-1], key, "is no file name") from None
    try:
        _check_regular(path, os.fstat(handle).st_mode, key, pipe)
        os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_regular(path: str | os.PathLike[str], mode: int, key: str, pipe: bool) -> None:
    if not stat.S_ISREG(mode) and not (pipe and stat.S_ISFIFO(mode)):
        kind = next((kind for test, kind in _KINDS if test(mode)), "something else")
        raise InputError(path, key, f"is no regular file ({kind})", "name a file")


def read_bytes(
    path: str | os.PathLike[str], limit: int, key: str = "", *, pipe: bool = False
) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        limit: The most bytes that it may hold, such as `RECORD_BYTES`.
        key: What names it, such as a setting, for errors.
        pipe: As in `open_regular`.

    Raises:
        InputError: It is no regular file, or larger than that.
        OSError: There is no such file, or it cannot be read.
    """
    with open_regular(path, key, pipe=pipe) as handle:
        size = os.fstat(handle.fileno()).st_size
        _check_size(path, size, limit, key)
        try:
            content = handle.read(size + 1)
            while len(content) > size:  # it grew, or says nothing of its size
                _check_size(path, len(content), limit, key)
                size = len(content)
                content += handle.read(_MIB)
        except MemoryError:
            raise _no_memory(path, key, size) from None
    return content


@contextlib.contextmanager
def named_file(path: object, key: str = "", fix: str = "") -> Iterator[None]:
    """Give the error of a file that somebody named and that is not there, or cannot be read.

    Args:
        path: The file that is read inside.
        key: What names it, such as a setting.
        fix: What to do where it is not there.

    Raises:
        InputError: Reading raised an `OSError`.
    """
    try:
        yield
    except FileNotFoundError:
        fix = fix or (f"give the right path in {key}" if key else "")
        raise InputError(path, key, "no such file", fix) from None
    except OSError as fault:
        raise InputError(path, key, f"cannot be read ({fault.strerror})", fix) from None


def _check_size(path: str | os.PathLike[str], size: int, limit: int, key: str) -> None:
    if size > limit:
        problem = f"holds {bytes_text(size)}; a file of its kind may hold {bytes_text(limit)}"
        raise InputError(path, key, problem, "name the right file, or split it")


def _no_memory(path: str | os.PathLike[str], key: str, size: int) -> InputError:
    problem = f"holds {bytes_text(size)}, more than fits into the memory that is left"
    return InputError(path, key, problem, "split it, or give more memory")


def bytes_text(count: int) -> str:
    """Return a number of bytes for people, such as `1.5 GiB`."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count} bytes"


def read_text(path: str | os.PathLike[str], limit: int, key: str = "") -> str:
    """Read a file of UTF-8 text, with or without a byte-order mark; line ends stay as they are.

    Raises:
        InputError: As `read_bytes`, or it is no UTF-8; with the line.
        OSError: There is no such file, or it cannot be read.
    """
    return decode(read_bytes(path, limit, key), path)


def decode(content: bytes, path: object, encoding: str = "utf-8-sig", first_line: int = 1) -> str:
    """Return bytes as text.

    Args:
        content: The bytes.
        path: The file that they stand in, for errors.
        encoding: How they are written.
        first_line: The line that they begin in.

    Raises:
        InputError: They are no such text; with the line.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as fault:
        name = encoding.removesuffix("-sig").upper()
        # An encoding with a mark says where the fault is in what follows the mark.
        start = fault.start + (len(content) - len(fault.object))
        line = first_line + content.count(b"\n", 0, start)
        problem = f"byte 0x{fault.object[fault.start]:02X} is not {name}"
        raise InputError(path, f"line {line}", problem, "save the file as UTF-8") from None
    except MemoryError:
        raise _no_memory(str(path), "", len(content)) from None


def read_lines(
    path: str | os.PathLike[str], limit: int, key: str = ""
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file of UTF-8 text that are not blank, each with its number from 1.

    Lines end at a line feed only, since U+2028 may stand in a caption. One line at a time is held.

    Raises:
        InputError: As `read_text`.
        OSError: There is no such file, or it cannot be read.
    """
    with open_regular(path, key) as handle:
        _check_size(path, os.fstat(handle.fileno()).st_size, limit, key)
        try:
            for number, line in enumerate(handle, start=1):
                text = decode(line, path, "utf-8-sig" if number == 1 else "utf-8", number)
                if text.strip():
                    yield number, text
        except MemoryError:
            raise _no_memory(path, key, os.fstat(handle.fileno()).st_size) from None


# --- JSON -------------------------------------------------------------------------------------


def read_json(path: str | os.PathLike[str], limit: int, key: str = "", fix: str = "") -> Any:
    """Read a JSON file (UTF-8, or UTF-16 and UTF-32 as the standard allows).

    Args:
        path: The file.
        limit: The most bytes that it may hold, such as `RECORD_BYTES`.
        key: What names it, such as a setting, for errors.
        fix: What to do where it is no JSON.

    Raises:
        InputError: As `read_bytes`, or `parse_json`.
        OSError: There is no such file, or it cannot be read.
    """
    content = read_bytes(path, limit, key)
    text = decode(content, path, json.detect_encoding(content))
    del content  # the values take several times as much
    return parse_json(text, path, fix=fix)


def parse_json(
    text: str | bytes,
    path: object,
    where: str = "",
    *,
    unique_keys: bool = False,
    fix: str = "",
) -> Any:
    """Return what JSON says.

    `NaN`, `Infinity` and numbers such as `1e400` become floats that are not finite: a reader that
    uses one checks it.

    Args:
        text: The JSON.
        path: The file that it stands in, for errors.
        where: The place in it, such as `line 7`; a fault's own line is named where it is empty.
        unique_keys: Whether a key that stands twice in one object is refused, too.
        fix: What to do where it is no JSON.

    Raises:
        InputError: It is no JSON, is nested too deeply, or has a number of more digits than Python
            reads or a text that is not Unicode; with the line or column, or the way to it.
    """
    if isinstance(text, bytes):
        text = decode(text, path, json.detect_encoding(text))
    hook = _unique(path, where) if unique_keys else None
    try:
        content = json.loads(text, object_pairs_hook=hook)
        if len(text) <= _LOOKED_THROUGH:
            _check_levels(content, text)
    except json.JSONDecodeError as fault:
        column = f"column {fault.colno}"
        key = where or f"line {fault.lineno} {column}"
        problem = f"is not JSON: {fault.msg}" + (f" ({column})" if where else "")
        raise InputError(path, key, problem, fix or "it is damaged or was cut off") from None
    except RecursionError:
        problem = f"is nested more than {MOST_LEVELS} levels deep"
        raise InputError(path, where, problem, "no reader goes so deep") from None
    except ValueError as fault:
        raise InputError(path, *_long_number(text, where, fault)) from None
    except MemoryError:
        raise _no_memory(str(path), where, len(text)) from None
    # Only escapes can write half a character, so a text without such escapes is not looked through.
    if _ESCAPED.search(text) and (half := find_no_text(content)) is not None:
        key = ": ".join(filter(None, (where, key_path(half.at))))
        raise InputError(path, key, half.problem, NO_TEXT_FIX)
    return content


def _check_levels(content: object, text: str) -> None:
    """Raise a `RecursionError` where values are nested too deeply."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return
    inside = [content]
    for _ in range(MOST_LEVELS + 1):
        inside = [value for value in inside if isinstance(value, dict | list)]
        if not inside:
            return
        inside = [
            inner
            for value in inside
            for inner in (value.values() if isinstance(value, dict) else value)  # type: ignore[attr-defined]
        ]
    raise RecursionError


def _long_number(text: str, where: str, fault: ValueError) -> tuple[str, str, str]:
    """Return key, problem and fix for a number of more digits than Python reads."""
    found = max(_NUMBER.finditer(text), key=lambda number: len(number[0]), default=None)
    if found is None:
        return where, f"is not JSON: {fault}", ""
    line = text.count("\n", 0, found.start()) + 1
    problem = f"a number of {len(found[0]):,} digits ({found[0][:12]}...)"
    return where or f"line {line}", problem, "no number here has so many"


def _unique(path: object, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            key = ": ".join(filter(None, (where, shown_text(twice))))
            raise InputError(path, key, "stands twice in one object", "keep one of them")
        return found

    return unique


def read_jsonl(path: Path, limit: int = ROWS_BYTES) -> list[dict[str, Any]]:
    """Read a JSON-lines file of objects; a torn last line (a killed writer) is left out.

    Raises:
        InputError: A line other than a torn last one is no JSON object; as `read_text`.
        OSError: There is no such file, or it cannot be read.
    """
    rows: list[dict[str, Any]] = []
    with open_regular(path) as handle:
        _check_size(path, os.fstat(handle.fileno()).st_size, limit, "")
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(decode(line, path, "utf-8", number), path, f"line {number}")
            except InputError:
                if not line.endswith(b"\n"):
                    break
                raise
            if not isinstance(row, dict):
                raise InputError(path, f"line {number}", f"is {shown(row)}, expected an object")
            rows.append(row)
    return rows


# --- texts that are not Unicode ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoText:
    """Half of a surrogate pair in plain values.

    Attributes:
        at: The way to the text (or to the mapping, where it is a key).
        owner: Id of the innermost record around it, such as `id 7`; empty where none has one.
        half: The character, escaped.
    """

    at: tuple[Part, ...]
    owner: str
    half: str

    @property
    def problem(self) -> str:
        """What is wrong, for an error line."""
        owner = f" ({self.owner})" if self.owner else ""
        return f"holds {self.half}, half of a character{owner}"


NO_TEXT_FIX = "write the whole character, or leave it out"


def find_no_text(values: object) -> NoText | None:
    """Return the first text of plain values (mappings, lists, scalars) that is not Unicode."""
    todo: list[tuple[object, _Way, str]] = [(values, None, "")]
    met: set[int] = set()  # a pickle's list may hold itself
    while todo:
        value, way, owner = todo.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) in met:
                continue
            met.add(id(value))
        if isinstance(value, str):
            if not value.isascii() and (found := _LONE.search(value)):
                return NoText(_parts(way), owner, ascii(found[0])[1:-1])
        elif isinstance(value, dict):
            own = next((key for key in _OWN_IDS if isinstance(value.get(key), str | int)), "")
            owner = f"{own} {_short(repr(_beginning(value[own], [1])))}" if own else owner
            keys = [(key, way, owner) for key in value if isinstance(key, str)]
            inner = [(item, (way, _key_of(key)), owner) for key, item in value.items()]
            todo += reversed([*keys, *inner])
        elif isinstance(value, list | tuple):
            todo += reversed([(item, (way, k), owner) for k, item in enumerate(value)])
    return None


def _parts(way: _Way) -> tuple[Part, ...]:
    parts: list[Part] = []
    while way is not None:
        way, part = way
        parts.append(part)
    return tuple(reversed(parts))


def is_number(value: object) -> TypeGuard[int | float]:
    """Say whether a value is a number that a float can hold: no truth value, NaN or infinity."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


# --- values in errors -------------------------------------------------------------------------


def key_path(parts: tuple[Part, ...]) -> str:
    """Write the way to a value as `regions[3].width`."""
    text = ""
    for part in parts:
        name = part if isinstance(part, int) else shown_text(part)
        text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else str(name)
    return text


def shown(value: object) -> str:
    """Return a value as JSON in one line for an error, cut to 60 characters; never fails."""
    try:
        text = json.dumps(_beginning(value, [_MOST_SHOWN]), ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    return _short(text)


def shown_text(text: str) -> str:
    """Return a key or name for an error: control characters escaped, cut to 60 characters."""
    return _short(text[: _MOST_SHOWN + 1])


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _beginning(value: object, left: list[int], levels: int = 10) -> object:
    """Return as much of a value as an error shows, however large, deep or round it is.

    Args:
        value: Plain values.
        left: How many more of them are shown; counted down.
        levels: How deep.
    """
    left[0] -= 1
    if isinstance(value, str):
        return value[: _MOST_SHOWN + 1]
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"a number of {value.bit_length()} bits"
    if not isinstance(value, list | tuple | dict):
        return value
    if left[0] < 0 or not levels:
        return "..."
    if isinstance(value, dict):
        items = itertools.islice(value.items(), _MOST_SHOWN)
        return {
            _key_of(key)[:_MOST_SHOWN]: _beginning(inner, left, levels - 1)
            for key, inner in items
            if left[0] > 0
        }
    return [_beginning(inner, left, levels - 1) for inner in value[:_MOST_SHOWN] if left[0] > 0]


def _key_of(key: object) -> str:
    return key if isinstance(key, str) else shown(key)
