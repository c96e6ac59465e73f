"""Tensors that travel between data, models and engine.

Shape legend: B images, R regions per image (padded), N valid regions of the batch in row-major
(image, region) order, P points, T tokens, S image tokens (= h*w), C channels, M mask candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

_V = TypeVar("_V")


@dataclass(frozen=True)
class RegionFeatures:
    """What the frozen prefix of a model yields for each of N regions.

    Attributes:
        tokens_NTC: SAM mixer output tokens: IoU token, mask tokens, prompt tokens.
        image_tokens_NSC: SAM mixer output image tokens, row-major over `grid_hw`.
        image_pe_SC: Positional encoding of the image tokens (shared by all regions).
        ious_NM: Predicted IoU of the mask candidates handed on to the user.
        grid_hw: Rows and columns of the image tokens.
        mask_logits_NMhw: Low-resolution mask logits, or None where nobody asked for them.
    """

    tokens_NTC: Tensor
    image_tokens_NSC: Tensor
    image_pe_SC: Tensor
    ious_NM: Tensor
    grid_hw: tuple[int, int]
    mask_logits_NMhw: Tensor | None = None


@dataclass(frozen=True)
class RegionBatch:
    """B images with R padded regions each.

    Attributes:
        image_ids: B image ids.
        region_ids: N region ids, row-major.
        region_mask_BR: True where a region is real.
        boxes_xyxy_input_BR4: Boxes in model-input pixels, or None for point-only prompts.
        points_xy_input_BRP2: Points in model-input pixels, or None.
        point_labels_BRP: 1 foreground, 0 background, or None.
        pixel_values_B3HW: Normalised, zero-padded square images; None when `features` are given.
        input_sizes_hw: Height and width of each image's valid area in model-input pixels.
        captions: N training captions, or None at evaluation.
        tasks: B task names ("caption" or "recognition").
        features: Frozen features of the N regions, when a cache provides them.
        views: B view numbers, by which a feature cache finds the right entry of an image:
            0 as stored, 1 mirrored left to right. None where every image is as stored.
        original_images: B images as they were read, uint8 RGB (H, W, 3); only for captioners that
            ask for them. Boxes map back to their pixels by `original_boxes`.
        mask_point_seed: When given, each box is replaced by one point drawn at random inside the
            best mask that SAM itself predicts for it; the draw depends on this seed and on the
            region's id only.
    """

    image_ids: list[str]
    region_ids: list[str]
    region_mask_BR: Tensor
    boxes_xyxy_input_BR4: Tensor | None
    points_xy_input_BRP2: Tensor | None = None
    point_labels_BRP: Tensor | None = None
    pixel_values_B3HW: Tensor | None = None
    input_sizes_hw: list[tuple[int, int]] | None = None
    captions: list[str] | None = None
    tasks: list[str] | None = None
    features: RegionFeatures | None = None
    views: list[int] | None = None
    original_images: list[Tensor] | None = None
    mask_point_seed: int | None = None

    @property
    def num_regions(self) -> int:
        """Number of real regions, N."""
        return len(self.region_ids)

    def region_tasks(self) -> list[str]:
        """Return the task of each of the N real regions ("caption" when none was given)."""
        return self._per_region(self.tasks or ["caption"] * len(self.image_ids))

    def original_boxes(self) -> Tensor:
        """Return the boxes of the N real regions in pixels of their original images, (N, 4) xyxy.

        Raises:
            ValueError: The batch has no boxes, no original images, or no input sizes.
        """
        if self.boxes_xyxy_input_BR4 is None:
            raise ValueError("the batch has no boxes")
        if self.original_images is None or self.input_sizes_hw is None:
            raise ValueError("the batch has no original images")
        scales_B4 = torch.tensor(
            [
                [image.shape[1] / width, image.shape[0] / height] * 2
                for image, (height, width) in zip(
                    self.original_images, self.input_sizes_hw, strict=True
                )
            ],
            dtype=torch.float64,
            device=self.boxes_xyxy_input_BR4.device,
        )
        boxes_BR4 = self.boxes_xyxy_input_BR4.double() * scales_B4[:, None]
        return boxes_BR4[self.region_mask_BR].float()

    def region_views(self) -> list[int]:
        """Return the view number of each of the N real regions."""
        return self._per_region(self.views or [0] * len(self.image_ids))

    def _per_region(self, per_image: list[_V]) -> list[_V]:
        counts = self.region_mask_BR.sum(dim=1).tolist()
        return [v for v, count in zip(per_image, counts, strict=True) for _ in range(int(count))]

    def to(self, device: torch.device | str) -> RegionBatch:
        """Return the batch with all its tensors on `device`."""
        return _to(self, device)


_T = TypeVar("_T", RegionBatch, RegionFeatures)


def _to(item: _T, device: torch.device | str) -> _T:
    moved: dict[str, Any] = {}
    for f in fields(item):
        value = getattr(item, f.name)
        if isinstance(value, Tensor):
            moved[f.name] = value.to(device, non_blocking=True)
        elif isinstance(value, RegionFeatures):
            moved[f.name] = _to(value, device)
    return replace(item, **moved)
