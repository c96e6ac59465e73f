"""How each data set lies under its root folder, for the command line's help. Plain text only."""

from __future__ import annotations

LAYOUTS = {
    "visual_genome": (
        "images/VG_100K/ images/VG_100K_2/ region_descriptions.json image_data.json "
        "densecap_splits.json"
    ),
    "visual_genome_grit": "images/VG_100K/ images/VG_100K_2/ annotations/{train,test}.json",
    "coco": "train2017/ val2017/ annotations/instances_{train,val}2017.json",
    "coco_panoptic": (
        "train2017/ val2017/ annotations/panoptic_{train,val}2017.json "
        "annotations/panoptic_{train,val}2017/"
    ),
    "objects365": (
        "train/patch0/ ... train/patch50/ val/patch0/ ... val/patch43/ "
        "annotations/zhiyuan_objv2_{train,val}.json"
    ),
    "v3det": "images/CATEGORY/ annotations/v3det_2023_v1_{train,val}.json",
    "refcoco": "train2014/ refcoco/ refcoco+/ refcocog/, each with instances.json and refs(...).p",
}


def layout_help() -> str:
    """Return the layouts as the last part of a help text."""
    rows = "\n".join(f"  {name}\n    {layout}" for name, layout in LAYOUTS.items())
    return f"what lies where under --root:\n{rows}"
