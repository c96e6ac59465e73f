"""The splits of the catalogue's data sets, as settings over a root folder.

All boxes count here, however small: the counts are compared with published ones.
"""

from __future__ import annotations

from sca_bench.data.catalogue_types import SplitOf
from sca_bench.settings import (
    CocoInstancesSplit,
    CocoPanopticSplit,
    GritSplit,
    Objects365Split,
    RefCocoSplit,
    V3DetSplit,
    VisualGenomeSplit,
)


def visual_genome_split(split: str) -> SplitOf:
    """Return a split of Visual Genome in the densecap split."""
    return lambda root: VisualGenomeSplit(
        dataset="visual_genome",
        images=str(root / "images"),
        regions=str(root / "region_descriptions.json"),
        image_data=str(root / "image_data.json"),
        image_ids=str(root / "densecap_splits.json"),
        split=split,
        min_side_px=0,
    )


def grit_split(split: str) -> SplitOf:
    """Return a split of GRiT's Visual Genome."""
    return lambda root: GritSplit(
        dataset="visual_genome_grit",
        images=str(root / "images"),
        annotations=str(root / "annotations" / f"{split}.json"),
        min_side_px=0,
    )


def coco_split(split: str) -> SplitOf:
    """Return a split of COCO instances 2017."""
    return lambda root: CocoInstancesSplit(
        dataset="coco_instances",
        images=str(root / f"{split}2017"),
        annotations=str(root / "annotations" / f"instances_{split}2017.json"),
        min_side_px=0,
    )


def panoptic_split(split: str) -> SplitOf:
    """Return a split of COCO panoptic 2017, without masks."""
    return lambda root: CocoPanopticSplit(
        dataset="coco_panoptic",
        images=str(root / f"{split}2017"),
        annotations=str(root / "annotations" / f"panoptic_{split}2017.json"),
        min_side_px=0,
    )


def objects365_split(split: str) -> SplitOf:
    """Return a split of Objects365 v2."""
    return lambda root: Objects365Split(
        dataset="objects365",
        images=str(root / split),
        annotations=str(root / "annotations" / f"zhiyuan_objv2_{split}.json"),
        min_side_px=0,
    )


def v3det_split(split: str) -> SplitOf:
    """Return a split of V3Det."""
    return lambda root: V3DetSplit(
        dataset="v3det",
        images=str(root),
        annotations=str(root / "annotations" / f"v3det_2023_v1_{split}.json"),
        min_side_px=0,
    )


def refcoco_split(folder: str, by: str, split: str) -> SplitOf:
    """Return a split of RefCOCO, RefCOCO+ or RefCOCOg, as one partition (`by`) divides it."""
    return lambda root: RefCocoSplit(
        dataset="refcoco",
        images=str(root / "train2014"),
        refs=str(root / folder / f"refs({by}).p"),
        instances=str(root / folder / "instances.json"),
        split=split,
        min_side_px=0,
    )
