"""A GRiT that runs in milliseconds, and batches for it."""

from __future__ import annotations

import torch

from baselines.grit.build import build, build_from_scratch
from baselines.grit.config import SIZES
from sca_bench.batch import RegionBatch
from sca_bench.boxes import resized_hw, scale_boxes
from sca_bench.settings import CellSettings

INPUT_SIDE_PX = 64
CAPTIONS = ["a small red cross", "a large blue circle", "a plain green square", "a red circle"]


def cell_settings(variant="grit", **baseline):
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    return CellSettings.model_validate(
        {
            "variant": variant,
            "baseline": {"size": "grit_tiny", **baseline},
            "data": {"train": scenes, "test": {**scenes, "first_seed": 1}},
        }
    )


def captioner(seed=0):
    """Untrained, with weights large enough that captions differ between regions."""
    built = build(cell_settings(random_seed=seed))
    with torch.no_grad():
        for parameter in built.grit.text_decoder.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    return built


def learner(seed=0):
    torch.manual_seed(seed)
    return build_from_scratch(cell_settings("grit_from_scratch"))


def images(*sizes_hw, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(256, (*size, 3), dtype=torch.uint8, generator=generator) for size in sizes_hw
    ]


def batch(pixels, boxes, captions=None):
    """A batch of images with boxes xyxy in original pixels."""
    sizes = [tuple(image.shape[:2]) for image in pixels]
    inputs = [resized_hw(*size, INPUT_SIDE_PX) for size in sizes]
    widest = max(map(len, boxes))
    boxes_BR4 = torch.zeros(len(pixels), widest, 4)
    mask_BR = torch.zeros(len(pixels), widest, dtype=torch.bool)
    for i, per_image in enumerate(boxes):
        if not per_image:
            continue
        scaled = scale_boxes(per_image, sizes[i], inputs[i])
        boxes_BR4[i, : len(per_image)] = torch.from_numpy(scaled).float()
        mask_BR[i, : len(per_image)] = True
    return RegionBatch(
        image_ids=[str(i) for i in range(len(pixels))],
        region_ids=[f"{i}.{r}" for i, per in enumerate(boxes) for r in range(len(per))],
        region_mask_BR=mask_BR,
        boxes_xyxy_input_BR4=boxes_BR4,
        input_sizes_hw=inputs,
        original_images=pixels,
        captions=captions,
        tasks=["caption"] * len(pixels),
    )


TINY = SIZES["grit_tiny"]
