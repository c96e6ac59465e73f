"""What a torch file would load, found out without loading it.

torch's `weights_only` runs no code, but it believes what a file says: a tensor larger than its
storage is filled with whatever lay in memory, and a storage of any size is taken at its word. So
the pickle that describes the tensors is gone through first, opcode by opcode, with values that can
do nothing, and every tensor has to lie inside bytes that are in the file.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from sca_bench.reading import bytes_text, open_regular, shown_text

_MOST_BYTES = 64 * 2**20
"""Bytes of the pickle; that of a model of 10,000 tensors has 2 MiB."""
_MOST_OPCODES = 4_000_000
_MOST_RECORDS = 100_000
_ENLARGED = 2**20
"""Numbers of a tensor that repeats those of its storage, such as positions of an old CLIP."""

_ITEM_BYTES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
_STORAGE = re.compile(r"torch(?:\.storage)?\.(\w+)Storage")
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_BY_TYPE = "torch._tensor._rebuild_from_type_v2"
_EMPTY = ("collections.OrderedDict",)
_CALLED = ("torch._utils._rebuild_parameter", "torch.Size", "torch.device")
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
"""Named for what is rebuilt. Never called: that would make a tensor of whatever lay in memory."""
_HARMLESS = {*_TENSORS, *_EMPTY, *_CALLED, *_CLASSES, _BY_TYPE}
_DTYPE = re.compile(r"torch\.(float|double|half|bfloat|u?int|long|short|bool|complex)\w*")
"""What a file may name. Sparse, quantised and nested tensors are none of it, nor what torch would
let through besides: counters, sets and byte arrays."""


def check_torch_file(path: Path) -> None:
    """Refuse a torch file in which more, or less, is than tensors and plain values.

    Raises:
        ValueError: It is so; says why.
        InputError: It is no regular file.
        OSError: There is no such file, or it cannot be read.
    """
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if handle.read(4) == b"PK\3\4":
            _check_zip(handle, size)
        else:
            _check_older(handle, size)


def _check_zip(handle: IO[bytes], size: int) -> None:
    try:
        with zipfile.ZipFile(handle) as opened:
            records = opened.infolist()
            _check_records(records, size)
            held = {record.filename: record.file_size for record in records}
            (name,) = [name for name in held if name.rpartition("/")[2] == "data.pkl"]
            if held[name] > _MOST_BYTES:
                raise ValueError(_too_long(held[name]))
            content = opened.read(name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, KeyError) as fault:
        raise ValueError(f"it is damaged: {fault}") from None
    folder = name.removesuffix("data.pkl")
    sizes = {n.removeprefix(f"{folder}data/"): s for n, s in held.items()}
    for _ in _objects(io.BytesIO(content), sizes):
        pass


def _check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    if len(records) > _MOST_RECORDS:
        raise ValueError(f"it holds {len(records):,} records")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed, as torch writes none")
    if len({record.filename for record in records}) < len(records):
        raise ValueError("a record stands twice in it")
    if sum(record.filename.rpartition("/")[2] == "data.pkl" for record in records) != 1:
        raise ValueError("it is no file of torch.save")
    total = sum(record.file_size for record in records)
    if total > size or any(record.compress_size != record.file_size for record in records):
        raise ValueError(f"it is torn: its records say {total:,} bytes, and it has {size:,}")


def _check_older(handle: IO[bytes], size: int) -> None:
    """Check a file as torch wrote it before 1.6: five pickles, then the storages."""
    handle.seek(0)
    content = io.BytesIO(handle.read(_MOST_BYTES))
    stored = 0
    for number in range(5):
        storages: dict[str, int] = {}
        for found in _objects(content, None):
            storages[found.key] = max(storages.get(found.key, 0), found.num_bytes)
        stored += sum(storages.values())
        if number == 0 and content.tell() > 64:
            raise ValueError("it is no file of torch.save")
    if stored > size - content.tell():
        raise ValueError(f"it is torn: its tensors take {stored:,} bytes, and it has {size:,}")


def _too_long(count: int) -> str:
    return f"its tensors are described in {bytes_text(count)}, at most {bytes_text(_MOST_BYTES)}"


# --- a pickle, gone through -------------------------------------------------------------------


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    num_elements: int
    num_bytes: int


@dataclass
class _Tuple:
    items: list[Any]


@dataclass
class _Made:
    """What a call returned."""


_MARK, _OTHER = object(), object()
_NOTHING = ("PROTO", "FRAME", "STOP")
_PUSHED = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "FLOAT", "EMPTY_LIST", "EMPTY_DICT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
}
_GETS, _PUTS = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT")
_POPS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_POPS_TO_MARK = ("APPENDS", "SETITEMS")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _objects(content: IO[bytes], sizes: Mapping[str, int] | None) -> Iterator[_Storage]:
    """Go through one pickle; yield the storages that it names.

    Args:
        content: The bytes, at its beginning.
        sizes: Bytes of the file's records by name; None where the storages follow.

    Raises:
        ValueError: It does more than describe tensors, or describes wrong ones.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            given: Any = argument
            if number > _MOST_OPCODES:
                raise ValueError(f"its tensors are described in more than {_MOST_OPCODES:,} steps")
            name = opcode.name
            if name in _NOTHING:
                continue
            if name == "MARK":
                stack.append(_MARK)
            elif name in _GETS:
                stack.append(memo[int(given)])
            elif name in _PUTS or name == "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else int(given)] = stack[-1]
            elif name in _VALUES:
                stack.append(given)
            elif name in _PUSHED:
                stack.append(_OTHER)
            elif name in _TUPLES:
                stack.append(_Tuple([stack.pop() for _ in range(_TUPLES[name])][::-1]))
            elif name == "TUPLE":
                stack.append(_Tuple(_to_mark(stack)))
            elif name in _POPS or name in _POPS_TO_MARK:
                many = name in _POPS_TO_MARK
                items = _to_mark(stack) if many else [stack.pop() for _ in range(_POPS[name])][::-1]
                if name.startswith("SETITEM"):
                    _check_keys(items[0::2])
                stack[-1]
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                parts = given.split(" ") if name == "GLOBAL" else [stack.pop(), stack.pop()][::-1]
                stack.append(_named(".".join(parts)))
            elif name == "BINPERSID":
                storage = _storage(stack.pop(), sizes)
                yield storage
                stack.append(storage)
            elif name == "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                _check_call(function, arguments)
                stack.append(_Made())
            else:
                raise ValueError(f"it holds more than tensors ({name}), and is never run")
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as fault:
        raise ValueError(f"it is damaged ({type(fault).__name__})") from None


