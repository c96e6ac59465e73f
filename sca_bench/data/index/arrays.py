"""A region set as arrays on disk, mapped into memory and turned into regions when asked for.

Shape legend: I images, N regions, T texts (references of all regions, in order).

A folder holds `index.json` (counts, names, digests) and, for images and regions, numbers as `.npy`
and texts as one UTF-8 `.bin` each with the positions where a text ends. It appears under its name
only when complete. No torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.region_set import RegionSet
from sca_bench.files import (
    atomic_folder,
    file_sha256,
    file_stamp,
    has_stamp,
    write_atomic,
)
from sca_bench.settings.data import Task
from sca_bench.types import ImageRecord, Region

FORMAT = "region-index-1"
_META = "index.json"
_NO_SLOTS: dict[str, str] = {}


class UnusableIndex(Exception):
    """An index that cannot be used; the message says why."""


def write_index(
    region_set: RegionSet, index: Path, sources: Mapping[str, Path], images_folder: str
) -> None:
    """Write the index of a region set that was read from files.

    Args:
        region_set: What to write; its regions have no slots.
        index: Folder of the index; one that stands there already is left alone.
        sources: The files it was made from.
        images_folder: The folder that the paths of its images begin with; what follows is kept, so
            that the images may be moved, or fetched later.

    Raises:
        OSError: The folder cannot be written.
    """
    try:
        with atomic_folder(index) as temporary:
            _fill(temporary, region_set, sources, images_folder)
    except OSError as fault:
        # Another process may have been faster, with the same content.
        if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _fill(
    folder: Path, region_set: RegionSet, sources: Mapping[str, Path], images_folder: str
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
        np.save(folder / f"{name}.npy", array)
    meta = {
        "format": FORMAT,
        "name": region_set.name,
        "counts": {"images": len(images), "regions": len(regions)},
        "dropped": dict(region_set.dropped),
        "images_left_out": dict(region_set.images_left_out),
        "num_clipped": region_set.num_clipped,
        "digest": region_set.digest(),
        "sources": {key: _known(path) for key, path in sources.items()},
        "files": {file.name: _known(file) for file in sorted(folder.iterdir())},
    }
    write_atomic(folder / _META, json.dumps(meta, indent=1))


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
        meta = json.loads((index / _META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or meta["sources"].keys() != sources.keys():
            raise UnusableIndex("it is of another format")
        touched = False
        for key, path in sources.items():
            touched |= _was_touched(path, meta["sources"][key], f"{key} {path} has changed")
        for name, known in meta["files"].items():
            touched |= _was_touched(index / name, known, f"{name} is damaged")
        if touched:
            with contextlib.suppress(OSError):  # a folder of somebody else's: looked at again
                write_atomic(index / _META, json.dumps(meta, indent=1))
        images = _Images(index, folder)
        return RegionSet(
            name=meta["name"],
            images=images,
            regions=_Regions(index, images),
            dropped=meta["dropped"],
            images_left_out=meta["images_left_out"],
            num_clipped=meta["num_clipped"],
            task=task,
            stored_digest=meta["digest"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UnusableIndex(f"it cannot be read ({fault})") from fault


def _known(path: Path) -> dict[str, Any]:
    stamp = file_stamp(path)  # first: what is written to meanwhile is looked at again
    return stamp | {"sha256": _digest(path)}


def _was_touched(path: Path, known: dict[str, Any], problem: str) -> bool:
    """Compare a file with what it was; its content only if it was touched since, which is noted.

    Raises:
        UnusableIndex: It is another now.
    """
    if has_stamp(path, known):
        return False
    stamp = file_stamp(path)
    if _digest(path) != known["sha256"]:
        raise UnusableIndex(problem)
    known.update(stamp)
    return True


def _digest(path: Path) -> str:
    """Digest a file's content; of a folder (of PNGs) the names, sizes and times of its files."""
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            stat = file.stat()
            stamp = {"mtime_ns": stat.st_mtime_ns, "size": stat.st_size}
            digest.update(f"{file.relative_to(path)} {list(stamp.items())}".encode())
    return digest.hexdigest()


