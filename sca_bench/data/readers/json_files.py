"""Reading JSON strictly: whatever is wrong, the user gets the file, the place and what to do."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import islice
from pathlib import Path
from typing import Any

from sca_bench import reading
from sca_bench.errors import InputError
from sca_bench.formats.texts import id_text
from sca_bench.reading import Part, is_number, key_path, named_file, shown, shown_text

_MISSING = object()
_MOST = 2**31 - 1
"""No image has a longer side."""
_BITS = 64
_FETCH = "the file is damaged or its download was cut off; fetch it again"
_SHOWN_KEYS = 12

_KINDS: dict[str, Callable[[Any], bool]] = {
    "an integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "a positive integer": lambda v: (
        isinstance(v, int) and not isinstance(v, bool) and 0 < v <= _MOST
    ),
    "a number": is_number,
    "a string": lambda v: isinstance(v, str),
    "a list": lambda v: isinstance(v, list),
    "an object": lambda v: isinstance(v, dict),
    "an id": lambda v: id_text(v) is not None,
    "0 or 1": lambda v: isinstance(v, int) and v in (0, 1),
}

_AT_ONCE: dict[str, type] = {
    "an integer": int,
    "a number": int,
    "a string": str,
    "a list": list,
    "an object": dict,
}
"""A value of exactly this type is of the kind; spares millions of regions the calls above. A whole
number of hundreds of digits is found by the collector."""


def read_json(path: str | Path, key: str) -> Any:
    """Read one JSON file.

    Args:
        path: The file.
        key: The setting that names it, for the message.

    Raises:
        InputError: No such file, not a regular file, too large, not UTF-8, not (complete) JSON, or
            JSON with a text that is not Unicode.
    """
    with named_file(path, key):
        return reading.read_json(path, reading.ANNOTATION_BYTES, key, _FETCH)


def check(value: Any, kind: str, file: str | Path, *at: Part) -> Any:
    """Return the value if it is of that kind.

    Args:
        value: Anything out of a JSON file.
        kind: One of the kinds of this module, such as "a number" (finite).
        file: The file, for the message.
        *at: The way to the value inside the file.

    Raises:
        InputError: It is of another kind.
    """
    if not _KINDS[kind](value):
        raise InputError(file, key_path(at), f"expected {kind}, found {shown(value)}")
    return value


def get(record: Any, key: str, kind: str, file: str | Path, *at: Part) -> Any:
    """Return `record[key]` if the record is an object that has it, of that kind.

    Raises:
        InputError: The record is not an object, lacks the key, or holds something else there.
    """
    if not isinstance(record, dict):
        raise InputError(file, key_path(at), f"expected an object, found {shown(record)}")
    value = record.get(key, _MISSING)
    if type(value) is _AT_ONCE.get(kind):
        return value
    if value is _MISSING:
        keys = ", ".join(sorted(map(shown_text, map(str, islice(record, _SHOWN_KEYS))))) or "none"
        raise InputError(file, key_path((*at, key)), f"the key is missing; keys here: {keys}")
    if not _KINDS[kind](value):
        raise InputError(file, key_path((*at, key)), f"expected {kind}, found {shown(value)}")
    return value


def get_id(record: Any, key: str, file: str | Path, *at: Part) -> str:
    """Return the id `record[key]` as a text: 7, "7" and 7.0 are one id.

    Raises:
        InputError: As in `get`.
    """
    value = record.get(key) if isinstance(record, dict) else None
    if type(value) is int and value.bit_length() <= _BITS:
        return str(value)
    return check_id(get(record, key, "an id", file, *at), file, *at, key)


def check_id(value: Any, file: str | Path, *at: Part) -> str:
    """Return the id as a text, if it is one.

    Raises:
        InputError: It is none.
    """
    text = id_text(value)
    return str(check(value, "an id", file, *at)) if text is None else text


def claim(seen: set[Any], item: Hashable, file: str | Path, *at: Part) -> None:
    """Add an id to those seen.

    Raises:
        InputError: It was there already.
    """
    if item in seen:
        raise InputError(file, key_path(at), f"{shown(item)} occurs twice; ids must be unique")
    seen.add(item)
