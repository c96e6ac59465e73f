"""Files that are mapped into memory and checked block by block before they are believed. No torch.

A block is checked when it is first read, so a file of any size opens at once, and no byte of it is
handed out that was not looked at by this process.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from sca_bench.errors import InputError
from sca_bench.files import delete

BLOCK = 2**18
"""Bytes of a block: checking one takes a quarter of a millisecond."""
_NPY_HEADER = struct.Struct("<8sH")


def checksums(path: Path) -> list[int]:
    """Return the CRC-32 of every block of a file."""
    with path.open("rb") as handle:
        return [zlib.crc32(block) for block in iter(lambda: handle.read(BLOCK), b"")]


class DamagedFile(InputError):
    """Bytes do not fit their checksum."""


class CheckedFile:
    """Bytes of a file.

    Args:
        path: The file.
        known: Its `size` and `crc32`, as `checksums` gives them.
        keystone: File without which nobody reads this one again; it is deleted on damage.

    Raises:
        ValueError: The file has another size.
        OSError: It cannot be mapped.
    """

    def __init__(self, path: Path, known: Mapping[str, Any], keystone: Path) -> None:
        self._path, self._keystone = path, keystone
        self._crcs: list[int] = known["crc32"]
        self._checked = bytearray(len(self._crcs))
        self._bytes: mmap.mmap | bytes = b""
        size = path.stat().st_size
        if size != known["size"] or -(-size // BLOCK) != len(self._crcs):
            raise ValueError(f"{path.name} is not as long as it should be")
        if size:
            with path.open("rb") as handle:
                self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._bytes)

    def read(self, begin: int, end: int) -> bytes:
        """Return some bytes.

        Raises:
            DamagedFile: They do not fit their checksum.
        """
        for block in range(begin // BLOCK, -(-end // BLOCK)):
            if not self._checked[block]:
                self._check(block)
        return self._bytes[begin:end]

    def _check(self, block: int) -> None:
        if zlib.crc32(self._bytes[block * BLOCK : (block + 1) * BLOCK]) != self._crcs[block]:
            fix = "run again: the index is made anew"
            try:
                delete(self._keystone)
            except OSError:
                fix = f"delete {self._keystone.parent}: it is made anew"
            raise DamagedFile(self._path, "", "is damaged, bytes do not fit their checksum", fix)
        self._checked[block] = True


class CheckedArray(Sequence[Any]):
    """Rows of a `.npy` file.

    Args:
        file: The file.
        row: What a row holds; one of several numbers is a tuple.
    """

    def __init__(self, file: CheckedFile, row: struct.Struct) -> None:
        self._file, self._row = file, row
        self._begin = self._length = 0
        with contextlib.suppress(struct.error):
            self._begin = _NPY_HEADER.size + _NPY_HEADER.unpack(file.read(0, _NPY_HEADER.size))[1]
            self._length, rest = divmod(len(file) - self._begin, row.size)
            if not rest:
                return
        raise ValueError("an array is torn")

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(self._length))]
        if not 0 <= index < self._length:
            raise IndexError(index)
        begin = self._begin + index * self._row.size
        values = self._row.unpack(self._file.read(begin, begin + self._row.size))
        return values[0] if len(values) == 1 else values


class CheckedTexts:
    """Texts by position, of a file of UTF-8 and an array of the places where each ends."""

    def __init__(self, texts: CheckedFile, ends: CheckedArray) -> None:
        self._texts, self._ends = texts, ends

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return self._texts.read(start, self._ends[index]).decode()
