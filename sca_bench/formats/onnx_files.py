"""What an ONNX model holds, found out without loading it: files it names, and its size. No torch.

A few bytes of such a file can ask for any amount of memory or time, so it is walked before it is
loaded: its messages are stepped over one by one, and none of its numbers is unpacked but small ones
that say how large a constant becomes.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sca_bench.errors import InputError
from sca_bench.reading import open_regular, shown_text
from sca_bench.weight_paths import check_inside

MOST_BYTES = 2**31
"""Bytes of the model itself, as of any protocol buffer; files beside it may be larger."""
MOST_NODES, MOST_DEPTH = 100_000, 16
"""Nodes of a model, those of its functions and branches among them, and how deep branches lie in
branches. The largest SAM has 6,000."""
MOST_ELEMENTS = 2**28
"""Numbers of a constant that no bytes stand for, such as the zeros of `ConstantOfShape`."""
MOST_ROUNDS = 2**16
"""Rounds of a `Loop`; one that does not say how many is refused. Where they are computed, as from a
picture's size, the process that runs the model ends it in time."""
_MOST_FIELDS = 1_000_000
"""Fields that are stepped over: a second or two."""


def external_data(model: Path) -> dict[str, Path]:
    """Return the files beside an ONNX model that hold its tensors, by the name it calls them.

    A file that is no ONNX model names none; whoever reads it says so.

    Raises:
        InputError: A name leads out of the model's folder, or nowhere.
    """
    try:
        with _mapped(model) as content:
            found = _walk(content)
    except (ValueError, IndexError):
        return {}  # no ONNX
    return _beside(model, found)


def _beside(model: Path, found: _Found) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for location, is_read in sorted({(t.location, t.is_read) for t in found.external}):
        check_inside(location, model, "external_data.location")
        path = model.parent / location
        if path.is_file():
            files[location] = path
        elif is_read:
            problem = f"names {location!r}, which is not there"
            fix = "put it beside the model, under that name"
            raise InputError(model, "external_data.location", problem, fix)
    return files


def check_model(model: Path) -> int:
    """Refuse a model that asks for more than an image encoder can need; it is not loaded.

    Args:
        model: The file.

    Returns:
        Bytes of the model and of the files that it names.

    Raises:
        InputError: It is no ONNX model, or a node, a constant or a name in it is none to load.
        OSError: There is no such file, or it cannot be read.
    """
    try:
        with _mapped(model) as content:
            found = _walk(content)
            size = len(content)
    except (ValueError, IndexError, RecursionError) as fault:
        raise InputError(model, "", f"cannot be read as ONNX ({fault})") from None
    if not found.num_nodes:
        raise InputError(model, "", "cannot be read as ONNX (it has no node)")
    if problem := found.problem or next(_problems(found), ""):
        raise InputError(model, "", f"is not loaded: {problem}")
    files = _beside(model, found)
    for tensor in found.external:
        file = files.get(tensor.location)
        if tensor.is_read and file is not None:
            with open_regular(file) as handle:
                held = os.fstat(handle.fileno()).st_size
            if tensor.num_elements > 4 * held:
                problem = f"{shown_text(tensor.location)} holds {held:,} bytes"
                problem += f" for a tensor of {tensor.num_elements:,} numbers"
                raise InputError(model, "external_data.location", problem)
    return size + sum(file.stat().st_size for file in set(files.values()))


# --- what is found ----------------------------------------------------------------------------


class _Tensor(NamedTuple):
    num_elements: int
    num_bytes: int
    location: str
    is_external: bool
    is_read: bool


@dataclass
class _Node:
    op: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    values: tuple[int, ...] | None = None


@dataclass
class _Found:
    """What a walk through a model found.

    Attributes:
        external: Tensors that another file holds, or that name one.
        fewer: Numbers and bytes of a tensor that has fewer bytes than its numbers take.
        dense: Numbers of the largest sparse tensor, written out.
        known: Name -> the whole numbers of a small constant.
        nodes: Those of the operators that make much of little.
        problem: The first thing that ended the walk.
    """

    num_nodes: int = 0
    num_fields: int = 0
    external: list[_Tensor] = field(default_factory=list)
    fewer: tuple[int, int] | None = None
    dense: int = 0
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: list[_Node] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    own_domains: set[str] = field(default_factory=set)
    problem: str = ""


_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc"}
"""Whose operators onnxruntime itself has; others are code that somebody would have to load."""
_INFLATING = ("ConstantOfShape", "Expand", "Tile", "Range", "Loop", "Constant")