def _texts(folder: Path, name: str, texts: Iterable[str]) -> None:
    ends = [0]
    with (folder / f"{name}.bin").open("wb") as handle:
        for text in texts:
            ends.append(ends[-1] + handle.write(text.encode()))
    np.save(folder / f"{name}.npy", np.array(ends[1:], dtype=np.int64))


class _Texts:
    """Texts by position."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ends: NDArray[np.int64] = np.load(folder / f"{name}.npy", mmap_mode="r")
        size = (folder / f"{name}.bin").stat().st_size
        self._bytes: NDArray[np.uint8] = (
            np.memmap(folder / f"{name}.bin", np.uint8, "r") if size else np.zeros(0, np.uint8)
        )

    def __getitem__(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        return self._bytes[start : int(self._ends[index])].tobytes().decode()


class _Images(Mapping[str, ImageRecord]):
    """Image records by id; found by bisection, so that nothing is read at the start.

    Whoever walks through them in order finds each at once, after the one before. They travel to
    another process as the name of their folder, and are mapped there again.
    """

    def __init__(self, index: Path, folder: ImageFolder) -> None:
        self._ids, self._names = _Texts(index, "image_ids"), _Texts(index, "image_names")
        self._sizes_hw = np.load(index / "image_sizes_hw.npy", mmap_mode="r")
        self._order = np.load(index / "image_order.npy", mmap_mode="r")
        self._folder, self._file, self._next = folder, str(index), 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _Images, (Path(self._file), self._folder)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[str]:
        return (self._ids[index] for index in range(len(self)))

    def __getitem__(self, image_id: str) -> ImageRecord:
        index = self.position(image_id)
        height, width = self._sizes_hw[index].tolist()
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
            if self._ids[int(self._order[middle])].encode() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self._ids[int(self._order[low])] != image_id:
            raise KeyError(image_id)
        return int(self._order[low])

    def id_at(self, index: int) -> str:
        """Return the id of the image at a place in file order."""
        return self._ids[range(len(self))[index]]


class _Regions(Sequence[Region]):
    """Regions by position and by image; they travel as images do."""

    def __init__(self, index: Path, images: _Images) -> None:
        self._place, self._images = index, images
        self._ids, self._references = _Texts(index, "region_ids"), _Texts(index, "references")
        self._masks = _Texts(index, "masks") if (index / "masks.npy").exists() else None
        self._image_ends = np.load(index / "image_ends.npy", mmap_mode="r")
        self._reference_ends = np.load(index / "reference_ends.npy", mmap_mode="r")
        self._boxes_xyxy = np.load(index / "boxes_xyxy.npy", mmap_mode="r")

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
        image = int(np.searchsorted(self._image_ends, position, side="right"))
        return self._region(position, self._images.id_at(image))

    def __iter__(self) -> Iterator[Region]:
        position = 0
        for image, end in enumerate(self._image_ends.tolist()):
            image_id = self._images.id_at(image)
            yield from (self._region(k, image_id) for k in range(position, end))
            position = end

    def of_image(self, image_id: str) -> tuple[Region, ...]:
        """Return the regions of one image, in file order."""
        image = self._images.position(image_id)
        start = int(self._image_ends[image - 1]) if image else 0
        return tuple(self._region(k, image_id) for k in range(start, int(self._image_ends[image])))

    def _region(self, index: int, image_id: str) -> Region:
        start = int(self._reference_ends[index - 1]) if index else 0
        end = int(self._reference_ends[index])
        left, top, right, bottom = self._boxes_xyxy[index].tolist()
        return Region(
            self._ids[index],
            image_id,
            (left, top, right, bottom),
            tuple(self._references[k] for k in range(start, end)),
            _NO_SLOTS,
            self._masks[index] if self._masks is not None else "",
        )
