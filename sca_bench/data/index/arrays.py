"""A region set as arrays on disk, mapped into memory and turned into regions when asked for.

Shape legend: I images, N regions, T texts (references of all regions, in order).

A folder holds `index.json` (counts, names, digests) and, for images and regions, numbers as `.npy`
and texts as one UTF-8 `.bin` each with the positions where a text ends. It appears under its name
only when complete. `index.json` has a checksum of itself, and one of every block of every file: a
file that was touched is looked through when the index is opened, any other block by block when it
is read. No torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.index.checked_file import (
    CheckedArray,
    CheckedFile,
    CheckedTexts,
    DamagedFile,
    checksums,
)
from sca_bench.data.region_set import RegionSet
from sca_bench.digests import FileDigests, file_sha256, file_stamp, folder_content, has_stamp
from sca_bench.files import atomic_folder, open_to_write, write_atomic
from sca_bench.settings.splits import Task
from sca_bench.types import ImageRecord, Region
from sca_bench.walk import is_hidden, walk

FORMAT = "region-index-2"
_META = "index.json"
_NO_SLOTS: dict[str, str] = {}


class UnusableIndex(Exception):
    """An index that cannot be used; the message says why."""


def write_index(
    region_set: RegionSet, index: Path, sources: Mapping[str, Any], images_folder: str
) -> None:
    """Write the index of a region set that was read from files.

    Args:
        region_set: What to write; its regions have no slots.
        index: Folder of the index; one that stands there already is left alone.
        sources: The files it was made from, as `known_sources` found them before they were read:
            what is written to meanwhile has changed.
        images_folder: The folder that the paths of its images begin with; what follows is kept, so
            that the images may be moved, or fetched later.

    Raises:
        OSError: The folder cannot be written.
    """
    try:
        with atomic_folder(index) as temporary:
            _fill(temporary, index.name, region_set, sources, images_folder)
    except OSError as fault:
        # Another process may have been faster, with the same content.
        if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _fill(
    folder: Path,
    index_name: str,
    region_set: RegionSet,
    sources: Mapping[str, Any],
    images_folder: str,
) -> None:
    images, regions = list(region_set.images.values()), region_set.regions
    counts = [len(region_set.regions_of(image.image_id)) for image in images]
    references = [len(region.references) for region in regions]
    _texts(folder, "image_ids", (image.image_id for image in images))
    names = (image.path.removeprefix(f"{images_folder}/") for image in images)
    _texts(folder, "image_names", names)
    _texts(folder, "region_ids", (region.region_id for region in regions))
    _texts(folder, "references", (text for r in regions for text in r.references))
    if any(region.segmentation for region in regions):
        _texts(folder, "masks", (region.segmentation for region in regions))
    sizes_hw = np.array([(image.height, image.width) for image in images], dtype=np.int32)
    ids = np.array([image.image_id.encode() for image in images])
    arrays: dict[str, NDArray[Any]] = {
        "image_sizes_hw": sizes_hw.reshape(-1, 2),
        "image_order": np.argsort(ids, kind="stable"),
        "image_ends": np.cumsum(counts, dtype=np.int64),
        "reference_ends": np.cumsum(references, dtype=np.int64),
        "boxes_xyxy": np.array([r.box_xyxy for r in regions], dtype=np.float64).reshape(-1, 4),
    }
    for name, array in arrays.items():
        _save(folder / f"{name}.npy", array)
    body = {
        "format": FORMAT,
        "index": index_name,
        "name": region_set.name,
        "counts": {"images": len(images), "regions": len(regions)},
        "dropped": dict(region_set.dropped),
        "images_left_out": dict(region_set.images_left_out),
        "num_clipped": region_set.num_clipped,
        "digest": region_set.digest(),
        "sources": dict(sources),
        "files": {file.name: _known_file(file) for file in sorted(folder.iterdir())},
    }
    _write_body(folder, body)


def open_index(
    index: Path, sources: Mapping[str, Path], folder: ImageFolder, task: Task
) -> RegionSet:
    """Return the region set of an index; its regions are made when asked for.

    Args:
        index: Folder of the index.
        sources: The files it should have been made from.
        folder: Where the images lie.
        task: The split's task.

    Raises:
        UnusableIndex: It is incomplete or damaged, or a source has changed since.
    """
    try:
        body = _read_body(index)
        if body["format"] != FORMAT or body["sources"].keys() != sources.keys():
            raise UnusableIndex("it is of another format")
        if body["index"] != index.name:
            raise UnusableIndex("it was made with other settings")
        touched = False
        for key, path in sources.items():
            if not _has_stamp(path, known := body["sources"][key]):
                now = _known_source(path)
                if now["sha256"] != known["sha256"]:
                    raise UnusableIndex(f"{key} {path} has changed")
                known.update(now)
                touched = True
        for name, known in body["files"].items():
            if not has_stamp(index / name, known):
                now = _known_file(index / name)
                if now["crc32"] != known["crc32"]:
                    raise UnusableIndex(f"{name} is damaged")
                known.update(now)
                touched = True
        if touched:
            with contextlib.suppress(OSError):  # a folder of somebody else's: looked at again
                _write_body(index, body)
        images = _Images(index, folder)
        return RegionSet(
            name=body["name"],
            images=images,
            regions=_Regions(index, images),
            dropped=body["dropped"],
            images_left_out=body["images_left_out"],
            num_clipped=body["num_clipped"],
            task=task,
            stored_digest=body["digest"],
        )
    except DamagedFile as fault:
        raise UnusableIndex(f"{Path(fault.where).name} is damaged") from fault
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UnusableIndex(f"it cannot be read ({fault})") from fault


def counts_of(index: Path) -> dict[str, int]:
    """Return how many images and regions an index holds.

    Raises:
        UnusableIndex: It is none, damaged, or of an older format.
    """
    try:
        counts: dict[str, int] = _read_body(index)["counts"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UnusableIndex(f"it cannot be read ({fault})") from fault
    return counts


def _write_body(index: Path, body: Mapping[str, Any]) -> None:
    write_atomic(index / _META, json.dumps({"crc32": _crc(body), "body": body}, indent=1))


def _read_body(index: Path) -> dict[str, Any]:
    """Read what `index.json` says.

    Raises:
        ValueError: It does not fit its checksum.
    """
    content = json.loads((index / _META).read_text(encoding="utf-8"))
    body: dict[str, Any] = content["body"]
    if _crc(body) != content["crc32"]:
        raise ValueError(f"{_META} does not fit its checksum")
    return body


def _crc(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _known_file(path: Path) -> dict[str, Any]:
    return file_stamp(path) | {"crc32": checksums(path)}


def known_sources(sources: Mapping[str, Path]) -> dict[str, Any]:
    """Return what tells whether files and folders are as they are now."""
    return {key: _known_source(path) for key, path in sources.items()}


def _known_source(path: Path) -> dict[str, Any]:
    """Return stamp and digest of a file, or of a folder (of PNGs) and all that lies in it."""
    # The stamp comes first: what is written to meanwhile is looked at again.
    if not path.is_dir():
        return file_stamp(path) | {"sha256": file_sha256(path)}
    stamp = {"stamps": _stamps(path)}
    return stamp | {"sha256": _json_sha256(folder_content(path, FileDigests(), is_hidden))}


def _has_stamp(path: Path, known: Mapping[str, Any]) -> bool:
    if not path.is_dir():
        return has_stamp(path, known)
    return bool(known.get("stamps") == _stamps(path))


def _stamps(folder: Path) -> str:
    """Digest the stamps of all files below a folder; its own says nothing of their content."""
    return _json_sha256([[n, *file_stamp(p).values()] for n, p in walk(folder, is_hidden)])


def _json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _texts(folder: Path, name: str, texts: Iterable[str]) -> None:
    ends = [0]
    with open_to_write(folder / f"{name}.bin") as handle:
        for text in texts:
            ends.append(ends[-1] + handle.write(text.encode()))
    _save(folder / f"{name}.npy", np.array(ends[1:], dtype=np.int64))


def _save(path: Path, array: NDArray[Any]) -> None:
    with open_to_write(path) as handle:
        np.save(handle, array)


_END, _BOX, _SIZE = struct.Struct("<q"), struct.Struct("<4d"), struct.Struct("<2i")


class _Files:
    """The files of an index, mapped."""

    def __init__(self, index: Path) -> None:
        self._index, self._known = index, _read_body(index)["files"]

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def array(self, name: str, row: struct.Struct) -> CheckedArray:
        """Return the rows of `name.npy`."""
        return CheckedArray(self._file(f"{name}.npy"), row)

    def texts(self, name: str) -> CheckedTexts:
        """Return the texts of `name.bin`."""
        return CheckedTexts(self._file(f"{name}.bin"), self.array(name, _END))

    def _file(self, name: str) -> CheckedFile:
        return CheckedFile(self._index / name, self._known[name], self._index / _META)


class _Images(Mapping[str, ImageRecord]):
    """Image records by id; found by bisection, so that nothing is read at the start.

    Whoever walks through them in order finds each at once, after the one before. They travel to
    another process as the name of their folder, and are mapped there again.
    """

    def __init__(self, index: Path, folder: ImageFolder) -> None:
        files = _Files(index)
        self._ids, self._names = files.texts("image_ids"), files.texts("image_names")
        self._sizes_hw = files.array("image_sizes_hw", _SIZE)
        self._order = files.array("image_order", _END)
        self._folder, self._file, self._next = folder, str(index), 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _Images, (Path(self._file), self._folder)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[str]:
        return (self._ids[index] for index in range(len(self)))

    def __getitem__(self, image_id: str) -> ImageRecord:
        index = self.position(image_id)
        height, width = self._sizes_hw[index]
        path = self._folder.path(self._names[index], self._file, "image_names", index)
        return ImageRecord(image_id, width, height, path)

    def position(self, image_id: str) -> int:
        """Return the place of an image in file order.

        Raises:
            KeyError: No such image.
        """
        position = self._next
        if position >= len(self) or self._ids[position] != image_id:
            position = self._bisect(image_id)
        self._next = position + 1
        return position

    def _bisect(self, image_id: str) -> int:
        wanted, low, high = image_id.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._ids[self._order[middle]].encode() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self._ids[self._order[low]] != image_id:
            raise KeyError(image_id)
        position: int = self._order[low]
        return position

    def id_at(self, index: int) -> str:
        """Return the id of the image at a place in file order."""
        return self._ids[range(len(self))[index]]


class _Regions(Sequence[Region]):
    """Regions by position and by image; they travel as images do."""

    def __init__(self, index: Path, images: _Images) -> None:
        self._place, self._images = index, images
        files = _Files(index)
        self._ids, self._references = files.texts("region_ids"), files.texts("references")
        self._masks = files.texts("masks") if "masks.npy" in files else None
        self._image_ends = files.array("image_ends", _END)
        self._reference_ends = files.array("reference_ends", _END)
        self._boxes_xyxy = files.array("boxes_xyxy", _BOX)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Regions, (self._place, self._images)

    def __len__(self) -> int:
        return len(self._boxes_xyxy)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Region, ...]: ...
    def __getitem__(self, index: int | slice) -> Region | tuple[Region, ...]:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        position = range(len(self))[index]
        image = bisect_right(self._image_ends, position)
        return self._region(position, self._images.id_at(image))

    def __iter__(self) -> Iterator[Region]:
        position = 0
        for image, end in enumerate(self._image_ends):
            image_id = self._images.id_at(image)
            yield from (self._region(k, image_id) for k in range(position, end))
            position = end

    def of_image(self, image_id: str) -> tuple[Region, ...]:
        """Return the regions of one image, in file order."""
        image = self._images.position(image_id)
        start = self._image_ends[image - 1] if image else 0
        return tuple(self._region(k, image_id) for k in range(start, self._image_ends[image]))

    def _region(self, index: int, image_id: str) -> Region:
        start = self._reference_ends[index - 1] if index else 0
        end = self._reference_ends[index]
        return Region(
            self._ids[index],
            image_id,
            self._boxes_xyxy[index],
            tuple(self._references[k] for k in range(start, end)),
            _NO_SLOTS,
            self._masks[index] if self._masks is not None else "",
        )