def _problems(found: _Found) -> Iterator[str]:
    """Yield why a model is not loaded."""
    strange = found.domains - _DOMAINS - found.own_domains
    if strange:
        yield f"its operators are of {shown_text(min(strange))!r}, which onnxruntime has not"
    if found.fewer is not None:
        elements, held = found.fewer
        yield f"a tensor of {elements:,} numbers holds {held:,} bytes"
    if found.dense > MOST_ELEMENTS:
        yield f"a sparse tensor of {found.dense:,} numbers, at most {MOST_ELEMENTS:,} are taken"
    for node in found.nodes:
        if node.op == "Constant" and node.values is not None and node.outputs:
            found.known.setdefault(node.outputs[0], node.values)
    for node in found.nodes:
        if node.op == "Loop":
            limit = f"at most {MOST_ROUNDS:,} are run"
            if not node.inputs or not node.inputs[0]:
                yield f"a Loop does not say how many rounds it takes, {limit}"
            elif (rounds := max(found.known.get(node.inputs[0], ()), default=0)) > MOST_ROUNDS:
                yield f"a Loop takes {rounds:,} rounds, {limit}"
        elif (made := _made(node, found.known)) > MOST_ELEMENTS:
            limit = f"at most {MOST_ELEMENTS:,} are taken"
            yield f"{node.op} makes a constant of {made:,} numbers, {limit}"


def _made(node: _Node, known: dict[str, tuple[int, ...]]) -> int:
    """Return how many numbers a node makes, as far as constants say it."""
    given = [known.get(name) for name in node.inputs]
    if node.op == "ConstantOfShape" and given and given[0] is not None:
        return math.prod(abs(side) for side in given[0])
    if node.op in ("Expand", "Tile") and len(given) > 1 and given[1] is not None:
        return math.prod(abs(side) for side in given[1])
    if node.op == "Range" and len(given) == 3 and all(given):
        start, end, step = (value[0] for value in given if value)
        return abs(end - start) // max(1, abs(step))
    return 0


# --- the walk ---------------------------------------------------------------------------------

_INSIDE = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message -> number of a field -> message in it, as far as these lead to what is looked for.

