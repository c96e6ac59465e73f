"""Made-up photos in both annotation layouts, a SAM of eight-pixel patches with an ONNX encoder, and
a text decoder trained for a moment."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

from sca_bench.embedded.caption_lm import CaptionLmRecipe, build_caption_lm
from sca_bench.models.sam.sam import build_sam
from sca_bench.specs.encoders import sam_dims

COLOURS = {"red kite": (220, 40, 40), "green bus": (40, 180, 60), "sea": (30, 60, 200)}
TRAIN, TEST = (11, 12, 13), (21, 22)
UNSEEN = "old boat"  # the last region of the last test photo; in no training photo
WIDTH, HEIGHT = 120, 80


def _save_photo(path, rng, boxes):
    pixels = rng.integers(90, 140, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for (x, y, w, h), colour in boxes:
        pixels[y : y + h, x : x + w] = colour
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """Five photos with two large regions each and a small one that `min_side_px` drops."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    names = [*COLOURS, UNSEEN]
    coco = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    described, image_data = [], []
    for number, image in enumerate((*TRAIN, *TEST)):
        split = "train2017" if image in TRAIN else "val2017"
        first, second = names[number % 3], names[(number + 1) % 3]
        regions = [(first, (5, 10, 40, 45)), (second, (60, 25, 50, 40)), (first, (2, 65, 12, 12))]
        if image == TEST[-1]:
            regions[1] = (UNSEEN, regions[1][1])
        drawn = [(box, COLOURS.get(name, (250, 250, 10))) for name, box in regions]
        _save_photo(folder / "images" / f"{image:012d}.png", rng, drawn)
        url = f"http://example.org/{split}/{image:012d}.png"
        image_data.append(
            {"image_id": image, "coco_id": image, "width": WIDTH, "height": HEIGHT, "url": url}
        )
        coco["images"].append(
            {
                "id": image,
                "width": WIDTH,
                "height": HEIGHT,
                "file_name": f"{image:012d}.png",
                "coco_url": url,
            }
        )
        rows = []
        for place, (name, (x, y, w, h)) in enumerate(regions):
            key = 10 * image + place
            rows.append(
                {
                    "region_id": key,
                    "image_id": image,
                    "phrase": name,
                    **{"x": x, "y": y, "width": w, "height": h},
                }
            )
            category = names.index(name) + 1
            coco["annotations"].append(
                {"id": key, "image_id": image, "category_id": category, "bbox": [x, y, w, h]}
                | {"iscrowd": 0}
            )
        described.append({"id": image, "regions": rows})
    for name, content in (
        ("region_descriptions.derived.json", described),
        ("image_data.derived.json", image_data),
        ("instances.json", coco),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory):
    """An ONNX image encoder (one strided convolution) and untrained SAM weights beside it."""
    folder = tmp_path_factory.mktemp("sam")
    dims = sam_dims("tiny")
    size, patch, channels = dims.image_size, dims.patch_size, dims.embed_dim
    kernel = np.random.default_rng(1).normal(0, 0.1, (channels, 3, patch, patch))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "kernel"], ["output"], strides=[patch, patch])],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])],
        [
            helper.make_tensor_value_info(
                "output", TensorProto.FLOAT, ["batch", channels, dims.grid, dims.grid]
            )
        ],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, folder / "image_encoder.onnx")
    sam = build_sam("tiny", random_seed=3)
    tensors = {k: v for k, v in sam.state_dict().items() if not k.startswith("image_encoder.")}
    save_file(tensors, folder / "prompt_encoder_mask_decoder.safetensors")
    return folder


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory, photo_folder):
    """A text decoder of 16 channels, a few steps old."""
    folder = tmp_path_factory.mktemp("lm")
    rows = [{"image_id": 99, "caption": f"a {name} near a road"} for name in COLOURS]
    rows.append({"image_id": 11, "caption": "a photo of the suite, which is left out"})
    (folder / "captions.json").write_text(json.dumps({"annotations": rows}))
    build_caption_lm(
        folder / "captions.json",
        [photo_folder / "region_descriptions.derived.json"],
        [photo_folder / "image_data.derived.json"],
        folder / "lm",
        CaptionLmRecipe(steps=3, width=16, num_heads=2, captions_per_step=4, min_count=1),
        say=lambda line: None,
    )
    return folder / "lm"
