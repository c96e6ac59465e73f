"""Files that an ONNX model names and that are read with it: their content counts, too. No torch."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sca_bench.errors import InputError
from sca_bench.weight_paths import check_inside


def external_data(model: Path) -> dict[str, Path]:
    """Return the files beside an ONNX model that hold its tensors, by the name it calls them.

    A file that is no ONNX model names none; whoever reads it says so.

    Raises:
        InputError: A name leads out of the model's folder, or nowhere.
    """
    found: dict[str, Path] = {}
    for location, is_read in sorted(_locations(model)):
        check_inside(location, model, "external_data.location")
        path = model.parent / location
        if path.is_file():
            found[location] = path
        elif is_read:
            problem = f"names {location!r}, which is not there"
            fix = "put it beside the model, under that name"
            raise InputError(model, "external_data.location", problem, fix)
    return found


_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message -> number of a field -> message in it, as far as these lead to tensors.

Source: onnx/onnx.proto; the encoding is that of protocol buffers.
"""
_EXTERNAL_DATA, _DATA_LOCATION, _IS_EXTERNAL = 13, 14, 1
_VARINT, _FIXED_64, _BYTES, _BEGIN, _END, _FIXED_32 = range(6)


class _Field(NamedTuple):
    number: int
    value: int
    begin: int
    end: int


def _locations(model: Path) -> set[tuple[str, bool]]:
    """Return each location that a tensor of a model names, and whether its data is read there."""
    if not model.stat().st_size:
        return set()
    with (
        model.open("rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        try:
            return set(_of_tensors(content, "model", 0, len(content)))
        except (ValueError, IndexError, RecursionError):
            return set()  # no ONNX


def _of_tensors(
    content: mmap.mmap, message: str, begin: int, end: int
) -> Iterator[tuple[str, bool]]:
    fields = _fields(content, begin, end)
    if message == "tensor":
        told = list(fields)
        is_read = any(f.number == _DATA_LOCATION and f.value == _IS_EXTERNAL for f in told)
        for entry in (f for f in told if f.number == _EXTERNAL_DATA):
            pair = {
                f.number: content[f.begin : f.end].decode()
                for f in _fields(content, entry.begin, entry.end)
            }
            if pair.get(1) == "location":
                yield pair.get(2, ""), is_read
        return
    for field in fields:
        if (inner := _INSIDE[message].get(field.number)) and field.end > field.begin:
            yield from _of_tensors(content, inner, field.begin, field.end)


def _fields(content: mmap.mmap, begin: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message; where one holds bytes, where these begin and end.

    Raises:
        ValueError: It is none, or ends too early.
    """
    position = begin
    while position < end:
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