Source: onnx/onnx.proto; the encoding is that of protocol buffers.
"""
_DIMS, _DATA_TYPE, _INT64_DATA, _NAME, _RAW_DATA = 1, 2, 7, 8, 9
_EXTERNAL_DATA, _DATA_LOCATION, _IS_EXTERNAL = 13, 14, 1
_INT64 = 7
_FEW = 64
"""Whole numbers of a constant that are unpacked: more than dimensions are no shape."""
_VARINT, _FIXED_64, _BYTES, _BEGIN, _END, _FIXED_32 = range(6)


class _Field(NamedTuple):
    number: int
    value: int
    begin: int
    end: int


@contextmanager
def _mapped(model: Path) -> Iterator[mmap.mmap]:
    """Give a model's bytes.

    Raises:
        ValueError: It holds none, or too many.
    """
    with open_regular(model) as handle:
        size = os.fstat(handle.fileno()).st_size
        if not size or size > MOST_BYTES:
            raise ValueError("it is empty" if not size else f"it holds {size:,} bytes")
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _walk(content: mmap.mmap) -> _Found:
    found = _Found()
    _step_in(found, content, "model", 0, len(content), 0)
    return found


def _step_in(
    found: _Found, content: mmap.mmap, message: str, begin: int, end: int, depth: int
) -> _Node | None:
    """Walk through a message, and all in it that is looked for; return what a node says."""
    if message == "tensor":
        _tensor(found, content, begin, end)
        return None
    if depth > 4 * MOST_DEPTH:
        found.problem = found.problem or f"branches lie more than {MOST_DEPTH} deep in branches"
        return None
    node = _Node() if message == "node" else None
    inside = _INSIDE.get(message, {})
    for one in _fields(found, content, begin, end):
        _note(found, content, message, one, node)
        inner = inside.get(one.number)
        if inner and one.end > one.begin:
            if inner == "node":
                found.num_nodes += 1
                if found.num_nodes > MOST_NODES:
                    found.problem = found.problem or f"it has more than {MOST_NODES:,} nodes"
                    return node
            _step_in(found, content, inner, one.begin, one.end, depth + 1)
    if node is not None:
        found.domains.add(node.domain)
        if node.op in _INFLATING:
            found.nodes.append(node)
    return node


def _note(found: _Found, content: mmap.mmap, message: str, one: _Field, node: _Node | None) -> None:
    """Keep what a field says, where it is one that decides."""
    if node is not None:
        if one.number in (1, 2):
            named = node.inputs if one.number == 1 else node.outputs
            if len(named) < _FEW:
                named.append(_text(content, one))
        elif one.number == 4:
            node.op = _text(content, one)
        elif one.number == 7:
            node.domain = _text(content, one)
        elif one.number == 5 and node.op in ("Constant", ""):
            node.values = _attribute_values(found, content, one)
    elif (message, one.number) == ("opset", 1):
        found.domains.add(_text(content, one))
    elif (message, one.number) == ("function", 10):
        found.own_domains.add(_text(content, one))
    elif (message, one.number) == ("sparse", 3):
        _sparse_dims(found, content, one)


def _sparse_dims(found: _Found, content: mmap.mmap, one: _Field) -> None:
    sides = _numbers(found, content, one)
    found.dense = max(found.dense, math.prod(abs(side) for side in sides))


def _attribute_values(found: _Found, content: mmap.mmap, one: _Field) -> tuple[int, ...] | None:
    """Return the whole numbers that an attribute holds, where they are few."""
    values: list[int] = []
    for part in _fields(found, content, one.begin, one.end):
        if part.number == 5 and part.end > part.begin:
            return _tensor_values(found, content, part.begin, part.end)[1]
        if part.number in (3, 8):
            values += _numbers(found, content, part)
        if len(values) > _FEW:
            return None
    return tuple(values) or None


def _tensor(found: _Found, content: mmap.mmap, begin: int, end: int) -> None:
    """Note a tensor: what it takes, and where it lies."""
    dims: list[int] = []
    location, is_external, is_read = "", False, False
    for one in _fields(found, content, begin, end):
        if one.number == _DIMS and len(dims) <= _FEW:
            dims += _numbers(found, content, one)
        elif one.number == _DATA_LOCATION:
            is_read = one.value == _IS_EXTERNAL
        elif one.number == _EXTERNAL_DATA:
            pair = {
                part.number: _text(content, part)
                for part in _fields(found, content, one.begin, one.end)
            }
            if pair.get(1) == "location":
                location, is_external = pair.get(2, ""), True
    num_elements = math.prod(abs(side) for side in dims)
    if len(dims) > _FEW:
        found.problem = found.problem or f"a tensor of more than {_FEW} dimensions"
    if is_external:
        held = _Tensor(num_elements, end - begin, location, is_external, is_read)
        found.external.append(held)
    elif num_elements > 4 * (end - begin):  # of the smallest types, four numbers are a byte
        found.fewer = found.fewer or (num_elements, end - begin)
    if not is_external and num_elements <= _FEW:
        name, values = _tensor_values(found, content, begin, end)
        if values is not None:
            found.known[name] = values


def _tensor_values(
    found: _Found, content: mmap.mmap, begin: int, end: int
) -> tuple[str, tuple[int, ...] | None]:
    """Return name and whole numbers of a small tensor; none where it holds others."""
    name, kind, raw = "", 0, b""
    values: list[int] = []
    for one in _fields(found, content, begin, end):
        if one.number == _DATA_TYPE:
            kind = one.value
        elif one.number == _NAME:
            name = _text(content, one)
        elif one.number == _RAW_DATA and one.end - one.begin <= 8 * _FEW:
            raw = content[one.begin : one.end]
        elif one.number == _INT64_DATA and len(values) <= _FEW:
            values += _numbers(found, content, one)
    if kind != _INT64:
        return name, None
    return name, tuple(values) or struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8])


def _numbers(found: _Found, content: mmap.mmap, one: _Field) -> list[int]:
    """Return the whole numbers of a field, packed or not; of many only the first."""
    if one.begin == one.end:
        return [_signed(one.value)]
    values: list[int] = []
    position = one.begin
    while position < one.end and len(values) <= _FEW:
        value, position = _varint(content, position)
        values.append(_signed(value))
    return values


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(content: mmap.mmap, one: _Field) -> str:
    return content[one.begin : min(one.end, one.begin + 4096)].decode("utf-8", "replace")


def _fields(found: _Found, content: mmap.mmap, begin: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message; where one holds bytes, where these begin and end.

    Raises:
        ValueError: It is none, ends too early, or too many are walked through.
    """
    position = begin
    while position < end:
        found.num_fields += 1
        if found.num_fields > _MOST_FIELDS:
            raise ValueError(f"it has more than {_MOST_FIELDS:,} fields")
        tag, position = _varint(content, position)
        number, kind, value, start = tag >> 3, tag & 7, 0, position
        if kind == _VARINT:
            value, position = _varint(content, position)
        elif kind == _BYTES:
            length, start = _varint(content, position)
            position = start + length
        elif kind in (_FIXED_64, _FIXED_32):
            position += 8 if kind == _FIXED_64 else 4
        elif kind not in (_BEGIN, _END):  # a group's fields are of the message that it stands in
            raise ValueError(f"no kind of field: {kind}")
        if position > end:
            raise ValueError("a field ends after its message")
        yield _Field(number, value, start, position if kind == _BYTES else start)


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, lowest first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + shift // 7 + 1
    raise ValueError("a number of more than ten bytes")
