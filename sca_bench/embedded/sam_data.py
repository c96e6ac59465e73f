"""What the tiny SAM is trained on: rendered scenes, their masks, and class-free descriptors.

No caption, no slot and no word of the grammar is read here. Descriptors are measured on pixels and
masks alone, but they were picked for this world: edge energies nearly spell out a texture, and a
mask crop nearly spells out a shape.

Shape legend: B images, N objects of all images, S image tokens, D descriptor entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sca_bench.data.scenes import IMAGE_SIDE_PX, SceneRegion, render_scene
from sca_bench.models.sam import PIXEL_MEAN, PIXEL_STD

CROP_SIDE = 12
"""Rows and columns of the mask crop, which is stretched to the object's box."""

GROUPS: dict[str, tuple[int, float]] = {
    "mask_crop": (CROP_SIDE * CROP_SIDE, 1.0),
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
    """Scenes as tensors.

    Attributes:
        images_B3HW: uint8 RGB.
        first_object_B: Index of each image's first object; one more entry closes the list.
        masks_NHW: Object masks, bool.
        boxes_xyxy_N4: Tight boxes in pixels; the model input has the scenes' own size.
        descriptors_ND: Standardised descriptors; see `GROUPS`.
    """

    images_B3HW: Tensor
    first_object_B: list[int]
    masks_NHW: Tensor
    boxes_xyxy_N4: Tensor
    descriptors_ND: Tensor

    def pixel_values(self, indices: list[int]) -> Tensor:
        """Return the images `indices`, normalised as SAM expects."""
        mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
        return (self.images_B3HW[indices].float() - mean) / std

    def objects_of(self, image: int) -> range:
        """Return the indices of the objects in one image."""
        return range(self.first_object_B[image], self.first_object_B[image + 1])


def load_scenes(first_seed: int, num_images: int) -> SamScenes:
    """Render scenes `first_seed ... first_seed + num_images - 1` for SAM training."""
    images, masks, boxes, descriptors, first = [], [], [], [], [0]
    for seed in range(first_seed, first_seed + num_images):
        scene = render_scene(seed)
        images.append(scene.image.transpose(2, 0, 1))
        for region in scene.regions:
            masks.append(region.mask)
            boxes.append(region.box_xyxy)
            descriptors.append(describe(scene.image, region))
        first.append(len(masks))
    return SamScenes(
        torch.from_numpy(np.stack(images)),
        first,
        torch.from_numpy(np.stack(masks)),
        torch.tensor(boxes, dtype=torch.float32),
        torch.from_numpy(np.stack(descriptors)),
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
