"""The splits of the catalogue's data sets, as settings over a root folder.

Sizes and selections are those of the profiles, so that an index made for one of these serves a run.
"""

from __future__ import annotations

from sca_bench.data.catalogue.types import SplitOf
from sca_bench.settings import (
    CocoInstancesSplit,
    CocoPanopticSplit,
    GritSplit,
    Objects365Split,
    RefCocoSplit,
    V3DetSplit,
    VisualGenomeSplit,
)


def visual_genome_split(split: str, max_images: int | None = None) -> SplitOf:
    """Return a split of Visual Genome in the densecap split, or the beginning of one.

    All of its regions and phrases count, as in the profile `paper`.
    """
    return lambda root: VisualGenomeSplit(
        dataset="visual_genome",
        images=str(root / "images"),
        regions=str(root / "region_descriptions.json"),
        image_data=str(root / "image_data.json"),
        image_ids=str(root / "densecap_splits.json"),
        split=split,
        max_images=max_images,
        as_published=("regions", "white_space"),
    )


def grit_split(split: str) -> SplitOf:
    """Return a split of GRiT's Visual Genome."""
    return lambda root: GritSplit(
        dataset="visual_genome_grit",
        images=str(root / "images"),
        annotations=str(root / "annotations" / f"{split}.json"),
    )


def coco_split(split: str) -> SplitOf:
    """Return a split of COCO instances 2017."""
    return lambda root: CocoInstancesSplit(
        dataset="coco_instances",
        images=str(root / f"{split}2017"),
        annotations=str(root / "annotations" / f"instances_{split}2017.json"),
    )


def panoptic_split(split: str) -> SplitOf:
    """Return a split of COCO panoptic 2017, without masks."""
    return lambda root: CocoPanopticSplit(
        dataset="coco_panoptic",
        images=str(root / f"{split}2017"),
        annotations=str(root / "annotations" / f"panoptic_{split}2017.json"),
    )


def objects365_split(split: str) -> SplitOf:
    """Return a split of Objects365 v2."""
    return lambda root: Objects365Split(
        dataset="objects365",
        images=str(root / split),
        annotations=str(root / "annotations" / f"zhiyuan_objv2_{split}.json"),
    )


def v3det_split(split: str) -> SplitOf:
    """Return a split of V3Det."""
    return lambda root: V3DetSplit(
        dataset="v3det",
        images=str(root / "images"),
        annotations=str(root / "annotations" / f"v3det_2023_v1_{split}.json"),
    )


def refcoco_split(folder: str, by: str, split: str) -> SplitOf:
    """Return a split of RefCOCO, RefCOCO+ or RefCOCOg, as one partition (`by`) divides it."""
    return lambda root: RefCocoSplit(
        dataset="refcoco",
        images=str(root / "train2014"),
        refs=str(root / folder / f"refs({by}).p"),
        instances=str(root / folder / "instances.json"),
        split=split,
    )
