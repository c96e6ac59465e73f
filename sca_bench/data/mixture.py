"""Several data sets as one: the ids of each begin with its name. No torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.region_set import Part, RegionSet
from sca_bench.types import ImageRecord, Region


def mix(parts: tuple[Part, ...]) -> RegionSet:
    """Return the parts as one region set; nothing is copied, their regions are made when asked for.

    Ids begin with `part-name/`, dropped annotations and left-out images are counted with the part's
    name in front.

    Args:
        parts: One or more, with different names.

    Raises:
        ValueError: No part, or two of one name, or a name with a slash.
    """
    names = [part.name for part in parts]
    if not parts or len(set(names)) < len(names) or any("/" in name for name in names):
        raise ValueError(f"parts of a mixture need different names without a slash, found {names}")
    sets = [(part.name, part.region_set) for part in parts]
    return RegionSet(
        name=" + ".join(f"{part.weight:g} x {part.region_set.name}" for part in parts),
        images=_MixedImages(parts),
        regions=_MixedRegions(parts),
        dropped={f"{name}, {why}": n for name, s in sets for why, n in s.dropped.items()},
        images_left_out={
            f"{name}, {why}": n for name, s in sets for why, n in s.images_left_out.items()
        },
        num_clipped=sum(region_set.num_clipped for _, region_set in sets),
        loader=_PartLoader(parts),
        parts=parts,
    )


class _PartLoader:
    """Loads an image as its own data set does."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._sets = {part.name: part.region_set for part in parts}

    def __call__(self, record: ImageRecord) -> NDArray[np.uint8]:
        name, _, own_id = record.image_id.partition("/")
        return self._sets[name].load_image(own_id)


class _MixedImages(Mapping[str, ImageRecord]):
    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._images = {part.name: part.region_set.images for part in parts}
        self._ends = list(accumulate(map(len, self._images.values())))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[str]:
        return (f"{name}/{own_id}" for name, images in self._images.items() for own_id in images)

    def __getitem__(self, image_id: str) -> ImageRecord:
        name, _, own_id = image_id.partition("/")
        if name not in self._images:
            raise KeyError(image_id)
        return replace(self._images[name][own_id], image_id=image_id)

    def id_at(self, index: int) -> str:
        number, own_index = _locate(self._ends, index)
        part = self._parts[number]
        return f"{part.name}/{part.region_set.image_id(own_index)}"


class _MixedRegions(Sequence[Region]):
    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._sets = {part.name: part.region_set for part in parts}
        self._ends = list(accumulate(len(part.region_set.regions) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Region, ...]: ...
    def __getitem__(self, index: int | slice) -> Region | tuple[Region, ...]:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        number, own_index = _locate(self._ends, index)
        part = self._parts[number]
        return _named(part.name, part.region_set.regions[own_index])

    def __iter__(self) -> Iterator[Region]:
        return (_named(part.name, r) for part in self._parts for r in part.region_set.regions)

    def of_image(self, image_id: str) -> tuple[Region, ...]:
        name, _, own_id = image_id.partition("/")
        if name not in self._sets:
            raise KeyError(image_id)
        return tuple(_named(name, region) for region in self._sets[name].regions_of(own_id))


def _locate(ends: list[int], index: int) -> tuple[int, int]:
    """Return which part a place lies in, and where inside it."""
    position = range(ends[-1])[index]
    number = bisect_right(ends, position)
    return number, position - (ends[number - 1] if number else 0)


def _named(name: str, region: Region) -> Region:
    own = (region.region_id, region.image_id)
    return replace(region, region_id=f"{name}/{own[0]}", image_id=f"{name}/{own[1]}")
