"""Rows on disk by key: memory-mapped shards that are checked before they are believed. No torch.

A store is a folder. Each shard is a safetensors file with some rows of every array, and a JSON file
beside it that names their keys and holds checksums: of itself, of the file's header and of every
row. The JSON file comes last, so a shard without one was never finished. A row is checked when it
is first read; what does not fit its checksum is never handed out.

Several processes may add shards to one store at a time; a row that two of them add is there twice,
which harms nobody. Only few shards are mapped at a time, however many there are: every mapping
takes a file descriptor, of which a process has few.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sca_bench.engine.writers import HOST as _HOST
from sca_bench.engine.writers import is_abandoned
from sca_bench.errors import CellError, InputError
from sca_bench.files import atomic_file, delete, make_folder, write_atomic
from sca_bench.reading import open_regular, parse_json, read_json, shown_text

DTYPES = {"F32": 4, "F16": 2, "BF16": 2}
"""Safetensors' names of the storage types, and their bytes a value."""
_MOST_MAPPED = 64
_MOST_LISTED_BYTES, _LONGEST_HEADER = 2**29, 2**20
"""Of the JSON file that lists a shard's rows, and of a header, which lists its few arrays."""
_MOST_AXES, _TOO_LARGE = 8, 2**48


Kind = tuple[str, tuple[int, ...]]
"""Type and shape of an array's rows."""
Room = Callable[[str, int, Kind], NDArray[np.uint8]]
"""From an array's name, a number of rows and their kind to memory of these bytes."""


class Rows(NamedTuple):
    """N rows of one array as bytes.

    Attributes:
        raw: (N, bytes of a row), uint8.
        dtype: One of `DTYPES`.
        shape: Shape of one row.
    """

    raw: NDArray[np.uint8]
    dtype: str
    shape: tuple[int, ...]


class DamagedRow(CellError):
    """A stored row does not fit its checksum; its shard was deleted."""


class _Place(NamedTuple):
    """Where an array's rows stand in a file: bytes after its header, and the bytes of a row."""

    begin: int
    end: int
    width: int
    dtype: str
    shape: tuple[int, ...]


@dataclass
class _Shard:
    """What is known of one finished shard; `begin` is where its rows' bytes begin."""

    index: Path
    data: Path
    begin: int
    places: dict[str, _Place]
    keys: list[str]
    crcs: list[int]
    facts: dict[str, Any]
    checked: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.checked = np.zeros(len(self.keys), dtype=bool)

    def is_sound(self, row: int, arrays: Mapping[str, Rows]) -> bool:
        """Say whether a row of its arrays fits its checksum; looked at once."""
        if not self.checked[row]:
            parts = (array.raw[row] for _, array in sorted(arrays.items()))
            self.checked[row] = _crc(parts) == self.crcs[row]
        return bool(self.checked[row])


