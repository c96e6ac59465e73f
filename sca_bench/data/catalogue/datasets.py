"""The data sets of the paper: where their files come from, where they go, what they should hold.

No checksum stands here, since none was published by the data sets' authors: what is seen first is
recorded beside the data and compared from then on (`prepare`).
"""

from __future__ import annotations

from sca_bench.data.catalogue.splits import (
    annotated_splits,
    refcoco_split,
    visual_genome_split,
)
from sca_bench.data.catalogue.types import DataSet, PublishedCount, Remote
from sca_bench.errors import InputError, did_you_mean

_VG = "https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset"
_VG_IMAGES = "https://cs.stanford.edu/people/rak248/VG_100K_2"
_DENSECAP = "https://raw.githubusercontent.com/jcjohnson/densecap/master/info/densecap_splits.json"
_GRIT = "https://datarelease.blob.core.windows.net/grit/VG_preprocessed_annotations"
_COCO = "http://images.cocodataset.org"
_OBJECTS365 = (
    "https://dorc.ks3-cn-beijing.ksyun.com/data-set/2020Objects365%E6%95%B0%E6%8D%AE%E9%9B%86"
)
_REFER = "http://bvisionweb1.cs.unc.edu/licheng/referit/data"
_V3DET = "https://v3det.openxlab.org.cn"
_TRAIN_VAL = ("train", "val")
_DENSECAP_PAPER = "jcjohnson/densecap; counted by the authors of Segment and Caption Anything"
_TFDS = "TensorFlow Datasets, ref_coco"


def _zip(path: str, base: str, to: str, *gives: str) -> Remote:
    return Remote(path, gives, f"{base}/{path.rpartition('/')[2]}", to)


_VG_IMAGE_FILES = (
    _zip("images.zip", _VG_IMAGES, "images", "images/VG_100K"),
    _zip("images2.zip", _VG_IMAGES, "images", "images/VG_100K_2"),
)
_COCO_IMAGES = (
    _zip("train2017.zip", f"{_COCO}/zips", ".", "train2017"),
    _zip("val2017.zip", f"{_COCO}/zips", ".", "val2017"),
)


_REFCOCO = {
    ("refcoco", "unc"): {
        "train": (16994, 42404),
        "val": (1500, 3811),
        "testA": (750, 1975),
        "testB": (750, 1810),
    },
    ("refcoco+", "unc"): {
        "train": (16992, 42278),
        "val": (1500, 3805),
        "testA": (750, 1975),
        "testB": (750, 1798),
    },
    ("refcocog", "umd"): {"train": (21899, 42226), "val": (1300, 2573), "test": (2600, 5023)},
    ("refcocog", "google"): {"train": (24698, 44822), "val": (4650, 5000)},
}
"""Images and referred objects of each split."""


def _objects365_remotes() -> tuple[Remote, ...]:
    files = [
        Remote(
            "annotations/zhiyuan_objv2_train.tar.gz",
            ("annotations/zhiyuan_objv2_train.json",),
            f"{_OBJECTS365}/train/zhiyuan_objv2_train.tar.gz",
            "annotations",
        ),
        Remote(
            "annotations/zhiyuan_objv2_val.json",
            ("annotations/zhiyuan_objv2_val.json",),
            f"{_OBJECTS365}/val/zhiyuan_objv2_val.json",
        ),
    ]
    for split, patches in (("train", 51), ("val", 44)):
        for number in range(patches):
            version = f"/images/v{1 if number < 16 else 2}" if split == "val" else ""
            url = f"{_OBJECTS365}/{split}{version}/patch{number}.tar.gz"
            gives = (f"{split}/patch{number}",)
            files.append(Remote(f"{split}/patch{number}.tar.gz", gives, url, split))
    return tuple(files)


DATASETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            "visual_genome",
            "CC BY 4.0",
            "https://homes.cs.washington.edu/~ranjay/visualgenome",
            (
                _zip("region_descriptions.json.zip", _VG, ".", "region_descriptions.json"),
                _zip("image_data.json.zip", _VG, ".", "image_data.json"),
                Remote("densecap_splits.json", ("densecap_splits.json",), _DENSECAP, size=781_860),
                *_VG_IMAGE_FILES,
            ),
            {split: visual_genome_split(split) for split in ("train", "val", "test")},
            {
                "train": PublishedCount(77_398, 3_684_063, _DENSECAP_PAPER),
                "val": PublishedCount(5_000, None, _DENSECAP_PAPER),
                "test": PublishedCount(5_000, 238_069, _DENSECAP_PAPER),
            },
            (("train", "val", "test"),),
            also_read=(visual_genome_split("val", max_images=200),),
            coco_ids="image_data.json",
        ),
        DataSet(
            "visual_genome_grit",
            "CC BY 4.0 (Visual Genome)",
            "https://github.com/JialianW/GRiT/blob/master/datasets/DATASETS.md",
            (
                *(
                    Remote(f"annotations/{s}.json", (f"annotations/{s}.json",), f"{_GRIT}/{s}.json")
                    for s in ("train", "test")
                ),
                *_VG_IMAGE_FILES,
            ),
            annotated_splits("visual_genome_grit", "images", "{}.json", "train", "test"),
            {
                "train": PublishedCount(77_396, 3_596_689, "GRiT's files"),
                "test": PublishedCount(5_000, 232_935, "GRiT's files"),
            },
            (("train", "test"),),
        ),
        DataSet(
            "coco",
            "CC BY 4.0 (annotations); photos: Flickr terms",
            "https://cocodataset.org",
            (
                _zip(
                    "annotations_trainval2017.zip",
                    f"{_COCO}/annotations",
                    ".",
                    "annotations/instances_train2017.json",
                    "annotations/instances_val2017.json",
                ),
                *_COCO_IMAGES,
            ),
            annotated_splits("coco_instances", "{}2017", "instances_{}2017.json", *_TRAIN_VAL),
            {
                "train": PublishedCount(118_287, None, "cocodataset.org"),
                "val": PublishedCount(5_000, None, "cocodataset.org"),
            },
            (("train", "val"),),
        ),
        DataSet(
            "coco_panoptic",
            "CC BY 4.0 (annotations); photos: Flickr terms",
            "https://cocodataset.org",
            (
                _zip(
                    "panoptic_annotations_trainval2017.zip",
                    f"{_COCO}/annotations",
                    ".",
                    "annotations/panoptic_train2017.json",
                    "annotations/panoptic_val2017.json",
                ),
                *(
                    Remote(
                        f"annotations/panoptic_{split}2017.zip",
                        (f"annotations/panoptic_{split}2017",),
                        unpack_to="annotations",
                    )
                    for split in ("train", "val")
                ),
                *_COCO_IMAGES,
            ),
            annotated_splits("coco_panoptic", "{}2017", "panoptic_{}2017.json", *_TRAIN_VAL),
            {
                "train": PublishedCount(118_287, None, "cocodataset.org"),
                "val": PublishedCount(5_000, None, "cocodataset.org"),
            },
            (("train", "val"),),
        ),
        DataSet(
            "objects365",
            "CC BY 4.0 (annotations); photos: see the page",
            "https://www.objects365.org",
            _objects365_remotes(),
            annotated_splits("objects365", "{}", "zhiyuan_objv2_{}.json", *_TRAIN_VAL),
            {
                "train": PublishedCount(1_742_289, None, "Segment and Caption Anything"),
                "val": PublishedCount(80_000, None, "the file of the data set's authors"),
            },
            (("train", "val"),),
        ),
        DataSet(
            "v3det",
            "CC BY 4.0 (annotations); photos: Flickr terms",
            _V3DET,
            (
                *(
                    Remote(
                        f"annotations/v3det_2023_v1_{split}.json",
                        (f"annotations/v3det_2023_v1_{split}.json",),
                        by_hand=f"{_V3DET}/download",
                    )
                    for split in ("train", "val")
                ),
                Remote(
                    "images",
                    ("images",),
                    by_hand=f"v3det_image_download.py of {_V3DET}/download",
                ),
            ),
            annotated_splits("v3det", "images", "v3det_2023_v1_{}.json", *_TRAIN_VAL),
            {
                "train": PublishedCount(183_354, None, "V3Det, README"),
                "val": PublishedCount(29_821, None, "V3Det, README"),
            },
            (("train", "val"),),
        ),
        DataSet(
            "refcoco",
            "CC BY 4.0 (COCO's annotations); expressions: see the page",
            "https://github.com/lichengunc/refer",
            (
                *(
                    _zip(
                        f"{name}.zip",
                        _REFER,
                        ".",
                        f"{name}/instances.json",
                        *(f"{name}/refs({by}).p" for by in partitions),
                    )
                    for name, partitions in (
                        ("refcoco", ("unc",)),
                        ("refcoco+", ("unc",)),
                        ("refcocog", ("umd", "google")),
                    )
                ),
                _zip("train2014.zip", f"{_COCO}/zips", ".", "train2014"),
            ),
            {
                f"{name} {by} {split}": refcoco_split(name, by, split)
                for (name, by), splits in _REFCOCO.items()
                for split in splits
            },
            {
                f"{name} {by} {split}": PublishedCount(*counts, _TFDS)
                for (name, by), splits in _REFCOCO.items()
                for split, counts in splits.items()
            },
            tuple(
                tuple(f"{name} {by} {split}" for split in splits)
                for (name, by), splits in _REFCOCO.items()
                if by != "google"
            ),
            shared=(("refcocog google train", "refcocog google val"),),
        ),
    )
}


def get_dataset(name: str) -> DataSet:
    """Return a data set by name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in DATASETS:
        raise InputError(
            "data", name, "no such data set", did_you_mean(name, DATASETS, "list datasets")
        )
    return DATASETS[name]
