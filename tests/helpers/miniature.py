"""A miniature of every variant: small inputs, its settings, and every change to one of them.

`CHANGES` names for each setting what else it may be, and for each input what else it may hold:
other content, a byte-equal copy, another spelling. A setting that `CHANGES` does not name is found
by `unnamed_settings`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file

from sca_bench.study.suite.merge import known_paths, merge, nest
from sca_bench.weight_paths import WEIGHTS_DIR

CAPTIONS = ("red circle", "blue square", "large cross", "small star")
SPLITS = {"train": 3, "val": 1, "test": 2}
"""Images of each split, two regions each."""
LINKED = "linked"
"""Sub-folder of the images that is a link, as a data set on another disk often is."""
MANY = 70
"""So many files lie beside the images that nobody reads."""

# --- inputs -------------------------------------------------------------------------------------


def write_inputs(folder: Path, decoder: Path) -> None:
    """Write everything that settings of the miniature may name, `BASE` and `CHANGES` both."""
    write_photos(folder / "photos", folder / "disk")
    shutil.copytree(folder / "photos", folder / "photos_copy", symlinks=True)
    write_photos(folder / "photos_others", folder / "disk", seed=5)
    write_photos(folder / "photos_behind_link", folder / "disk_others", linked_seed=5)
    write_annotations(folder / "annotations")
    shutil.copytree(folder / "annotations", folder / "annotations_copy")
    write_annotations(folder / "annotations_words", words=CAPTIONS[::-1])
    write_annotations(folder / "annotations_boxes", shift=3)
    names = [name for split in SPLITS for name in image_names(split)]
    for file, kept in (("ids", names), ("ids_fewer", [n for n in names if "-1" not in n])):
        (folder / f"{file}.json").write_text(json.dumps({"all": kept, "again": kept}))
    sam = WEIGHTS_DIR / "sam_tiny_small.safetensors"
    shutil.copy(sam, folder / "sam_copy.safetensors")
    save_file(nudged(load_file(sam)), folder / "sam_others.safetensors")
    shutil.copytree(decoder, folder / "decoder")
    shutil.copytree(decoder, folder / "decoder_copy")
    shutil.copytree(decoder, folder / "decoder_others")
    tensors = nudged(load_file(decoder / "model.safetensors"))
    save_file(tensors, folder / "decoder_others" / "model.safetensors", {"format": "pt"})
    write_encoder(folder / "encoder")
    shutil.copytree(folder / "encoder", folder / "encoder_copy")
    write_encoder(folder / "encoder_others", seed=1)
    write_predictions(folder / "said.jsonl")
    shutil.copy(folder / "said.jsonl", folder / "said_copy.jsonl")
    write_predictions(folder / "said_others.jsonl", words=CAPTIONS[::-1])


def image_names(split):
    """Return the ids of a split's images; those of the test split lie behind the link."""
    return [f"{split}-{number}" for number in range(SPLITS[split])]


