"""Tensors that travel between data, models and engine.

Shape legend: B images, R regions per image (padded), N valid regions of the batch in row-major
(image, region) order, P points or prompt tokens, T tokens, S image tokens (= h*w), C channels, M
mask candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_V = TypeVar("_V")


@dataclass(frozen=True)
class RegionFeatures:
    """What the frozen prefix of a model yields for N regions of B images.

    The first block is always there. Of the others only the families that were asked for are; the
    tensors of a family that is absent are None.

    Attributes:
        ious_NM: Predicted IoU of the mask candidates handed on to the user.
        image_index_N: The image each region lies in, 0 to B - 1.
        num_images: B; an image may have no region.
        first_candidate: Index of the first of the M candidates among SAM's mask tokens: 1, or 0
            where the single mask is handed on.
        boxes_xyxy_input_N4: The boxes SAM was prompted with, in model-input pixels; None for
            point-only prompts.
        mask_logits_NMhw: Low-resolution mask logits, or None where nobody asked for them.
        tokens_NTC: `mixed`: SAM mixer output tokens: IoU token, mask tokens, prompt tokens.
        image_tokens_NSC: `mixed`: SAM mixer output image tokens, row-major over `grid_hw`.
        image_pe_SC: `mixed`: positional encoding of these image tokens, the same for all regions.
        grid_hw: `mixed`: rows and columns of these image tokens.
        prompt_tokens_NPC: `prompts`: embedded prompts, as they go into the SAM mixer.
        own_tokens_TC: `prompts`: SAM's own tokens, which stand before them: IoU token, mask tokens.
        embeddings_BChw: `images`: image embeddings, straight from the image encoder.
        embedding_pe_SC: `images`: positional encoding of their h*w positions, row-major.
        dense_prompt_C: `images`: what SAM adds to every position for "no mask prompt".
        mask_boxes_xyxy_NM4: `mask_boxes`: the box cut out for each mask candidate, in whole pixels
            of the original image.
    """

    ious_NM: Tensor
    image_index_N: Tensor
    num_images: int
    first_candidate: int = 1
    boxes_xyxy_input_N4: Tensor | None = None
    mask_logits_NMhw: Tensor | None = None
    tokens_NTC: Tensor | None = None
    image_tokens_NSC: Tensor | None = None
    image_pe_SC: Tensor | None = None
    grid_hw: tuple[int, int] | None = None
    prompt_tokens_NPC: Tensor | None = None
    own_tokens_TC: Tensor | None = None
    embeddings_BChw: Tensor | None = None
    embedding_pe_SC: Tensor | None = None
    dense_prompt_C: Tensor | None = None
    mask_boxes_xyxy_NM4: Tensor | None = None

    def need(self, name: str) -> Tensor:
        """Return a tensor of a family that must be there.

        Raises:
            ValueError: These features were computed without that family.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(f"these frozen features lack {name}: its family was not asked for")
        return value


def merged(first: RegionFeatures, second: RegionFeatures) -> RegionFeatures:
    """Return the features of both, which are of the same regions; what both have is the first's."""
    missing = [f.name for f in fields(first) if getattr(first, f.name) is None]
    return replace(first, **{name: getattr(second, name) for name in missing})


