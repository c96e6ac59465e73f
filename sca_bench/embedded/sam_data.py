"""What the tiny SAM is trained on: rendered scenes, their masks, and class-free descriptors.

No caption, no slot and no word of the grammar is read here. Descriptors are measured on pixels and
masks alone, but they were picked for this world: edge energies nearly spell out a texture, and a
mask crop nearly spells out a shape.

Shape legend: B images, N objects of all images, S image tokens, D descriptor entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sca_bench.data.readers.scenes import IMAGE_SIDE_PX, SceneRegion, render_scene
from sca_bench.specs.encoders import IMAGENET

CROP_SIDE = 12
"""Rows and columns of the mask crop, which is stretched to the object's box."""

GROUPS: dict[str, tuple[int, float]] = {
    "mask_crop": (CROP_SIDE * CROP_SIDE, 3.0),
    "mean_rgb": (3, 1.0),
    "std_rgb": (3, 0.5),
    "edges": (2, 1.0),
    "box_size": (2, 0.5),
    "box_centre": (2, 1.0),
}
"""Parts of a descriptor in order: number of entries, weight of the part in the loss."""

DESCRIPTOR_DIM = sum(size for size, _ in GROUPS.values())


@dataclass(frozen=True)
class SamScenes:
    """A few scenes as tensors.

    Attributes:
        pixel_values_B3HW: Images, normalised as SAM expects.
        image_index_N: The image each object lies in.
        masks_NHW: Object masks, bool.
        boxes_xyxy_N4: Tight boxes in pixels; the model input has the scenes' own size.
        descriptors_ND: Standardised descriptors; see `GROUPS`.
    """

    pixel_values_B3HW: Tensor
    image_index_N: Tensor
    masks_NHW: Tensor
    boxes_xyxy_N4: Tensor
    descriptors_ND: Tensor


@dataclass(frozen=True)
class _Scene:
    image_HW3: NDArray[np.uint8]
    masks_NHW: NDArray[np.bool_]
    boxes_xyxy_N4: NDArray[np.float32]
    descriptors_ND: NDArray[np.float32]


@lru_cache(maxsize=2_000)
def _measured(seed: int) -> _Scene:
    scene = render_scene(seed)
    return _Scene(
        scene.image,
        np.stack([region.mask for region in scene.regions]),
        np.array([region.box_xyxy for region in scene.regions], dtype=np.float32),
        np.stack([describe(scene.image, region) for region in scene.regions]),
    )


def load_scenes(seeds: Iterable[int]) -> SamScenes:
    """Render the scenes of these seeds for SAM; the scenes used last are remembered."""
    scenes = [_measured(seed) for seed in seeds]
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in IMAGENET)
    images = torch.from_numpy(np.stack([scene.image_HW3.transpose(2, 0, 1) for scene in scenes]))
    return SamScenes(
        (images.float() - mean) / std,
        torch.tensor([i for i, scene in enumerate(scenes) for _ in scene.masks_NHW]),
        torch.from_numpy(np.concatenate([scene.masks_NHW for scene in scenes])),
        torch.from_numpy(np.concatenate([scene.boxes_xyxy_N4 for scene in scenes])),
        torch.from_numpy(np.concatenate([scene.descriptors_ND for scene in scenes])),
    )


def describe(image: NDArray[np.uint8], region: SceneRegion) -> NDArray[np.float32]:
    """Measure one object; every entry is scaled to a spread of about one.

    Returns:
        (D,): stretched mask crop, mean RGB, standard deviation of RGB, mean horizontal and vertical
        brightness step inside the mask, box width and height, box centre.
    """
    left, top, right, bottom = (int(edge) for edge in region.box_xyxy)
    rows = top + (2 * np.arange(CROP_SIDE) + 1) * (bottom - top) // (2 * CROP_SIDE)
    columns = left + (2 * np.arange(CROP_SIDE) + 1) * (right - left) // (2 * CROP_SIDE)
    crop = region.mask[np.ix_(rows, columns)].astype(np.float32).ravel()
    pixels = image[region.mask].astype(np.float32) / 255
    grey = image.astype(np.float32).mean(-1) / 255
    across = region.mask[:, 1:] & region.mask[:, :-1]
    down = region.mask[1:] & region.mask[:-1]
    parts = (
        2 * crop - 1,
        (pixels.mean(0) - 0.45) / 0.22,
        (pixels.std(0) - 0.12) / 0.1,
        np.array(
            [
                np.abs(np.diff(grey, axis=1))[across].mean() / 0.06 - 1,
                np.abs(np.diff(grey, axis=0))[down].mean() / 0.06 - 1,
            ]
        ),
        (np.array([right - left, bottom - top]) - 25) / 8,
        (np.array([left + right, top + bottom]) - IMAGE_SIDE_PX) / 48,
    )
    return np.concatenate(parts).astype(np.float32)


def descriptor_weights() -> Tensor:
    """Return the weight of every descriptor entry, (D,); each part's weights sum to its own."""
    return torch.cat([torch.full((size,), weight / size) for size, weight in GROUPS.values()])
