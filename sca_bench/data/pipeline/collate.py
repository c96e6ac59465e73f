"""From single images to a `RegionBatch`.

Shape legend as in `sca_bench.batch`: B images, R regions of the fullest image, N real regions in
row-major order, P points, S side of the model input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sca_bench.batch import RawPixels, RegionBatch
from sca_bench.settings.splits import Task

NOT_A_POINT = -1
"""SAM's label of a padding point."""


@dataclass(frozen=True)
class ImageSample:
    """One image with its regions, ready for the model.

    Attributes:
        image_id: The image.
        region_ids: Its R regions.
        captions: One caption per region.
        input_size_hw: Height and width of the valid area in model-input pixels.
        view: 0 as stored, 1 mirrored left to right, 2 cut at random (no feature cache has that).
        task: The image's task.
        mask_point_seed: As in `RegionBatch`.
        boxes_xyxy_input_R4: float32, or None where the prompt is a point.
        points_xy_input_RP2: float32, or None where the prompt is a box.
        raw_pixels: The image as model input, the only one of its kind there; None where features
            come from a cache, or nobody reads it.
        original_HW3: The image as it is stored, uint8 RGB, or None where nobody reads it.
    """

    image_id: str
    region_ids: tuple[str, ...]
    captions: tuple[str, ...]
    input_size_hw: tuple[int, int]
    view: int = 0
    task: Task = "caption"
    mask_point_seed: int | None = None
    boxes_xyxy_input_R4: Tensor | None = None
    points_xy_input_RP2: Tensor | None = None
    raw_pixels: RawPixels | None = None
    original_HW3: Tensor | None = None

    @property
    def flipped(self) -> bool:
        """Whether the image and its boxes are mirrored left to right."""
        return self.view == 1

    @property
    def pixels_3SS(self) -> Tensor | None:  # noqa: N802
        """Normalised, padded image as a model reads it, or None."""
        return None if self.raw_pixels is None else self.raw_pixels.normalised()[0]


def collate(samples: Sequence[ImageSample]) -> RegionBatch:
    """Pad the regions of B samples to the fullest and stack everything.

    Padded rows hold zero boxes and points (label -1, SAM's "not a point"), and are False in
    `region_mask_BR`. Pixels stay whole numbers: `RegionBatch.to` normalises them.

    Raises:
        ValueError: No sample, or some have boxes, points, pixels, originals or a seed and others
            not.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    seed = samples[0].mask_point_seed
    if any(sample.mask_point_seed != seed for sample in samples):
        raise ValueError("samples of one batch must all have the same mask_point_seed")
    counts = [len(sample.region_ids) for sample in samples]
    mask_BR = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    points = _stack([sample.points_xy_input_RP2 for sample in samples], max(counts))
    labels = None
    if points is not None:
        labels = torch.where(mask_BR[..., None], 1, NOT_A_POINT).expand(points.shape[:-1])
    originals = [s.original_HW3 for s in samples if s.original_HW3 is not None]
    if len(originals) not in (0, len(samples)):
        raise ValueError("samples of one batch must all have original images, or none")
    return RegionBatch(
        image_ids=[sample.image_id for sample in samples],
        region_ids=[region_id for sample in samples for region_id in sample.region_ids],
        region_mask_BR=mask_BR,
        boxes_xyxy_input_BR4=_stack([s.boxes_xyxy_input_R4 for s in samples], max(counts)),
        points_xy_input_BRP2=points,
        point_labels_BRP=None if labels is None else labels.contiguous(),
        raw_pixels=_together([sample.raw_pixels for sample in samples]),
        input_sizes_hw=[sample.input_size_hw for sample in samples],
        captions=[caption for sample in samples for caption in sample.captions],
        tasks=[sample.task for sample in samples],
        views=[sample.view for sample in samples],
        original_images=originals or None,
        mask_point_seed=seed,
    )


def _together(pictures: list[RawPixels | None]) -> RawPixels | None:
    """Return the pictures of all images as one; None if all are None."""
    given = [picture for picture in pictures if picture is not None]
    if not given:
        return None
    first = given[0]
    alike = all((p.mean, p.std) == (first.mean, first.std) for p in given)
    if len(given) != len(pictures) or not alike:
        raise ValueError("samples of one batch must all have pixels of one kind, or none")
    values_B3SS = torch.cat([picture.values_B3SS for picture in given])
    shown_hw = tuple(shown for picture in given for shown in picture.shown_hw)
    return RawPixels(values_B3SS, shown_hw, first.mean, first.std)


def _stack(tensors: list[Tensor | None], rows: int) -> Tensor | None:
    """Stack tensors whose first axis is filled up with zeros to `rows`; None if all are None."""
    given = [tensor for tensor in tensors if tensor is not None]
    if not given:
        return None
    if len(given) != len(tensors):
        raise ValueError("samples of one batch must all have boxes or points, or none")
    stacked = given[0].new_zeros((len(given), rows, *given[0].shape[1:]))
    for row, tensor in zip(stacked, given, strict=True):
        row[: len(tensor)] = tensor
    return stacked
