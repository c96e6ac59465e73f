"""One door to all data sets: settings in, `RegionSet` out. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sca_bench import scene_grammar
from sca_bench.data.index.lookup import indexed
from sca_bench.data.mixture import mix
from sca_bench.data.readers.coco_instances import read_coco_instances
from sca_bench.data.readers.coco_panoptic import read_coco_panoptic
from sca_bench.data.readers.refcoco import read_refcoco
from sca_bench.data.readers.scenes import SceneRegion, render_scene
from sca_bench.data.readers.selection import FileSplit
from sca_bench.data.readers.visual_genome import read_visual_genome
from sca_bench.data.region_set import Part, RegionSet
from sca_bench.formats.rle import encode_mask
from sca_bench.settings import (
    CocoPanopticSplit,
    MixtureSplit,
    RefCocoSplit,
    ScenesSplit,
    SingleSplit,
    SplitSettings,
    VisualGenomeSplit,
)
from sca_bench.types import ImageRecord, Region

_SCENE = "scene_"


def load_split(split: SplitSettings) -> RegionSet:
    """Read (or render) one split, or all parts of a mixture.

    Where the folder of an annotation file holds an index folder (see `index`), the split is taken
    from there; the regions are the same.

    Args:
        split: The split's settings; relative paths are taken from the working directory.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    if isinstance(split, MixtureSplit):
        return _read_mixture(split)
    if isinstance(split, ScenesSplit):
        return read_scenes(split)
    return indexed(split, read_files)


def read_files(split: FileSplit) -> RegionSet:
    """Read one split from its annotation files, without any index.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    match split:
        case VisualGenomeSplit():
            return read_visual_genome(split)
        case CocoPanopticSplit():
            return read_coco_panoptic(split)
        case RefCocoSplit():
            return read_refcoco(split)
        case _:
            return read_coco_instances(split)


def _read_mixture(split: MixtureSplit) -> RegionSet:
    """Read the parts; each is called by its data set, the second of a kind `coco_instances-2`."""
    seen: Counter[str] = Counter()
    parts = []
    for part in split.parts:
        kind = part.split.dataset
        seen[kind] += 1
        name = kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"
        single: SingleSplit = part.split
        parts.append(Part(name, part.weight, load_split(single)))
    return mix(tuple(parts))


def read_scenes(split: ScenesSplit) -> RegionSet:
    """Render the regions of a range of scenes; pixels are rendered again whenever asked for.

    Args:
        split: The range of seeds.

    Returns:
        Images `scene_SEED`, regions `scene_SEED_NUMBER`, each with its mask, and the grammar slots
        that its caption (or the class name in its place) fills.
    """
    images: dict[str, ImageRecord] = {}
    regions: list[Region] = []
    last = split.first_seed + split.num_images - 1
    for seed in range(split.first_seed, last + 1):
        scene = render_scene(seed)
        image_id = f"{_SCENE}{seed}"
        height, width = scene.image.shape[:2]
        images[image_id] = ImageRecord(image_id, width, height)
        regions += [
            Region(
                region_id=f"{image_id}_{number}",
                image_id=image_id,
                box_xyxy=region.box_xyxy,
                references=(caption,),
                slots=slots,
                segmentation=json.dumps(encode_mask(region.mask)),
            )
            for number, region in enumerate(scene.regions)
            for caption, slots in [_caption_and_slots(region, split.captions)]
        ]
    name = f"scenes {split.first_seed}-{last}"
    return RegionSet(name, images, tuple(regions), loader=_render_image, task=split.task)


def _caption_and_slots(region: SceneRegion, captions: str) -> tuple[str, Mapping[str, str]]:
    """Return a region's caption, or the class name in its place, with the slots that it fills."""
    if captions == "full":
        return region.caption, region.slots
    return scene_grammar.class_name(region.slots, captions)


def _render_image(record: ImageRecord) -> NDArray[np.uint8]:
    return render_scene(int(record.image_id.removeprefix(_SCENE))).image
