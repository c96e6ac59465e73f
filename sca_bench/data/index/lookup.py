"""When a split is taken from an index, and when the index is made (again). No torch.

Reading the 3.7 million regions of Visual Genome from JSON takes minutes and gigabytes, in every
worker process. A folder called `sca_bench_index` beside an annotation file (`data prepare` makes
one) is where `load_split` keeps what it read, one index per split, as arrays that are only mapped
into memory (`region_index`). Nothing changes but the time: an index is named by the settings it was
made with and the revision of the readers, and it holds the digest of every file it was made from.
One that is stale or damaged is made again, and a line says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.index.arrays import (
    FORMAT,
    UnusableIndex,
    counts_of,
    known_sources,
    open_index,
    write_index,
)
from sca_bench.data.region_set import RegionSet
from sca_bench.files import delete_folder
from sca_bench.settings.base import defaults_since
from sca_bench.settings.splits import INDEX_FOLDER, AnySplit, FileSplit
from sca_bench.specs.readers import READERS

REVISION = "readers-2"
"""Raised whenever a reader yields other regions for the same files; makes every index anew."""

_LOG = logging.getLogger(__name__)
_WITHOUT = {"task", "images", "dataset"}
"""Settings that do not change what an index holds (`dataset` is in its name)."""

Reader = Callable[[AnySplit], RegionSet]


def indexed(split: AnySplit, read: Reader) -> RegionSet:
    """Return a split from its index, which is made first where it is missing, stale or damaged.

    Without an index folder beside the annotations, or without write access to it, the files are
    simply read.

    Args:
        split: The split's settings.
        read: Reads the files themselves.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    folder = index_folder(split)
    if folder is None or not isinstance(split, FileSplit):
        return read(split)
    index = folder / _name(split)
    opened = _open(split, index)
    if opened is not None or not os.access(folder, os.W_OK):
        return opened or read(split)
    # Read as if there were no images: then every path ends in the name that the file gives.
    nowhere = str(index.with_suffix(".no-images"))
    try:
        known = known_sources(split.files())
    except OSError:
        return read(split)  # which says what is wrong with it
    region_set = read(split.model_copy(update={"images": nowhere}))
    try:
        write_index(region_set, index, known, nowhere)
    except OSError as fault:
        _LOG.warning("%s: cannot be written (%s); the files are read", index, fault.strerror)
    return _open(split, index) or read(split)


def annotations_of(split: FileSplit) -> Path:
    """Return the main file of a split whose reader lets it be indexed."""
    return Path(getattr(split, READERS.get(split.dataset).annotations))


def index_folder(split: AnySplit) -> Path | None:
    """Return the folder of a split's indices; None where there is no such folder, or may be none.

    Where it returns one, the split is taken from an index.
    """
    if not isinstance(split, FileSplit) or not READERS.get(split.dataset).annotations:
        return None
    folder = annotations_of(split).parent / INDEX_FOLDER
    return folder if folder.is_dir() else None


def _name(split: FileSplit) -> str:
    """Return the folder name of a split's index: what is read, and with which settings."""
    since = defaults_since(type(split))
    unchanged = {name for name, value in since.items() if getattr(split, name) == value}
    settings = split.model_dump(mode="json", exclude=_WITHOUT | unchanged)
    # Files beside the annotations are named from there, so that the whole folder may be moved.
    home = annotations_of(split).resolve().parent
    for key, path in split.files().items():
        inside = path.resolve().is_relative_to(home)
        settings[key] = str(path.resolve().relative_to(home) if inside else path.resolve())
    spec = READERS.get(split.dataset)
    code = [FORMAT, REVISION] if spec.is_own else [FORMAT, REVISION, spec.read, spec.revision]
    text = json.dumps([*code, settings], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    parts = (split.dataset, annotations_of(split).stem, split.split or "all")
    readable = "".join(c if c.isalnum() else "-" for c in "_".join(parts))
    return f"{readable}.{digest}"


def _open(split: FileSplit, index: Path) -> RegionSet | None:
    """Return the split from its index, or None where there is none that can be used."""
    if not index.is_dir():
        return None
    folder = ImageFolder(split.images, READERS.get(split.dataset).also_in)
    try:
        return open_index(index, split.files(), folder, split.task)
    except UnusableIndex as fault:
        _LOG.warning("%s: %s; the index is made again", index, fault)
        delete_folder(index)
        return None


def index_sizes(folder: Path) -> Iterator[tuple[str, dict[str, int], int]]:
    """Yield (name, counts, bytes) of every sound index in an index folder."""
    for meta in sorted(folder.glob("*/index.json")):
        with contextlib.suppress(UnusableIndex):
            counts = counts_of(meta.parent)
            size = sum(file.stat().st_size for file in meta.parent.iterdir())
            yield meta.parent.name, counts, size
