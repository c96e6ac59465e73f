"""Pickles of plain data, read so that nothing in them can run.

A pickle is a program; what makes it dangerous is that it may name classes and functions and have
them called. This reader knows none: a file that names one, harmless or not, is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from sca_bench.errors import InputError
from sca_bench.reading import (
    NO_TEXT_FIX,
    RECORD_BYTES,
    find_no_text,
    key_path,
    named_file,
    read_bytes,
    shown_text,
)

_SIZES = {ord(code.code): code.arg.n if code.arg is not None else 0 for code in pickletools.opcodes}
"""What begins an instruction -> bytes that follow it, or how their number is given."""
_WIDTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TEXT_PUT, _LONG_PUT, _STOP = b"pr."
_TWO_LINES = frozenset(b"ci")
_TUPLES, _SETS = frozenset(b"t\x85\x86\x87"), frozenset(b"\x8f\x90\x91")
_MAY_HOLD_NO_TEXT = re.compile(rb"\xed[\xa0-\xbf]|\\u[dD][89a-fA-F]")
"""How the binary protocols write half of a surrogate pair, and how the oldest one does."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler of dictionaries, lists, tuples, texts and numbers."""

    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain data is read")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to data outside of itself")


_IN_PYTHON: Any = pickle._Unpickler


class _CheckedUnpickler(_IN_PYTHON):  # type: ignore[misc]
    """The same in Python, and slower: a tuple is no key.

    A key is looked up by all that it holds, and sixty tuples, each twice in the next one, hold more
    than any processor counts.
    """

    find_class = _PlainUnpickler.find_class
    persistent_load = _PlainUnpickler.persistent_load
    dispatch: ClassVar[dict[int, Any]] = dict(_IN_PYTHON.dispatch)

    def _check(self, keys: list[Any]) -> None:
        if any(isinstance(key, tuple) for key in keys):
            raise pickle.UnpicklingError("a key is a tuple, expected a text or a number")

    def load_setitem(self) -> None:
        self._check(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        self._check(self.stack[::2])
        super().load_dict()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict


def _has_tuples(content: bytes) -> bool:
    """Look through a pickle for a place in its memory beyond all that it can hold, and for sets.

    Python makes room for every place up to the one that is named: six bytes could take 30 GB.

    Returns:
        Whether it makes tuples.

    Raises:
        UnpicklingError: It names such a place, or makes a set, or breaks off.
    """
    place, end = 0, len(content)
    has_tuples = False
    while place < end:
        code = content[place]
        size = _SIZES.get(code)
        if size is None:
            raise pickle.UnpicklingError(f"byte {place} begins nothing that a pickle holds")
        if code in _SETS:
            raise pickle.UnpicklingError("it holds a set, and only plain data is read")
        has_tuples = has_tuples or code in _TUPLES
        place += 1
        if size >= 0:
            if code == _LONG_PUT and int.from_bytes(content[place : place + 4], "little") > end:
                raise pickle.UnpicklingError(f"byte {place} names a place that it cannot have")
            place += size
        elif size == pickletools.UP_TO_NEWLINE:
            stop = content.find(b"\n", place)
            if stop < 0:
                raise pickle.UnpicklingError("it breaks off")
            if code == _TEXT_PUT and (stop - place > 10 or int(content[place:stop]) > end):
                raise pickle.UnpicklingError(f"byte {place} names a place that it cannot have")
            place = stop + 1
            if code in _TWO_LINES:
                place = content.find(b"\n", place) + 1 or end
        else:
            width = _WIDTHS[size]
            place += width + int.from_bytes(content[place : place + width], "little")
        if code == _STOP:
            break
    return has_tuples


def read_plain_pickle(path: str | Path, key: str) -> Any:
    """Read a pickle that holds plain data only; texts of Python 2 are taken as UTF-8.

    Args:
        path: The file.
        key: The setting that names it, for messages.

    Raises:
        InputError: No such file, a damaged one, one that holds more than plain data, or a text
            that is not Unicode.
    """
    file = Path(path)
    with named_file(file, key):
        content = read_bytes(file, RECORD_BYTES * 16, key)
    try:
        kind = _CheckedUnpickler if _has_tuples(content) else _PlainUnpickler
        values = kind(io.BytesIO(content), encoding="utf-8").load()
    except Exception as fault:  # a damaged pickle can raise anything
        reason = shown_text(str(fault)) or type(fault).__name__
        problem = f"is no readable pickle of plain data: {reason}"
        raise InputError(
            file, key, problem, "fetch it again, or give JSON of the same structure"
        ) from None
    no_text = find_no_text(values) if _MAY_HOLD_NO_TEXT.search(content) else None
    if no_text is not None:
        raise InputError(file, key_path(no_text.at), no_text.problem, NO_TEXT_FIX)
    return values
