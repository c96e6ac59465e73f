"""Small files in the real formats, and the big real ones where they are at hand."""

import json
import threading

import numpy as np
import pytest
from helpers.given import given_folder
from helpers.server import Server
from PIL import Image

from sca_bench.settings import CocoInstancesSplit, CocoPanopticSplit, VisualGenomeSplit


def write(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def photo(path, width, height, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def vg_region(number, image, phrase, box, version="1.2"):
    keys = ("region_id", "image_id") if version == "1.2" else ("id", "image")
    record = dict(zip(("x", "y", "width", "height"), box, strict=True))
    return {keys[0]: number, keys[1]: image, "phrase": phrase, **record}


class VisualGenomeFiles:
    """Two images, one in each VG folder, and five regions; edit, then `split()`."""

    def __init__(self, folder, version="1.2"):
        self.folder, self.images = folder, folder / "images"
        self.regions = [
            {
                "id": 1,
                "regions": [
                    vg_region(11, 1, "the clock is green ", (4, 2, 10, 8), version),
                    vg_region(12, 1, "a man on the left", (0, 0, 40, 30), version),
                    vg_region(13, 1, "red  car", (30, 20, 20, 20), version),
                ],
            },
            {
                "id": 2,
                "regions": [
                    vg_region(21, 2, "a tree", (1, 1, 5, 5), version),
                    vg_region(22, 2, "grass", (0, 10, 20, 10), version),
                ],
            },
        ]
        base = "https://cs.stanford.edu/people/rak248"
        self.image_data = [
            {"image_id": 1, "width": 40, "height": 30, "url": f"{base}/VG_100K_2/1.jpg"},
            {"image_id": 2, "width": 20, "height": 20, "url": f"{base}/VG_100K/2.jpg"},
        ]

    def split(self, **changes):
        settings = {
            "dataset": "visual_genome",
            "images": str(self.images),
            "regions": write(self.folder / "region_descriptions.json", self.regions),
            "image_data": write(self.folder / "image_data.json", self.image_data),
        }
        return VisualGenomeSplit(**(settings | changes))


class InstanceFiles:
    """Three images (two of train2017), five annotations: polygon, both RLE forms, crowd, plain."""

    def __init__(self, folder):
        self.folder, self.images = folder, folder / "images"
        url = "http://images.cocodataset.org"
        self.content = {
            "images": [
                {"id": 7, "width": 8, "height": 6, "file_name": "7.png"},
                {"id": 8, "width": 8, "height": 6, "file_name": "8.png"},
                {"id": 9, "width": 5, "height": 5, "file_name": "9.png"},
            ],
            "annotations": [
                {
                    "id": 70,
                    "image_id": 7,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [1, 1, 4, 3],
                    "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]],
                },
                {
                    "id": 90,
                    "image_id": 9,
                    "category_id": 2,
                    "iscrowd": 0,
                    "bbox": [0.5, 0.5, 3, 3.25],
                    "segmentation": [],
                },
                {
                    "id": 71,
                    "image_id": 7,
                    "category_id": 1,
                    "iscrowd": 1,
                    "bbox": [0, 0, 8, 6],
                    "segmentation": {"size": [6, 8], "counts": [0, 48]},
                },
                {
                    "id": 80,
                    "image_id": 8,
                    "category_id": 2,
                    "iscrowd": 0,
                    "bbox": [0, 0, 1, 3],
                    "segmentation": {"size": [6, 8], "counts": [0, 3, 45]},
                },
                {"id": 81, "image_id": 8, "category_id": 1, "bbox": [2, 2, 4, 4]},
            ],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "Cabinet/shelf"}],
        }
        for image, folder_name in zip(
            self.content["images"], ("train2017", "train2017", "val2017"), strict=True
        ):
            image["coco_url"] = f"{url}/{folder_name}/{image['file_name']}"

    def split(self, **changes):
        settings = {
            "dataset": "coco_instances",
            "images": str(self.images),
            "annotations": write(self.folder / "instances.json", self.content),
            "min_side_px": 0,
        }
        return CocoInstancesSplit(**(settings | changes))


class PanopticFiles:
    """One 6 x 4 image of three segments: left third, a crowd, the rest."""

    def __init__(self, folder):
        self.folder, self.images, self.pngs = folder, folder / "images", folder / "pngs"
        self.pngs.mkdir()
        ids = np.full((4, 6), 70_000)
        ids[:, :2] = 3
        ids[0, 5] = 300
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(self.pngs / "5.png")
        self.segments = [
            {"id": 3, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 2, 4], "area": 8},
            {"id": 300, "category_id": 1, "iscrowd": 1, "bbox": [5, 0, 1, 1], "area": 1},
            {"id": 70_000, "category_id": 199, "iscrowd": 0, "bbox": [2, 0, 4, 4], "area": 15},
        ]
        self.content = {
            "images": [{"id": 5, "width": 6, "height": 4, "file_name": "5.jpg"}],
            "annotations": [{"image_id": 5, "file_name": "5.png", "segments_info": self.segments}],
            "categories": [
                {"id": 1, "name": "person", "isthing": 1},
                {"id": 199, "name": "wall-other-merged", "isthing": 0},
            ],
        }

    def split(self, **changes):
        settings = {
            "dataset": "coco_panoptic",
            "images": str(self.images),
            "annotations": write(self.folder / "panoptic.json", self.content),
            "panoptic": str(self.pngs),
            "min_side_px": 0,
        }
        return CocoPanopticSplit(**(settings | changes))


@pytest.fixture
def vg(tmp_path):
    return VisualGenomeFiles(tmp_path)


@pytest.fixture
def instances(tmp_path):
    return InstanceFiles(tmp_path)


@pytest.fixture
def panoptic(tmp_path):
    return PanopticFiles(tmp_path)


@pytest.fixture(params=["1.0", "1.2"])
def vg_of_version(request, tmp_path):
    return VisualGenomeFiles(tmp_path, request.param)


@pytest.fixture
def make_photo():
    return photo


@pytest.fixture
def write_json():
    return write


@pytest.fixture
def real_data():
    """The folder of real excerpts; a test that uses it says why it is skipped."""
    return given_folder("SCA_BENCH_DATA_DIR", "coco_mini_permissive", "vg_real_5images")


@pytest.fixture
def server():
    """A server on 127.0.0.1 for the time of a test."""
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()
