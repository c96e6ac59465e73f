"""The splits of the catalogue's data sets, as settings over a root folder.

Sizes and selections are those of the profiles, so that an index made for one of these serves a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sca_bench.data.catalogue.types import SplitOf
from sca_bench.settings.splits import FileSplit
from sca_bench.specs.readers import READERS


def _split_of(dataset: str, paths: dict[str, str], **others: Any) -> SplitOf:
    """Return what makes a split's settings of a root.

    Args:
        dataset: Its reader.
        paths: Path setting -> where it leads below the root.
        **others: Its other settings.
    """

    def make(root: Path) -> FileSplit:
        given = {key: str(root / below) for key, below in paths.items()}
        split: FileSplit = READERS.get(dataset).settings(dataset=dataset, **given, **others)
        return split

    return make


def visual_genome_split(split: str, max_images: int | None = None) -> SplitOf:
    """Return a split of Visual Genome in the densecap split, or the beginning of one.

    All of its regions and phrases count, as in the profile `paper`.
    """
    paths = {
        "images": "images",
        "regions": "region_descriptions.json",
        "image_data": "image_data.json",
        "image_ids": "densecap_splits.json",
    }
    published = ("regions", "white_space")
    others = {"split": split, "max_images": max_images, "as_published": published}
    return _split_of("visual_genome", paths, **others)


def annotated_splits(
    dataset: str, images: str, annotations: str, *splits: str
) -> dict[str, SplitOf]:
    """Return splits of one annotation file each, by name.

    Args:
        dataset: Their reader.
        images: The images folder below the root, with `{}` for the name of the split.
        annotations: Likewise the file below `annotations/`.
        *splits: The names.
    """
    return {
        name: _split_of(
            dataset,
            {
                "images": images.format(name),
                "annotations": f"annotations/{annotations.format(name)}",
            },
        )
        for name in splits
    }


def refcoco_split(folder: str, by: str, split: str) -> SplitOf:
    """Return a split of RefCOCO, RefCOCO+ or RefCOCOg, as one partition (`by`) divides it."""
    paths = {
        "images": "train2014",
        "refs": f"{folder}/refs({by}).p",
        "instances": f"{folder}/instances.json",
    }
    return _split_of("refcoco", paths, split=split)