class ShardStore:
    """Rows by key in one folder; what is damaged is deleted when it is met.

    Args:
        folder: The folder; it need not exist.
        delete: Whether to delete what is damaged; else it is only left out.

    Attributes:
        damaged: Names of the damaged shards that were met since the store was opened, with the
            reason.
    """

    def __init__(self, folder: Path, *, delete: bool = True) -> None:
        self.folder = folder
        self._deletes = delete
        self.damaged: dict[str, str] = {}
        self._shards: dict[str, _Shard] = {}
        self._rows: dict[str, tuple[_Shard, int]] = {}
        self._mapped: OrderedDict[str, dict[str, Rows]] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """Look for shards that were added (or deleted) since."""
        there = {path.name: path for path in sorted(self.folder.glob("shard-*.json"))}
        for name, path in there.items():
            if name in self._shards or path.stem in self.damaged:
                continue
            try:
                self._shards[name] = _open(path)
            except _Unsound as error:
                self._delete(path, str(error))
        self._shards = {
            name: self._shards[name]
            for name, path in there.items()
            if name in self._shards and path.stem not in self.damaged
        }
        self._rows = self._listed()

    def _listed(self) -> dict[str, tuple[_Shard, int]]:
        return {
            key: (shard, row)
            for shard in self._shards.values()
            for row, key in enumerate(shard.keys)
        }

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def _arrays(self, shard: _Shard) -> dict[str, Rows]:
        """Return a shard's arrays, mapped; the one longest unused makes room.

        Raises:
            OSError: The file cannot be mapped.
        """
        name = shard.index.name
        if name not in self._mapped:
            self._mapped[name] = _map(shard)
            if len(self._mapped) > _MOST_MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(name)
        return self._mapped[name]

    def kinds(self) -> dict[str, set[Kind]]:
        """Return array name -> type and shape of its rows, as often as shards differ in it."""
        found: dict[str, set[Kind]] = {}
        for shard in self._shards.values():
            for name, place in shard.places.items():
                found.setdefault(name, set()).add((place.dtype, place.shape))
        return found

    def stated(self, fact: str) -> set[Any]:
        """Return what was said of its shards under a name, where something was."""
        said = (shard.facts.get(fact) for shard in self._shards.values())
        return {value for value in said if value is not None and not isinstance(value, list)}

    def facts(self, key: str) -> dict[str, Any]:
        """Return what was said of the shard that holds a row."""
        return self._rows[key][0].facts

    def take(self, keys: Sequence[str], room: Room | None = None) -> dict[str, Rows]:
        """Return copies of rows in the order asked for, checked.

        Args:
            keys: Which rows.
            room: Gives the memory that the rows of an array are copied to, (N, bytes of a row); new
                memory where None.

        Raises:
            KeyError: A row is not there.
            DamagedRow: A row does not fit its checksum, or its shard was deleted since.
        """
        taken: dict[str, Rows] = {}
        kinds: dict[str, Kind] = {}
        for place, key in enumerate(keys):
            shard, row = self._rows[key]
            try:
                arrays = self._arrays(shard)
            except FileNotFoundError as error:  # by another process, which met damage in it
                problem = "was deleted since it was opened; run again"
                raise DamagedRow(f"{shard.data}: {problem}") from error
            if not shard.is_sound(row, arrays):
                self._delete(shard.index, f"row {key}")
                self.refresh()
                problem = "a row does not fit its checksum; the shard was deleted, run again"
                raise DamagedRow(f"{shard.data}: {problem}")
            here = {name: (dtype, shape) for name, (_, dtype, shape) in arrays.items()}
            if kinds and here != kinds:
                self._delete(shard.index, "other arrays than those of its neighbours")
                self.refresh()
                problem = "holds other arrays than its neighbours; it was deleted, run again"
                raise DamagedRow(f"{shard.data}: {problem}")
            if not kinds:
                kinds = here
                taken = {
                    name: Rows((room or _room)(name, len(keys), kind), *kind)
                    for name, kind in kinds.items()
                }
            for name, (raw, _, _) in arrays.items():
                taken[name].raw[place] = raw[row]  # a copy: the mapping makes room for others
        return taken

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to read the same rows; it maps the files itself."""
        return self.__dict__ | {"_mapped": OrderedDict(), "_rows": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rows = self._listed()

    def verify(self, keys: Iterable[str] | None = None) -> int:
        """Read and check rows; delete the shards that hold a damaged one.

        Args:
            keys: Which rows, as far as they are there; all where None.

        Returns:
            How many rows are there and sound of those asked for.
        """
        row_indices: dict[str, list[int]] = {}
        if keys is None:
            row_indices = {n: list(range(len(shard.keys))) for n, shard in self._shards.items()}
        for key in keys or ():
            if key in self._rows:
                shard, row_index = self._rows[key]
                row_indices.setdefault(shard.index.name, []).append(row_index)
        sound = 0
        for name, rows in row_indices.items():
            shard = self._shards[name]
            arrays = self._arrays(shard)
            bad = next((row for row in rows if not shard.is_sound(row, arrays)), None)
            if bad is None:
                sound += len(rows)
            else:
                self._delete(shard.index, f"row {shard.keys[bad]}")
        self.refresh()
        return sound

    def append(
        self, keys: Sequence[str], arrays: Mapping[str, Rows], facts: Mapping[str, Any]
    ) -> int:
        """Write one shard; it is there completely, or not at all.

        Args:
            keys: Key of each row.
            arrays: The rows of each array, of equal number.
            facts: Plain values that belong to the shard.

        Returns:
            Bytes written.

        Raises:
            OSError: It cannot be written, on a full disk for instance; nothing is left behind.
        """
        if len(set(keys)) != len(keys) or any(len(a.raw) != len(keys) for a in arrays.values()):
            raise ValueError("every row of a shard needs a key of its own, every key a row")
        make_folder(self.folder)
        name = f"shard-{time.time_ns():x}-{_HOST}-{os.getpid()}"
        data, index = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        header = _header(arrays)
        num_bytes = len(header) + sum(array.raw.nbytes for array in arrays.values())
        body = {
            "header_crc32": zlib.crc32(header),
            "size": num_bytes,
            "keys": list(keys),
            "row_crc32": [
                _crc(array.raw[i] for _, array in sorted(arrays.items())) for i in range(len(keys))
            ],
            "facts": dict(facts),
        }
        try:
            with atomic_file(data) as handle:
                handle.write(header)
                for array in arrays.values():
                    handle.write(array.raw.tobytes())
            write_atomic(index, json.dumps({"crc32": _body_crc(body), "body": body}))
        except OSError:
            for path in (data, index):
                with contextlib.suppress(OSError):
                    delete(path)
            raise
        return num_bytes

    def clean(self) -> None:
        """Delete what writers left behind that are no more."""
        for path in [*self.folder.glob(".shard-*.tmp"), *self.folder.glob("shard-*.safetensors")]:
            index = path.with_suffix(".json")
            unfinished = path.name.endswith(".tmp") or not index.exists()
            if unfinished and is_abandoned(path):
                with contextlib.suppress(OSError):
                    delete(path)

    def _delete(self, index: Path, reason: str) -> None:
        self.damaged[index.stem] = reason
        self._mapped.pop(index.name, None)
        if not self._deletes:
            return
        for path in (index, index.with_suffix(".safetensors")):
            with contextlib.suppress(OSError):  # it is left out as it is
                delete(path)


class _Unsound(Exception):
    """A shard cannot be believed."""


def _open(index: Path) -> _Shard:
    """Open a shard and check everything but its rows.

    Checksums tell damage. Whoever made a file on purpose has made them, too, so what the files say
    of sizes and places is checked by itself.

    Raises:
        _Unsound: A file is missing, torn, or does not fit its checksum; or what it says cannot be.
        OSError: A file cannot be read, for whatever other reason; that says nothing of its content.
    """
    data = index.with_suffix(".safetensors")
    if index.is_symlink() or data.is_symlink():
        raise _Unsound("it is a link")
    try:
        content = read_json(index, _MOST_LISTED_BYTES)
        body = content["body"]
        if _body_crc(body) != content["crc32"]:
            raise _Unsound("its list of rows does not fit its checksum")
        with open_regular(data) as handle:
            size = os.fstat(handle.fileno()).st_size
            if size != body["size"]:
                raise _Unsound("its file is not as long as it should be")
            first = handle.read(8)
            length = struct.unpack("<Q", first)[0]
            if length > min(size - 8, _LONGEST_HEADER):
                raise _Unsound("its header is longer than it can be")
            header = first + handle.read(length)
        if zlib.crc32(header) != body["header_crc32"]:
            raise _Unsound("its header does not fit its checksum")
        keys, crcs, facts = body["keys"], body["row_crc32"], body["facts"]
        if not _are(keys, str) or not _are(crcs, int) or not len(keys) == len({*keys}) == len(crcs):
            raise _Unsound("its list of rows is damaged")
        if not isinstance(facts, dict) or not all(map(_is_fact, facts.values())):
            raise _Unsound("what it says of its rows is damaged")
        places = _places(parse_json(header[8:], data), len(keys), size - len(header))
        return _Shard(index, data, len(header), places, keys, crcs, facts)
    except InputError as error:
        raise _Unsound(error.problem) from error
    except (FileNotFoundError, ValueError, KeyError, TypeError, struct.error) as error:
        raise _Unsound(f"{type(error).__name__}: {error}") from error


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _is_fact(value: Any) -> bool:
    """Say whether a value is a number, a text, or a few whole numbers."""
    if isinstance(value, list):
        return len(value) <= _MOST_AXES and all(map(_is_size, value))
    return isinstance(value, str | int | float | None) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _TOO_LARGE


def _places(entries: Any, num_rows: int, num_bytes: int) -> dict[str, _Place]:
    """Return where each array stands in the rows' file, by what its header says.

    Raises:
        _Unsound: It cannot be: another number of rows than of keys, or other bytes than there are.
        ValueError, KeyError, TypeError: It is no header of safetensors.
    """
    places: dict[str, _Place] = {}
    at = 0
    if not isinstance(entries, dict):
        raise _Unsound("its header is damaged")
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        count, *shape = entry["shape"]
        if len(shape) > _MOST_AXES or not all(map(_is_size, (begin, end, count, *shape))):
            raise _Unsound(f"its header is damaged at {shown_text(name)}")
        width = DTYPES[entry["dtype"]] * math.prod(shape)
        if count != num_rows or begin != at or end - begin != count * width:
            raise _Unsound(f"its header does not fit its rows at {shown_text(name)}")
        places[name] = _Place(begin, end, width, entry["dtype"], tuple(shape))
        at = end
    if at != num_bytes or not places:
        raise _Unsound("its header does not fit its file")
    return places


def _room(name: str, num_rows: int, kind: Kind) -> NDArray[np.uint8]:
    dtype, shape = kind
    return np.empty((num_rows, DTYPES[dtype] * math.prod(shape)), dtype=np.uint8)


def _map(shard: _Shard) -> dict[str, Rows]:
    # Copy-on-write, so that tensors over it count as writable; nothing is ever written.
    mapped = np.memmap(shard.data, dtype=np.uint8, mode="c", offset=shard.begin)
    arrays: dict[str, Rows] = {}
    for name, place in shard.places.items():
        raw = np.asarray(mapped[place.begin : place.end]).reshape(len(shard.keys), place.width)
        arrays[name] = Rows(raw, place.dtype, place.shape)
    return arrays


def _header(arrays: Mapping[str, Rows]) -> bytes:
    """Return a safetensors header: its length, then JSON padded to whole words of 8 bytes."""
    entries: dict[str, Any] = {}
    begin = 0
    for name, (raw, dtype, shape) in arrays.items():
        end = begin + raw.nbytes
        entries[name] = {
            "dtype": dtype,
            "shape": [len(raw), *shape],
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _crc(parts: Iterable[NDArray[np.uint8]]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(np.ascontiguousarray(part).data, checksum)
    return checksum


def _body_crc(body: Any) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
