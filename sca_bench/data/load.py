"""One door to all data sets: settings in, `RegionSet` out. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.coco_instances import read_coco_instances
from sca_bench.data.coco_panoptic import read_coco_panoptic
from sca_bench.data.masks import encode_mask
from sca_bench.data.region_set import RegionSet
from sca_bench.data.scenes import render_scene
from sca_bench.data.visual_genome import read_visual_genome
from sca_bench.settings import (
    CocoInstancesSplit,
    CocoPanopticSplit,
    ScenesSplit,
    SplitSettings,
    VisualGenomeSplit,
)
from sca_bench.types import ImageRecord, Region

_SCENE = "scene_"


def load_split(split: SplitSettings, where: str) -> RegionSet:
    """Read (or render) one split.

    Args:
        split: The split's settings; relative paths are taken from the working directory.
        where: The file the settings stand in, for messages.

    Raises:
        InputError: A file is missing, damaged or not of its form, or no region is left.
    """
    match split:
        case ScenesSplit():
            return read_scenes(split, where)
        case VisualGenomeSplit():
            return read_visual_genome(split, where)
        case CocoInstancesSplit():
            return read_coco_instances(split, where)
        case CocoPanopticSplit():
            return read_coco_panoptic(split, where)


def read_scenes(split: ScenesSplit, where: str) -> RegionSet:
    """Render the regions of a range of scenes; pixels are rendered again whenever asked for.

    Args:
        split: The range of seeds.
        where: Unused; every reader has the same signature.

    Returns:
        Images `scene_SEED`, regions `scene_SEED_NUMBER`, each with its mask and grammar slots.
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
                references=(region.caption,),
                slots=region.slots,
                mask_rle=encode_mask(region.mask),
            )
            for number, region in enumerate(scene.regions)
        ]
    name = f"scenes {split.first_seed}-{last}"
    return RegionSet(name, images, tuple(regions), loader=_render_image)


def _render_image(record: ImageRecord) -> NDArray[np.uint8]:
    return render_scene(int(record.image_id.removeprefix(_SCENE))).image
