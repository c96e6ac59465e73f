"""COCO panoptic segments: things and stuff; the cleaned category name is the phrase.

An annotation holds one image's segments: `{"image_id", "file_name": "000000000009.png",
"segments_info": [{"id", "category_id", "iscrowd", "bbox": xywh, "area"}]}`.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.coco import CocoFile
from sca_bench.data.readers.collector import CROWD, Collector
from sca_bench.data.readers.json_files import claim, get, get_id
from sca_bench.data.readers.segmentation import read_panoptic_png
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.formats.rle import encode_mask
from sca_bench.reading import key_path, shown
from sca_bench.settings.base import of_kind
from sca_bench.settings.splits import FileSplit
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import ImageRecord


class CocoPanopticSplit(FileSplit):
    """COCO panoptic segments; the (cleaned) category name is the phrase."""

    dataset: Literal["coco_panoptic"]
    annotations: str = of_kind("path")
    """`panoptic_val2017.json`, or a file laid out like it."""
    panoptic: str | None = of_kind("path", None)
    """Folder of the panoptic PNGs, if masks are wanted."""


SPEC = ReaderSpec(
    name="coco_panoptic",
    title="COCO panoptic",
    settings=CocoPanopticSplit,
    read="sca_bench.data.readers.coco_panoptic:read_coco_panoptic",
    summary="Segments of COCO panoptic, things and stuff; the class name is the phrase",
    references="class_names",
    masks="its folder `panoptic`",
    annotations="annotations",
    licence="CC BY 4.0 (annotations); photos: Flickr terms",
    source="https://cocodataset.org/#format-data",
    example="sca_bench.contract.examples:panoptic",
)

_BOOKKEEPING = ("merged", "other", "stuff")
_SURFACES = ("wall", "floor", "ceiling")
_RUN_TOGETHER = {"playingfield": "playing field"}


def panoptic_phrase(name: str) -> str:
    """Turn a panoptic category name into a phrase a person could say.

    1. Trailing `-merged`, `-other` and `-stuff` only book-keep classes: they go
       (`sky-other-merged` -> `sky`, `door-stuff` -> `door`).
    2. After a surface stands its material, which English puts first (`wall-brick` -> `brick wall`,
       `floor-wood` -> `wood floor`).
    3. Any other hyphen or underscore is a blank (`window-blind` -> `window blind`), and
       `playingfield` is two words.
    """
    parts = name.replace("_", "-").split("-")
    while len(parts) > 1 and parts[-1] in _BOOKKEEPING:
        parts.pop()
    if len(parts) == 2 and parts[0] in _SURFACES:
        parts.reverse()
    words = " ".join(parts).split()
    return " ".join(_RUN_TOGETHER.get(word, word) for word in words)


def read_coco_panoptic(split: CocoPanopticSplit) -> RegionSet:
    """Read one split of COCO panoptic segments; crowd segments are dropped and counted.

    Args:
        split: Files, selection and size limit. With `panoptic`, every segment gets its mask from
            the PNGs, which are all read here.

    Returns:
        One region per usable segment, with id `IMAGE_SEGMENT` (segment ids repeat across images).

    Raises:
        InputError: A file is missing, damaged or not of this form, JSON and PNG disagree, or
            nothing is left.
    """
    coco = CocoFile(split.annotations, ImageFolder(split.images))
    if split.panoptic is not None and not Path(split.panoptic).is_dir():
        raise InputError(
            split.panoptic, "panoptic", "no such folder", "name the folder of the PNGs"
        )
    pngs = None if split.panoptic is None else ImageFolder(split.panoptic)
    collector = Collector(f"coco_panoptic {Path(split.annotations).name}", coco.file, split)
    for image, entry, rows in coco.images():
        if len(rows) > 1:
            key = key_path(("annotations", rows[1][0], "image_id"))
            raise InputError(coco.file, key, f"image {image.image_id} has two annotations")
        groups = [
            (index, annotation, get(annotation, "segments_info", "a list", coco.file, *at))
            for index, annotation in rows
            for at in [("annotations", index)]
        ]
        if not collector.open_image(image, entry, sum(len(group[2]) for group in groups)):
            continue
        for index, annotation, segments in groups:
            ids_HW = _segment_ids(coco, pngs, image, annotation, index) if segments else None
            seen: set[str] = set()
            for number, segment in enumerate(segments):
                at = ("annotations", index, "segments_info", number)
                segment_id = get_id(segment, "id", coco.file, *at)
                region_id = f"{image.image_id}_{segment_id}"
                claim(seen, region_id, coco.file, *at, "id")
                if coco.is_crowd(segment, *at):
                    collector.drop(CROWD)
                    continue
                mask = ""
                if ids_HW is not None:
                    mask_HW = ids_HW == _colour_number(segment_id, coco.file, *at)
                    if not mask_HW.any():
                        problem = f"{segment_id} has no pixel in {annotation['file_name']}"
                        raise InputError(coco.file, key_path((*at, "id")), problem)
                    mask = json.dumps(encode_mask(mask_HW))
                phrase = panoptic_phrase(coco.category(segment, *at))
                collector.add(region_id, coco.box_xywh(segment, *at), (phrase,), mask)
    return collector.finish()


def _colour_number(segment_id: str, file: str, *at: str | int) -> int:
    """Return the number that a segment's pixels hold: its id."""
    if not re.fullmatch("[0-9]{1,8}", segment_id):
        problem = f"expected a number of R + 256 G + 65536 B, found {shown(segment_id)}"
        raise InputError(file, key_path((*at, "id")), problem)
    return int(segment_id)


def _segment_ids(
    coco: CocoFile,
    pngs: ImageFolder | None,
    image: ImageRecord,
    annotation: dict[str, Any],
    index: int,
) -> NDArray[np.int64] | None:
    if pngs is None:
        return None
    at = ("annotations", index)
    name = get(annotation, "file_name", "a string", coco.file, *at)
    path = Path(pngs.path(name, coco.file, *at, "file_name"))
    return read_panoptic_png(path, image.height, image.width)
