"""COCO-layout detection annotations (COCO, Objects365): the category name is the phrase.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from pathlib import Path

from sca_bench.data.coco import CocoFile
from sca_bench.data.collect import CROWD, Collector
from sca_bench.data.json_files import claim, get
from sca_bench.data.masks import encode_segmentation
from sca_bench.data.region_set import RegionSet
from sca_bench.settings import CocoInstancesSplit
from sca_bench.types import ImageRecord


def instance_phrase(name: str) -> str:
    """Turn a category name into a phrase: `Cabinet/shelf` becomes `Cabinet shelf`.

    Source: GRiT treats Objects365's names so.
    """
    return " ".join(name.replace("/", " ").split())


def read_coco_instances(split: CocoInstancesSplit, where: str) -> RegionSet:
    """Read one split of COCO-layout instances; crowd annotations are dropped and counted.

    Args:
        split: Files, selection and size limit.
        where: The file the settings stand in, for messages.

    Returns:
        One region per usable annotation, with its mask where the file has one.

    Raises:
        InputError: A file is missing, damaged or not of this form, or nothing is left.
    """
    coco = CocoFile(split)
    collector = Collector(f"coco_instances {Path(split.annotations).name}", coco.file, split, where)
    seen: set[str] = set()
    for image, entry, rows in coco.images():
        if collector.open_image(image, entry, len(rows)):
            for index, annotation in rows:
                _add(collector, coco, image, annotation, index, seen)
    return collector.finish()


def _add(
    collector: Collector,
    coco: CocoFile,
    image: ImageRecord,
    annotation: dict[str, object],
    index: int,
    seen: set[str],
) -> None:
    at = ("annotations", index)
    region_id = str(get(annotation, "id", "an id", coco.file, *at))
    claim(seen, region_id, coco.file, *at, "id")
    if coco.is_crowd(annotation, *at):
        collector.drop(CROWD)
        return
    mask = encode_segmentation(
        annotation.get("segmentation"), image.height, image.width, coco.file, *at, "segmentation"
    )
    phrase = instance_phrase(coco.category(annotation, *at))
    collector.add(region_id, coco.box_xywh(annotation, *at), phrase, mask)
