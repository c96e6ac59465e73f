"""What this package's own readers and encoders are tried with: small data in the real formats.

A spec names one of these functions in its `example`. Each gets a folder and makes its files there.

Source: the formats are described where each reader names its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sca_bench.contract.broken import skip

_SIZE_WH = (40, 30)
_BOXES_XYWH = ((4, 2, 10, 8), (0, 0, 40, 30))
_CAPTIONS = ("the clock is green", "a man on the left", "a tree", "some grass")


def scenes(folder: Path) -> dict[str, Any]:
    """Return two rendered scenes."""
    return {"num_images": 2, "first_seed": 7}


def mixture(folder: Path) -> dict[str, Any]:
    """Return two data sets of one rendered scene each."""
    parts = [{"dataset": "scenes", "num_images": 1, "first_seed": seed} for seed in (0, 9)]
    return {"parts": [{"weight": 1 + n, "split": part} for n, part in enumerate(parts)]}


def visual_genome(folder: Path) -> dict[str, Any]:
    """Return two images with two regions each, as Visual Genome 1.2 has them."""
    images = _photos(folder, ("VG_100K_2/1.jpg", "VG_100K/2.jpg"))
    width, height = _SIZE_WH
    image_data = [
        {"image_id": image, "width": width, "height": height, "url": f"https://x.org/{name}"}
        for image, name in ((1, "VG_100K_2/1.jpg"), (2, "VG_100K/2.jpg"))
    ]
    regions = [
        {
            "id": image,
            "regions": [
                {
                    "region_id": 10 * image + number,
                    "image_id": image,
                    "phrase": _CAPTIONS[2 * image - 2 + number],
                    **dict(zip(("x", "y", "width", "height"), box, strict=True)),
                }
                for number, box in enumerate(_BOXES_XYWH)
            ],
        }
        for image in (1, 2)
    ]
    return {
        "images": images,
        "regions": _json(folder / "region_descriptions.json", regions),
        "image_data": _json(folder / "image_data.json", image_data),
    }


def instances(folder: Path) -> dict[str, Any]:
    """Return two images with two regions each in COCO's layout, with classes and captions."""
    content = _coco(("1.jpg", "2.jpg"))
    images = _photos(folder, ("1.jpg", "2.jpg"))
    return {"images": images, "annotations": _json(folder / "instances.json", content)}


def panoptic(folder: Path) -> dict[str, Any]:
    """Return an image of two segments, as COCO panoptic has them."""
    images, width, height = _photos(folder, ("5.jpg",)), *_SIZE_WH
    ids = np.full((height, width), 70_000)
    ids[:, : width // 2] = 3
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    (folder / "pngs").mkdir()
    Image.fromarray(colours).save(folder / "pngs" / "5.png")
    left, right = [0, 0, width // 2, height], [width // 2, 0, width // 2, height]
    segments = [
        {"id": 3, "category_id": 1, "iscrowd": 0, "bbox": left, "area": height * width // 2},
        {"id": 70_000, "category_id": 2, "iscrowd": 0, "bbox": right, "area": height * width // 2},
    ]
    content = {
        "images": [{"id": 5, "width": width, "height": height, "file_name": "5.jpg"}],
        "annotations": [{"image_id": 5, "file_name": "5.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 2, "name": "wall-other-merged", "isthing": 0},
        ],
    }
    annotations = _json(folder / "panoptic.json", content)
    return {"images": images, "annotations": annotations, "panoptic": str(folder / "pngs")}


def refcoco(folder: Path) -> dict[str, Any]:
    """Return two images with two referred objects each, as RefCOCO has them."""
    names = ("COCO_train2014_1.jpg", "COCO_train2014_2.jpg")
    content = _coco(names)
    refs = [
        {
            "ref_id": 7 * one["id"],
            "ann_id": one["id"],
            "category_id": 1,
            "image_id": one["image_id"],
            "split": "train",
            "sentences": [{"sent": one["caption"], "raw": one["caption"], "sent_id": one["id"]}],
            "file_name": names[one["image_id"] - 1],
        }
        for one in content["annotations"]
    ]
    return {
        "images": _photos(folder, names),
        "refs": _json(folder / "refs.json", refs),
        "instances": _json(folder / "instances.json", content),
    }


def regions(folder: Path) -> dict[str, Any]:
    """Return a table of one's own with three regions of two images."""
    rows = [
        {"image": "a.jpg", "box_xyxy": [4, 2, 14, 10], "captions": ["the clock", "a clock"]},
        {"image": "a.jpg", "box_xywh": [0, 0, 40, 30], "caption": "a wall"},
        {"image": "b.jpg", "box_xyxy": [1, 1, 9, 9], "caption": "a tree"},
    ]
    table = folder / "regions.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return {"images": _photos(folder, ("a.jpg", "b.jpg")), "table": str(table)}


def onnx_file(folder: Path) -> dict[str, Any]:
    """Return an ONNX file with one convolution of the tiny SAM's sizes."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        skip(f"{error.name} is not installed, so that no file can be made or run")
    side, channels, grid = 96, 96, 12
    weight = np.random.default_rng(0).normal(size=(channels, 3, 8, 8)).astype(np.float32)
    value, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["input", "weight"], ["output"], strides=[8, 8])],
        "encoder",
        [value("input", number, ["B", 3, side, side])],
        [value("output", number, ["B", channels, grid, grid])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "encoder.onnx")
    return {"encoder.path": str(folder / "encoder.onnx")}


def _coco(names: Sequence[str]) -> dict[str, Any]:
    width, height = _SIZE_WH
    return {
        "images": [
            {"id": image, "width": width, "height": height, "file_name": name}
            for image, name in enumerate(names, 1)
        ],
        "annotations": [
            {
                "id": 10 * image + number,
                "image_id": image,
                "category_id": 1 + number,
                "iscrowd": 0,
                "bbox": list(box),
                "caption": _CAPTIONS[2 * image - 2 + number],
            }
            for image in range(1, len(names) + 1)
            for number, box in enumerate(_BOXES_XYWH)
        ],
        "categories": [{"id": 1, "name": "clock"}, {"id": 2, "name": "wall"}],
    }


def _photos(folder: Path, names: Sequence[str]) -> str:
    """Write images of noise; return their folder."""
    images, (width, height) = folder / "images", _SIZE_WH
    for seed, name in enumerate(names):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return str(images)


def _json(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)