@dataclass(frozen=True)
class RawPixels:
    """B square images as whole numbers, a quarter of the bytes of what a model reads.

    They are normalised where they are computed with. The result does not depend on where that is:
    one subtraction and one division a value, in float32.

    Attributes:
        values_B3SS: uint8, resized; what lies outside of `shown_hw` has no meaning.
        shown_hw: B heights and widths of what is shown, from the top left; all else is padding,
            zero once normalised. (0, 0) is the blank image, which does not even say where it ends.
        mean: Of R, G and B, as whole pixels count.
        std: Their standard deviations.
    """

    values_B3SS: Tensor
    shown_hw: tuple[tuple[int, int], ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalised(self) -> Tensor:
        """Return what a model reads: float32 (B, 3, S, S), on the same device."""
        device = self.values_B3SS.device
        mean_311, std_311 = (
            torch.tensor(numbers).view(3, 1, 1).to(device, non_blocking=True)
            for numbers in (self.mean, self.std)
        )
        pixels_B3SS = self.values_B3SS.to(torch.float32).sub_(mean_311).div_(std_311)
        for pixels_3SS, (height, width) in zip(pixels_B3SS, self.shown_hw, strict=True):
            pixels_3SS[:, height:].zero_()
            pixels_3SS[:, :height, width:].zero_()
        return pixels_B3SS


@dataclass(frozen=True)
class KeptRows:
    """What a feature cache keeps of a batch, read before the step that needs it.

    Rows are in the type that they are stored in; `FeatureBank` makes features of them.

    Attributes:
        features: Name of an array -> its rows, of the N regions or of the B images; empty where
            the cache lacks a row of any.
        first_candidate: As in `RegionFeatures`, where there are `features`.
        embeddings_KChw: Image embeddings, each once; None where features serve, or none is kept.
        embedding_of: For each of the B images the place of its embedding, or None.
    """

    features: Mapping[str, Tensor] = field(default_factory=dict)
    first_candidate: int = 1
    embeddings_KChw: Tensor | None = None
    embedding_of: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class RegionBatch:
    """B images with R padded regions each.

    What a loader yields still has to be moved: `to` makes `pixel_values_B3HW` of `raw_pixels`.

    Attributes:
        image_ids: B image ids.
        region_ids: N region ids, row-major.
        region_mask_BR: True where a region is real.
        boxes_xyxy_input_BR4: Boxes in model-input pixels, or None for point-only prompts.
        points_xy_input_BRP2: Points in model-input pixels, or None.
        point_labels_BRP: 1 foreground, 0 background, or None.
        pixel_values_B3HW: Normalised, zero-padded square images; None when `features` are given,
            and for captioners that do not read them.
        raw_pixels: The same before they are normalised, on their way to the device.
        image_embeddings_BChw: What the image encoder made of them, where that is known already; it
            is read in place of the pixels.
        input_sizes_hw: Height and width of each image's valid area in model-input pixels.
        captions: N training captions, or None at evaluation.
        tasks: B task names ("caption" or "recognition").
        features: Frozen features of the N regions, when a cache provides them.
        kept: What a loader has read of a feature cache; the engine makes features of it.
        views: B view numbers, by which a feature cache finds the right entry of an image:
            0 as stored, 1 mirrored left to right. None where every image is as stored.
        original_images: B images as they were read, uint8 RGB (H, W, 3); only for captioners that
            ask for them. Boxes map back to their pixels by `original_boxes`.
        prepared: What its captioner made of the batch beforehand (`captioner.PreparesBatches`): a
            dataclass, whose tensors travel with the batch.
        mask_point_seed: When given, each box is replaced by one point drawn at random inside the
            best mask that SAM itself predicts for it; the draw depends on this seed and on the
            region's id only.
        host_places: Places of the real regions in the flattened mask, remembered when the batch
            leaves the host, so that nobody has to wait for the device to learn them.
    """

    image_ids: list[str]
    region_ids: list[str]
    region_mask_BR: Tensor
    boxes_xyxy_input_BR4: Tensor | None
    points_xy_input_BRP2: Tensor | None = None
    point_labels_BRP: Tensor | None = None
    pixel_values_B3HW: Tensor | None = None
    raw_pixels: RawPixels | None = None
    input_sizes_hw: list[tuple[int, int]] | None = None
    captions: list[str] | None = None
    tasks: list[str] | None = None
    features: RegionFeatures | None = None
    kept: KeptRows | None = None
    image_embeddings_BChw: Tensor | None = None
    views: list[int] | None = None
    original_images: list[Tensor] | None = None
    prepared: Any = None
    mask_point_seed: int | None = None
    host_places: tuple[int, ...] | None = None

    @property
    def num_regions(self) -> int:
        """Number of real regions, N."""
        return len(self.region_ids)

    def image_index(self) -> Tensor:
        """Return the image of each of the N real regions, 0 to B - 1."""
        width = self.region_mask_BR.shape[1]
        return self._on_device([slot // width for slot in self._slots()])

    def prompt_boxes(self) -> Tensor | None:
        """Return the boxes (N, 4) that SAM is prompted with, or None for point-only prompts."""
        if self.boxes_xyxy_input_BR4 is None or self.mask_point_seed is not None:
            return None
        return self.real(self.boxes_xyxy_input_BR4)

    def real(self, per_region: Tensor) -> Tensor:
        """Return the rows (N, ...) of the real regions, given rows of all (B, R, ...)."""
        return per_region.flatten(0, 1).index_select(0, self._on_device(self._slots()))

    def _slots(self) -> Sequence[int]:
        if self.host_places is not None and self.region_mask_BR.device.type != "cpu":
            return self.host_places
        return [int(slot) for slot in self.region_mask_BR.flatten().nonzero()[:, 0].tolist()]

    def _on_device(self, values: Sequence[int]) -> Tensor:
        index = torch.tensor(values, dtype=torch.long)
        return index.to(self.region_mask_BR.device, non_blocking=True)

    def region_tasks(self) -> list[str]:
        """Return the task of each of the N real regions ("caption" when none was given)."""
        return self.per_region(self.tasks or ["caption"] * len(self.image_ids))

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
        ).to(self.boxes_xyxy_input_BR4.device, non_blocking=True)
        boxes_BR4 = self.boxes_xyxy_input_BR4.double() * scales_B4[:, None]
        return self.real(boxes_BR4).float()

    def per_region(self, per_image: list[_V]) -> list[_V]:
        """Return what is known of each image once for each of its real regions, N in all."""
        width = self.region_mask_BR.shape[1]
        return [per_image[slot // width] for slot in self._slots()]

    def pin_memory(self) -> RegionBatch:
        """Return the batch in page-locked memory, from which `to` copies without waiting.

        Data loaders with `pin_memory=True` call it. What is page-locked already stays as it is.
        """
        originals = self.original_images and [image.pin_memory() for image in self.original_images]
        return replace(_each(self, Tensor.pin_memory), original_images=originals)

    def share_memory(self) -> RegionBatch:
        """Return the batch in memory that other processes read, as one that leaves its process.

        What lies there already stays as it is.

        Raises:
            RuntimeError: There is no room for it.
        """

        def shared(tensor: Tensor) -> Tensor:
            return tensor.share_memory_() if tensor.numel() else tensor

        originals = self.original_images and [shared(image) for image in self.original_images]
        return replace(_each(self, shared), original_images=originals)

    def to(self, device: torch.device | str) -> RegionBatch:
        """Return the batch with its tensors on `device`, where its raw pixels are normalised.

        Original images stay where they are: whoever reads them cuts and resizes them first.
        """
        there = replace(self, host_places=tuple(self._slots()))
        there = _each(there, lambda tensor: tensor.to(device, non_blocking=True))
        if there.raw_pixels is None:
            return there
        return replace(there, pixel_values_B3HW=there.raw_pixels.normalised(), raw_pixels=None)


_T = TypeVar("_T")


def _each(item: _T, function: Callable[[Tensor], Tensor]) -> _T:
    """Return a dataclass with a function of each of its tensors, and of those of its parts."""
    if not is_dataclass(item) or isinstance(item, type):
        return item
    changed: dict[str, Any] = {}
    for f in fields(item):
        value = getattr(item, f.name)
        if isinstance(value, Tensor):
            changed[f.name] = function(value)
        elif isinstance(value, dict):
            changed[f.name] = {name: function(tensor) for name, tensor in value.items()}
        elif is_dataclass(value):
            changed[f.name] = _each(value, function)
    return replace(item, **changed)


def mean_over_images(losses_K: Tensor, image_index_K: Tensor, num_images: int) -> Tensor:
    """Return the mean over images of each image's own mean; images without a loss do not count.

    Args:
        losses_K: Losses, of tokens for instance.
        image_index_K: The image of each, 0 to B - 1.
        num_images: B.
    """
    images_B = torch.arange(num_images, device=image_index_K.device)
    counts_B = (image_index_K[:, None] == images_B).sum(0)
    shares_B = 1 / (counts_B.clamp(min=1) * (counts_B > 0).sum())
    return (losses_K * shares_B.index_select(0, image_index_K)).sum()


def each_by_itself(rows: Tensor) -> bool:
    """Say whether to compute row by row: frozen work on a CPU, of which there is any.

    On a CPU the height of a matrix decides which kernel multiplies it, and kernels round
    differently. So there, without gradient, every image and every region is computed by itself:
    what stands beside it in the batch does not change its numbers, however features are batched,
    shared or cached. Tensors without content, on which a cell is sized, pass in one piece.
    """
    if isinstance(rows, FakeTensor) or torch.is_grad_enabled():
        return False
    return len(rows) > 0 and rows.device.type == "cpu"


def row_by_row(function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """Call a function on batches, or on their rows one at a time where `each_by_itself` says so."""
    rows = next(x for x in inputs if x is not None)
    if not each_by_itself(rows):
        return function(*inputs)
    parts = [None if x is None else x.split(1) for x in inputs]
    return torch.cat(
        [function(*(None if p is None else p[n] for p in parts)) for n in range(len(rows))]
    )
