"""COCO-layout annotations with one box and one phrase each: COCO, Objects365, V3Det, GRiT's file.

The phrase is the category name; in Visual Genome as GRiT prepared it, it is the annotation's own
`caption`. Ids may be larger than 32 bits (Objects365 has 900100184613), and V3Det's documented
layout gives annotations no id at all: theirs is then their place in the file.

Source: https://cocodataset.org/#format-data; Objects365 v2; V3Det, README; GRiT, DATASETS.md.
"""

from __future__ import annotations

from pathlib import Path

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.coco import CocoFile
from sca_bench.data.readers.collector import CROWD, Collector
from sca_bench.data.readers.json_files import claim, get, get_id
from sca_bench.data.readers.segmentation import given_mask
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import CocoInstancesSplit, GritSplit, Objects365Split, V3DetSplit
from sca_bench.types import ImageRecord

BoxSplit = CocoInstancesSplit | Objects365Split | V3DetSplit | GritSplit

ALSO_IN = {"visual_genome_grit": ("VG_100K", "VG_100K_2")}
"""Folders of the original images in which a data set's file names, given without, may lie."""


def instance_phrase(name: str) -> str:
    """Turn a category name into a phrase: `Cabinet/shelf` becomes `Cabinet shelf`.

    Source: GRiT treats Objects365's names so.
    """
    return " ".join(name.replace("/", " ").split())


def read_coco_instances(split: BoxSplit) -> RegionSet:
    """Read one split of COCO-layout annotations; crowd annotations are dropped and counted.

    Args:
        split: Files, selection and size limit.

    Returns:
        One region per usable annotation, with its mask where the file has one.

    Raises:
        InputError: A file is missing, damaged or not of this form, or nothing is left.
    """
    folder = ImageFolder(split.images, ALSO_IN.get(split.dataset, ()))
    coco = CocoFile(split.annotations, folder)
    name = f"{split.dataset} {Path(split.annotations).name}"
    collector = Collector(name, coco.file, split)
    seen: set[str] = set()
    for image, entry, rows in coco.images():
        if collector.open_image(image, entry, len(rows)):
            for index, annotation in rows:
                _add(collector, coco, split, image, annotation, index, seen)
    return collector.finish()


def _add(
    collector: Collector,
    coco: CocoFile,
    split: BoxSplit,
    image: ImageRecord,
    annotation: dict[str, object],
    index: int,
    seen: set[str],
) -> None:
    at = ("annotations", index)
    if split.dataset == "v3det" and "id" not in annotation:
        region_id = str(index)
    else:
        region_id = get_id(annotation, "id", coco.file, *at)
    claim(seen, region_id, coco.file, *at, "id")
    if coco.is_crowd(annotation, *at):
        collector.drop(CROWD)
        return
    if split.dataset == "visual_genome_grit":
        phrase = get(annotation, "caption", "a string", coco.file, *at)
    else:
        phrase = instance_phrase(coco.category(annotation, *at))
    collector.add(region_id, coco.box_xywh(annotation, *at), (phrase,), given_mask(annotation))
