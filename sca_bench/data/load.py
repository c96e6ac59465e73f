"""One door to all data sets: settings in, `RegionSet` out. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sca_bench.data.index.lookup import indexed
from sca_bench.data.mixture import mix
from sca_bench.data.readers.mixture import MixtureSplit
from sca_bench.data.region_set import Part, RegionSet
from sca_bench.errors import InputError
from sca_bench.settings.splits import AnySplit, Split
from sca_bench.specs.readers import READERS


def load_split(split: AnySplit) -> RegionSet:
    """Read (or render) one split, or all parts of a mixture.

    Where the folder of an annotation file holds an index folder (see `index`), the split is taken
    from there; the regions are the same.

    Args:
        split: The split's settings; relative paths are taken from the working directory.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    return indexed(split, read_files)


def read_files(split: AnySplit) -> RegionSet:
    """Read one split by its reader, without any index.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    spec = READERS.get(split.dataset)
    region_set = spec.load()(split)
    if not isinstance(region_set, RegionSet):
        problem = f"{spec.read} returned {type(region_set).__name__}, expected a RegionSet"
        raise InputError(None, "dataset", f"{split.dataset!r}: {problem}", "repair the reader")
    if isinstance(split, Split) and region_set.task != split.task:
        region_set = replace(region_set, task=split.task)
    return region_set


def read_mixture(split: MixtureSplit) -> RegionSet:
    """Read the parts; each is called by its data set, the second of a kind `coco_instances-2`."""
    seen: Counter[str] = Counter()
    parts = []
    for part in split.parts:
        kind = part.split.dataset
        seen[kind] += 1
        name = kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"
        parts.append(Part(name, part.weight, load_split(part.split)))
    return mix(tuple(parts))