def write_photos(folder, disk, seed=0, linked_seed=0):
    """Write image files of equal sizes, some behind a link to a folder elsewhere."""
    folder.mkdir()
    behind = disk / "photos" / folder.name
    behind.mkdir(parents=True)
    (folder / LINKED).symlink_to(behind, target_is_directory=True)
    for place, split in enumerate(SPLITS):
        there = split == "test"
        for number, name in enumerate(image_names(split)):
            draw = [place, number, linked_seed if there else seed]
            pixels = np.random.default_rng(draw).integers(0, 256, (4, 6, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((48, 32), Image.Resampling.NEAREST)
            picture.save((behind if there else folder) / f"{name}.bmp")
    for number in range(MANY):
        (folder / f"unread-{number}.bmp").write_bytes(b"no picture")


def write_annotations(folder, words=CAPTIONS, shift=0):
    folder.mkdir()
    for split in SPLITS:
        images, annotations = [], []
        for number, name in enumerate(image_names(split)):
            file = f"{LINKED}/{name}.bmp" if split == "test" else f"{name}.bmp"
            images.append({"id": name, "file_name": file, "width": 48, "height": 32})
            for region in range(2):
                box = [2 + 20 * region + shift, 3 + number, 16 + 6 * region, 20 - 2 * region]
                category = 1 + (number + region + len(split)) % len(words)
                own = {"id": f"{name}.{region}", "image_id": name, "iscrowd": 0}
                annotations.append(own | {"bbox": box, "category_id": category})
        categories = [{"id": i, "name": word} for i, word in enumerate(words, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))


def write_predictions(file, words=CAPTIONS):
    regions = [f"{name}.{r}" for split in SPLITS for name in image_names(split) for r in range(2)]
    rows = (
        {"region_id": region, "caption": words[i % len(words)], "log_prob": -0.5 - i / 7}
        for i, region in enumerate(regions)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_encoder(folder, seed=0):
    """Write an ONNX encoder, one convolution, with its weights in a file beside it."""
    folder.mkdir()
    weight = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) / 14
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weight"], ["output"], strides=[8, 8])],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 96, 96])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 96, 12, 12])],
        [numpy_helper.from_array(weight.numpy(), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    beside = {"save_as_external_data": True, "location": "encoder.data", "size_threshold": 0}
    onnx.save(model, folder / "encoder.onnx", **beside)


def nudged(tensors):
    """Return tensors of which each is a little other."""
    return {name: t * 1.25 if t.is_floating_point() else t for name, t in tensors.items()}


# --- settings -----------------------------------------------------------------------------------


def split_of(name):
    return {
        "dataset": "coco_instances",
        "images": "<in>/photos",
        "annotations": f"<in>/annotations/{name}.json",
    }


BASE = {
    "sam": {"size": "tiny_small", "weights": "embedded:sam_tiny_small"},
    "encoder": {"type": "onnx", "path": "<in>/encoder/encoder.onnx"},
    "text_decoder": {"weights": "<in>/decoder"},
    "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 16, "num_query_tokens": 8},
    "prefix": {"num_task_tokens": 2},
    "data": {"train": split_of("train"), "test": split_of("test")},
    "train": {
        "steps": 2,
        "images_per_batch": 2,
        "regions_per_image": 2,
        "learning_rate": 0.01,
        "warmup_steps": 1,
        "val_every": 2,
    },
    "eval": {"max_new_tokens": 3},
    "runtime": {"device": "cpu", "checkpoint_every": 2, "log_every": 1, "threads": 1},
}
"""Settings of the miniature; `<in>` is the folder of its inputs."""

_WORDS = "package:baselines.sam_captioner/weights/{}_scenes"
OWN = {
    "grit": {"baseline.size": "grit_tiny"},
    "grit_from_scratch": {"baseline.size": "grit_tiny"},
    "predictions": {"baseline.weights": "<in>/said.jsonl"},
    **{
        f"sam_{kind}": {"baseline.size": "tiny", "baseline.tokenizer": _WORDS.format(kind)}
        for kind in ("git", "blip", "blip2")
    },
}
"""What single variants need beside."""

STAGE = {
    "name": "before",
    "data": {"train": split_of("val")},
    "train": {"steps": 1, "images_per_batch": 1, "warmup_steps": 0},
}


def split_changes(name, *, of_training):
    """Return what else a split may be made of."""
    at, other = f"data.{name}", "<in>/annotations_{}/" + f"{name}.json"
    return {
        f"{at}.images": ["<in>/photos_copy", "<in>/photos/"],
        f"{at}.annotations": [other.format("copy"), other.format("words"), other.format("boxes")],
        f"{at}.task": ["recognition"] if of_training else [],
        f"{at}.min_side_px": [0.5, 17.0],
        f"{at}.image_ids": [],  # with `split`, below
        f"{at}.split": [],
        f"{at}.max_images": [SPLITS[name], 1],
        f"{at}.dataset": [],  # another reader, not another setting of this one
    }


CHANGES = {
    "variant": [],  # every variant has its turn
    "sam.size": ["tiny"],
    "sam.weights": ["<in>/sam_copy.safetensors", "<in>/sam_others.safetensors", "random"],
    "sam.random_seed": [7],
    "encoder.type": ["sam", "untrained"],
    "encoder.path": ["<in>/encoder_copy/encoder.onnx"],
    "mixer.num_layers": [2],
    "mixer.num_query_tokens": [3],
    "mixer.num_heads": [2],
    "mixer.mlp_dim": [24],
    "mixer.attention_downsample_rate": [1],
    "mixer.num_caption_heads": [2],
    "mixer.init_std": [0.05],
    "mixer.dropout": [0.3],
    "mixer.image_grid": [4, 12],
    "mixer.gradient_checkpointing": [True],
    "mixer.as_published": [True],
    "prefix.num_task_tokens": [3],
    "prefix.gain": [0.5],
    "prefix.projection": ["mlp"],
    "text_decoder.weights": ["<in>/decoder_copy", "<in>/decoder/", "<in>/decoder_others"],
    "text_decoder.trainable": [True],
    "text_decoder.learning_rate": [0.001],
    "text_decoder.dropout_in_training": [False],
    "text_decoder.gradient_checkpointing": [True],
    "baseline.weights": ["<in>/said_copy.jsonl", "<in>/said_others.jsonl", "<in>/decoder_others"],
    "baseline.size": ["box_tokens", "mask_token"],
    "baseline.tokenizer": ["<in>/decoder", "<in>/decoder_copy"],
    "baseline.random_seed": [3],
    "crop.source": ["box", "image"],
    "crop.margin": [0.25],
    "crop.background": ["white"],
    "crop.prompt": ["what_is_this"],
    "start_from": [],  # a training's own weights: see `started`
    "pretraining": [[STAGE]],
    "data.train": [],
    "data.val": [split_of("val"), {**split_of("val"), "min_side_px": 0.5}],
    "data.test": [],
    **split_changes("train", of_training=True),
    **split_changes("test", of_training=False),
    "data.flip": ["always", "unsided"],
    "data.lsj_scale": [[0.5, 1.5]],
    "data.lsj_as_published": [True],
    "data.permute_captions": [True],
    "data.blank_images": [True],
    "train.steps": [1],
    "train.images_per_batch": [1],
    "train.regions_per_image": [1],
    "train.learning_rate": [0.02],
    "train.betas": [[0.8, 0.99]],
    "train.weight_decay": [0.1, -0.0],
    "train.warmup_steps": [0],
    "train.final_lr_ratio": [0.5, -0.0],
    "train.clip_norm": [0.01],
    "train.label_smoothing": [0.2],
    "train.max_caption_tokens": [1],
    "train.prompt": ["box_point", "random_point"],
    "train.precision": ["bf16"],
    "train.order_seed": [11],
    "train.stacked": [True],
    "train.val_every": [1],
    "train.as_published": [["warmup"]],
    "eval.split": [],  # needs `data.val`, below
    "eval.prompt": ["box_point", "point", "random_point", "sam_mask_point"],
    "eval.prompt_seed": [3],
    "eval.select": ["first"],
    "eval.num_beams": [2],
    "eval.max_new_tokens": [2],
    "eval.also_train": [True],
    "features.cache": ["encoder", "off"],
    "features.dtype": ["bfloat16", "float16"],
    "features.encoder_dtype": ["bfloat16"],
    "runtime.cache_limit_gib": [1.0],
    "runtime.checkpoint_every": [1],
    "runtime.log_every": [2],
    "note": ["a remark"],
}
"""Dotted setting -> what else it may be; with nothing, the reason stands beside it."""

MORE = {
    "selection, another name of the same": {
        "data.train.image_ids": "<in>/ids.json",
        "data.train.split": "again",
    },
    "selection of fewer": {"data.test.image_ids": "<in>/ids_fewer.json", "data.test.split": "all"},
    "size and weights of SAM": {"sam.size": "tiny", "sam.weights": "random", "encoder.type": "sam"},
    "validation is captioned": {"data.val": split_of("val"), "eval.split": "val"},
    "jitter as published": {"data.lsj_scale": [0.5, 1.5], "data.lsj_as_published": True},
    "regions and words as published": {
        "data.train.as_published": ["white_space"],
        "data.test.as_published": ["regions", "white_space"],
    },
    "a decoder that learns slowly": {
        "text_decoder.trainable": True,
        "text_decoder.learning_rate": 0.001,
    },
}
"""Changes of several settings that need each other."""

OF_INPUTS = {
    "weights beside an ONNX file": {"encoder.path": "<in>/encoder_others/encoder.onnx"},
    "one of many photos": {"data.train.images": "<in>/photos_others"},
    "photos behind a link": {"data.test.images": "<in>/photos_behind_link"},
}
"""Other content that is easily overlooked; paths and sizes stay what they are."""

THREADS_AND_PLACES = ("device", "threads", "jobs", "loader_workers", "cache_dir", "eval_regions")
"""Of `runtime`: may move last digits, or says where; `compile` is that, and takes minutes."""


def all_changes():
    """Return name -> dotted changes: of one setting or input, or of a few that go together."""
    named = {
        f"{key}={json.dumps(value)[:60]}": {key: value}
        for key, values in CHANGES.items()
        for value in values
    }
    return named | MORE | OF_INPUTS


def unnamed_settings():
    """Return the settings of a cell for which `CHANGES` has no entry; those of readers apart.

    Nor do settings count that a variant or an encoder of others brings.
    """
    known = known_paths()
    leaves = {path for path in known if not any(p.startswith(f"{path}.") for p in known)}
    apart = ("data.train.", "data.val.", "data.test.", "pretraining.", "options", "encoder.options")
    named = {f"runtime.{name}" for name in (*THREADS_AND_PLACES, "compile")} | CHANGES.keys()
    named.add("runtime.deterministic")  # says how a GPU adds
    named |= {"encoder.onnx_limit_s", "encoder.onnx_limit_gib"}  # when to stop, not what to compute
    return sorted(path for path in leaves - named if not path.startswith(apart))


def nested_settings(variant, changes, inputs):
    """Return a variant's settings with some changes, as they would stand in a suite."""
    nested = merge(BASE, {"variant": variant})
    for path, value in (*OWN.get(variant, {}).items(), *changes):
        nested = merge(nested, nest(path, value))
    text = json.dumps(nested)
    return json.loads(text.replace("<in>", str(inputs)))
