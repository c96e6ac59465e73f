"""Pickles of plain data, read so that nothing in them can run.

A pickle is a program; what makes it dangerous is that it may name classes and functions and have
them called. This reader knows none: a file that names one, harmless or not, is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any, NoReturn

from sca_bench.data.readers.json_files import key_path
from sca_bench.errors import InputError
from sca_bench.formats.texts import NO_TEXT_FIX, find_no_text

_MAY_HOLD_NO_TEXT = re.compile(rb"\xed[\xa0-\xbf]|\\u[dD][89a-fA-F]")
"""How the binary protocols write half of a surrogate pair, and how the oldest one does."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler of dictionaries, lists, tuples, texts and numbers."""

    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain data is read")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to data outside of itself")


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
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise InputError(file, key, "no such file", f"give the right path in {key}") from None
    except OSError as fault:
        raise InputError(file, key, f"cannot be read: {fault.strerror}") from None
    try:
        values = _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
    except Exception as fault:  # a damaged pickle can raise anything
        problem = f"is no readable pickle of plain data: {fault or type(fault).__name__}"
        raise InputError(
            file, key, problem, "fetch it again, or give JSON of the same structure"
        ) from None
    no_text = find_no_text(values) if _MAY_HOLD_NO_TEXT.search(content) else None
    if no_text is not None:
        raise InputError(file, key_path(no_text.at), no_text.problem, NO_TEXT_FIX)
    return values
