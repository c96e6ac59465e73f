"""COCO-layout annotations with one box and one phrase each: COCO, Objects365, V3Det, GRiT's file.

The phrase is the category name; in Visual Genome as GRiT prepared it, it is the annotation's own
`caption`. Ids may be larger than 32 bits (Objects365 has 900100184613), and V3Det's documented
layout gives annotations no id at all: theirs is then their place in the file.

Source: https://cocodataset.org/#format-data; Objects365 v2; V3Det, README; GRiT, DATASETS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.coco import CocoFile
from sca_bench.data.readers.collector import CROWD, Collector
from sca_bench.data.readers.json_files import claim, get, get_id
from sca_bench.data.readers.segmentation import given_mask
from sca_bench.data.region_set import RegionSet
from sca_bench.settings.base import of_kind
from sca_bench.settings.splits import FileSplit
from sca_bench.specs.readers import ReaderSpec

_ALSO_IN = ("VG_100K", "VG_100K_2")
"""Folders of Visual Genome's images; GRiT's file names do not say which one."""
_Field = Callable[[CocoFile, dict[str, Any], int], str]
"""Reads one field of an annotation, given its place in the file."""


class CocoInstancesSplit(FileSplit):
    """Annotations in COCO's layout with one box each; the category name is the phrase."""

    dataset: Literal["coco_instances", "objects365", "v3det", "visual_genome_grit"]
    annotations: str = of_kind("path")
    """A JSON file in COCO's layout."""


_HERE = "sca_bench.data.readers.coco_instances"
SPECS = (
    ReaderSpec(
        name="visual_genome_grit",
        title="Visual Genome (GRiT)",
        settings=CocoInstancesSplit,
        read=f"{_HERE}:read_grit",
        summary="Visual Genome as GRiT prepared it: COCO's layout with a caption per annotation",
        annotations="annotations",
        also_in=_ALSO_IN,
        licence="CC BY 4.0",
        source="GRiT, DATASETS.md",
        example="sca_bench.contract.examples:instances",
    ),
    ReaderSpec(
        name="coco_instances",
        title="COCO instances",
        settings=CocoInstancesSplit,
        read=f"{_HERE}:read_coco_instances",
        summary="Detection annotations in COCO's layout; the class name is the phrase",
        references="class_names",
        masks="its annotations",
        annotations="annotations",
        licence="CC BY 4.0 (annotations); photos: Flickr terms",
        source="https://cocodataset.org/#format-data",
        example="sca_bench.contract.examples:instances",
    ),
    ReaderSpec(
        name="objects365",
        title="Objects365",
        settings=CocoInstancesSplit,
        read=f"{_HERE}:read_coco_instances",
        summary="Detection annotations of Objects365 v2; the class name is the phrase",
        references="class_names",
        masks="its annotations",
        annotations="annotations",
        licence="CC BY 4.0 (annotations); photos: see the page",
        source="Shao et al., ICCV 2019; https://www.objects365.org",
        example="sca_bench.contract.examples:instances",
    ),
    ReaderSpec(
        name="v3det",
        title="V3Det",
        settings=CocoInstancesSplit,
        read=f"{_HERE}:read_v3det",
        summary="Detection annotations of V3Det; the class name is the phrase",
        references="class_names",
        masks="its annotations",
        annotations="annotations",
        licence="CC BY 4.0 (annotations); photos: Flickr terms",
        source="Wang et al., ICCV 2023; V3Det, README",
        example="sca_bench.contract.examples:instances",
    ),
)


def instance_phrase(name: str) -> str:
    """Turn a category name into a phrase: `Cabinet/shelf` becomes `Cabinet shelf`.

    Source: GRiT treats Objects365's names so.
    """
    return " ".join(name.replace("/", " ").split())


def _category(coco: CocoFile, annotation: dict[str, Any], index: int) -> str:
    return instance_phrase(coco.category(annotation, "annotations", index))


def _caption(coco: CocoFile, annotation: dict[str, Any], index: int) -> str:
    return str(get(annotation, "caption", "a string", coco.file, "annotations", index))


def _id(coco: CocoFile, annotation: dict[str, Any], index: int) -> str:
    return get_id(annotation, "id", coco.file, "annotations", index)


def _id_or_place(coco: CocoFile, annotation: dict[str, Any], index: int) -> str:
    return _id(coco, annotation, index) if "id" in annotation else str(index)


def read_coco_instances(split: CocoInstancesSplit) -> RegionSet:
    """Read one split of COCO-layout annotations; crowd annotations are dropped and counted.

    Args:
        split: Files, selection and size limit.

    Returns:
        One region per usable annotation, with its mask where the file has one.

    Raises:
        InputError: A file is missing, damaged or not of this form, or nothing is left.
    """
    return _read(split, _id, _category)


def read_v3det(split: CocoInstancesSplit) -> RegionSet:
    """Read one split of V3Det, as `read_coco_instances`; an annotation without id has its place."""
    return _read(split, _id_or_place, _category)


def read_grit(split: CocoInstancesSplit) -> RegionSet:
    """Read one split of GRiT's Visual Genome, as `read_coco_instances`, with its captions."""
    return _read(split, _id, _caption, _ALSO_IN)


def _read(
    split: CocoInstancesSplit, id_of: _Field, phrase_of: _Field, also_in: tuple[str, ...] = ()
) -> RegionSet:
    coco = CocoFile(split.annotations, ImageFolder(split.images, also_in))
    name = f"{split.dataset} {Path(split.annotations).name}"
    collector = Collector(name, coco.file, split)
    seen: set[str] = set()
    for image, entry, rows in coco.images():
        if not collector.open_image(image, entry, len(rows)):
            continue
        for index, annotation in rows:
            at = ("annotations", index)
            region_id = id_of(coco, annotation, index)
            claim(seen, region_id, coco.file, *at, "id")
            if coco.is_crowd(annotation, *at):
                collector.drop(CROWD)
                continue
            phrase = phrase_of(coco, annotation, index)
            box_xywh = coco.box_xywh(annotation, *at)
            collector.add(region_id, box_xywh, (phrase,), given_mask(annotation))
    return collector.finish()