def _to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _named(name: str) -> _Global:
    storage = _STORAGE.fullmatch(name)
    is_known = name in _HARMLESS or (storage is not None and storage[1] in _ITEM_BYTES)
    if not is_known and not _DTYPE.fullmatch(name):
        raise ValueError(f"it holds {shown_text(name)}, and only plain tensors are loaded")
    return _Global(name)


def _check_keys(keys: list[Any]) -> None:
    """Refuse what takes for ever to be looked up: tuples in tuples, each twice."""
    if any(isinstance(key, _Tuple | _Made) for key in keys):
        raise ValueError("it holds a mapping whose keys are neither texts nor numbers")


def _storage(named: Any, sizes: Mapping[str, int] | None) -> _Storage:
    kind, cls, key, _, num_elements = named.items[:5]
    match = _STORAGE.fullmatch(cls.name)
    if kind != "storage" or match is None or not isinstance(key, str):
        raise ValueError("it is damaged (a storage)")
    if not _is_count(num_elements):
        raise ValueError(f"a storage of {num_elements!r:.40} numbers")
    num_bytes = num_elements * _ITEM_BYTES[match[1]]
    if sizes is not None and num_bytes > sizes.get(key, -1):
        held = f"{sizes[key]:,} bytes" if key in sizes else "none"
        raise ValueError(f"a storage of {num_bytes:,} bytes, for which it holds {held}")
    return _Storage(key, num_elements, num_bytes)


def _check_call(function: Any, arguments: Any) -> None:
    name, given = function.name, arguments.items
    if name == _BY_TYPE:
        inner, _, arguments = given[:3]
        _check_call(inner, arguments)
    elif name in _TENSORS:
        storage, offset, size, stride = given[:4]
        if not isinstance(storage, _Storage):
            raise ValueError("it is damaged (a tensor without a storage)")
        sides, steps = size.items, stride.items
        if len(sides) != len(steps) or not all(map(_is_count, (offset, *sides, *steps))):
            raise ValueError("it is damaged (a tensor's shape)")
        last = sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
        if math.prod(sides) and offset + last >= storage.num_elements:
            problem = f"a tensor of shape {tuple(sides)!s:.60} in a storage"
            raise ValueError(f"{problem} of {storage.num_elements:,} numbers")
        if math.prod(sides) > max(storage.num_elements, _ENLARGED):
            raise ValueError(f"a tensor that repeats its numbers to a shape {tuple(sides)!s:.60}")
    elif name in _EMPTY and given:
        raise ValueError(f"it is damaged (a {name})")
    elif name not in (*_EMPTY, *_CALLED):
        raise ValueError(f"it calls {shown_text(name)}, and only plain tensors are loaded")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
