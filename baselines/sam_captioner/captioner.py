"""SAM + image captioner as a region captioner.

SAM's mask of a region is cut out of the original image and captioned as if it were an image of its
own. The published baseline captions the crops of all three mask candidates and keeps the caption of
the one with the highest predicted IoU. Which one that is does not depend on the captions, so only
that crop is captioned here: the same caption for a third of the work.

Shape legend: B images, N regions in row-major (image, region) order, M mask candidates, h, w
low-resolution masks, H, W original image.
"""

from __future__ import annotations

import dataclasses
import string
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from baselines.sam_captioner import crops
from baselines.sam_captioner.image_captioner import ImageCaption, ImageCaptioner
from baselines.sam_captioner.loading import load_captioner
from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings, CropSettings
from sca_bench.types import Family, Prediction
from sca_bench.variants import get_variant

QUESTION = "What is this?"
DESCRIBE = "Describe the {answer} in the image."
"""The two steps of the visual chain of thought. Source: as in the published baseline."""


@dataclass(frozen=True)
class Cuts:
    """What is to be captioned for N regions.

    Attributes:
        images: The pieces of the images.
        piece_N: Which of them shows each region; several may share one.
        ious_N: Predicted IoUs of each region's mask candidates; empty where no mask was made.
        asked: For each piece, what the question before the caption is asked of.
    """

    images: list[Image.Image]
    piece_N: list[int]
    ious_N: list[tuple[float, ...]]
    asked: list[Image.Image] | None = None


class Cutter(Protocol):
    """Decides what is shown for the regions of a batch."""

    def __call__(self, batch: RegionBatch) -> Cuts:
        """Return what to caption."""
        ...


def whole_images(batch: RegionBatch) -> Cuts:
    """Show each region its whole image, once for all of its regions: no region is looked at."""
    images = [Image.fromarray(crops.image_array(image)) for image in originals_of(batch)]
    return Cuts(images, batch.image_index().tolist(), [()] * batch.num_regions)


@dataclass(frozen=True)
class PromptBoxCutter:
    """Cuts out the prompt boxes themselves, without SAM."""

    margin: float

    def __call__(self, batch: RegionBatch) -> Cuts:
        """Return what to caption."""
        arrays = [crops.image_array(image) for image in originals_of(batch)]
        pieces: list[Image.Image] = []
        boxes_N4 = batch.original_boxes().tolist()
        for box, image_index in zip(boxes_N4, batch.image_index().tolist(), strict=True):
            image_HW3 = arrays[image_index]
            hw = (image_HW3.shape[0], image_HW3.shape[1])
            tight = crops.prompt_box(box, hw)
            pieces.append(crops.cut(image_HW3, crops.widen(tight, self.margin, hw)))
        return Cuts(pieces, list(range(len(pieces))), [()] * len(pieces))


class MaskCutter(nn.Module):
    """Cuts out SAM's masks: by their boxes alone, or with white around them."""

    def __init__(self, encode: Any, settings: CropSettings, select: str) -> None:
        """Take SAM and what to do with its masks.

        Args:
            encode: Frozen SAM: `(batch, families=(), with_masks=True) -> RegionFeatures`, with an
                attribute `sam` that knows its sizes, and `embed`.
            settings: Margin, background and question.
            select: `predicted_iou` or `first`.
        """
        super().__init__()
        self.encode, self.settings, self.select = encode, settings, select

    @property
    def needs_masks(self) -> bool:
        """Whether boxes around the masks are not enough."""
        return self.settings.background == "white" or bool(self.settings.prompt)

    def chosen_masks(self, ious_NM: Tensor) -> list[int]:
        """Return the mask candidate of each region that is captioned; the first on ties."""
        if self.select == "first":
            return [0] * len(ious_NM)
        return [row.index(max(row)) for row in ious_NM.tolist()]

    def masks(self, batch: RegionBatch, features: RegionFeatures) -> Iterator[Tensor]:
        """Yield the mask candidates of each region, bool (M, H, W) in its original image."""
        side, sizes = self.encode.sam.dims.image_size, batch.input_sizes_hw
        if sizes is None:
            raise ValueError("masks need the images' sizes inside the model input")
        logits_NMhw, images = features.need("mask_logits_NMhw"), originals_of(batch)
        for logits_Mhw, image in zip(logits_NMhw, batch.image_index().tolist(), strict=True):
            hw = (images[image].shape[0], images[image].shape[1])
            yield crops.full_masks(logits_Mhw, input_hw=sizes[image], original_hw=hw, side=side)

    def features(self, batch: RegionBatch, *, with_masks: bool = False) -> RegionFeatures:
        """Run SAM; return predicted IoUs, the masks' boxes and, where asked for, the masks."""
        features: RegionFeatures = self.encode(batch, families=(), with_masks=True)
        boxes = [torch.from_numpy(crops.mask_boxes(m)) for m in self.masks(batch, features)]
        num_candidates = features.ious_NM.shape[1]
        boxes_NM4 = torch.stack(boxes) if boxes else torch.zeros(0, num_candidates, 4)
        return dataclasses.replace(
            features,
            mask_boxes_xyxy_NM4=boxes_NM4.to(features.ious_NM.device, torch.float32),
            mask_logits_NMhw=features.mask_logits_NMhw if with_masks else None,
        )

    def forward(self, batch: RegionBatch) -> Cuts:
        """Return what to caption; features that came with the batch are used."""
        features = batch.features
        if features is None or self.needs_masks:
            features = self.features(batch, with_masks=self.needs_masks)
        arrays = [crops.image_array(image) for image in originals_of(batch)]
        image_indices, chosen = batch.image_index().tolist(), self.chosen_masks(features.ious_NM)
        boxes_NM4 = features.need("mask_boxes_xyxy_NM4").long().tolist()
        pieces: list[Image.Image] = []
        whites: list[Image.Image] = []
        masks = self.masks(batch, features) if self.needs_masks else None
        for boxes, image_index, best in zip(boxes_NM4, image_indices, chosen, strict=True):
            image_HW3 = arrays[image_index]
            hw = (image_HW3.shape[0], image_HW3.shape[1])
            left, top, right, bottom = boxes[best]
            box = crops.widen((left, top, right, bottom), self.settings.margin, hw)
            pieces.append(crops.cut(image_HW3, box))
            if masks is not None:
                mask_HW = next(masks)[best].cpu().numpy()
                whites.append(crops.cut(crops.on_white(image_HW3, mask_HW), box))
        return Cuts(
            whites if self.settings.background == "white" else pieces,
            list(range(len(pieces))),
            [tuple(row) for row in features.ious_NM.tolist()],
            whites if self.settings.prompt else None,
        )


class CropCaptioner(nn.Module):
    """Captions what a cutter shows for each region; see `sca_bench.captioner.RegionCaptioner`."""

    def __init__(self, cutter: Cutter, captioner: ImageCaptioner) -> None:
        """Put a cutter before an image captioner."""
        super().__init__()
        self.cutter, self.captioner = cutter, captioner

    @torch.no_grad()
    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return one `Prediction` per real region, in the batch's row-major order.

        Args:
            batch: With original images; boxes or points in model-input pixels.
            decoding: How captions are generated, the answer to a question included.

        Raises:
            ValueError: The batch has no original images, or not what the cutter needs.
        """
        if not batch.num_regions:
            return []
        started = time.perf_counter()
        cuts = self.cutter(batch)
        captions = self._captions(cuts, decoding)
        seconds = (time.perf_counter() - started) / batch.num_regions
        return [
            Prediction(region_id, captions[piece].text, captions[piece].log_prob, ious, seconds)
            for region_id, piece, ious in zip(
                batch.region_ids, cuts.piece_N, cuts.ious_N, strict=True
            )
        ]

    def _captions(self, cuts: Cuts, decoding: Decoding) -> list[ImageCaption]:
        if cuts.asked is None:
            return self.captioner.caption(cuts.images, decoding)
        questions = [QUESTION] * len(cuts.asked)
        answers = self.captioner.caption(cuts.asked, decoding, questions)
        outer = string.punctuation + string.whitespace
        prompts = [DESCRIBE.format(answer=answer.text.strip(outer)) for answer in answers]
        return self.captioner.caption(cuts.images, decoding, prompts)


class SamCaptioner(CropCaptioner):
    """Captions crops of SAM's masks, whose boxes several captioners may share.

    The boxes and predicted IoUs are frozen features of the family `mask_boxes`: a group of cells
    with different captioners runs SAM once per image, and a feature cache keeps them on disk.
    """

    cutter: MaskCutter

    def frozen_features(
        self,
        batch: RegionBatch,
        *,
        families: Collection[Family] | None = None,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Run SAM without gradient.

        Args:
            batch: Images with prompts, and the original images.
            families: None or `mask_boxes`: there is nothing else to share.
            with_masks: Also return low-resolution mask logits.
        """
        if families is not None and set(families) - {"mask_boxes"}:
            raise ValueError(f"crops share boxes around masks, not {', '.join(families)}")
        return self.cutter.features(batch, with_masks=with_masks)

    def embed_images(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images, without gradient."""
        embeddings_BChw: Tensor = self.cutter.encode.embed(pixel_values_B3HW)
        return embeddings_BChw


def originals_of(batch: RegionBatch) -> list[Tensor]:
    """Return a batch's original images.

    Raises:
        ValueError: It has none.
    """
    if batch.original_images is None:
        raise ValueError("crops are cut out of original images, and the batch has none")
    return batch.original_images


def build_git(settings: CellSettings, parts: Any = None) -> CropCaptioner:
    """Build SAM + GIT for one cell; see `build`."""
    return build("git", settings, parts)


def build_blip(settings: CellSettings, parts: Any = None) -> CropCaptioner:
    """Build SAM + BLIP for one cell; see `build`."""
    return build("blip", settings, parts)


def build_blip2(settings: CellSettings, parts: Any = None) -> CropCaptioner:
    """Build SAM + BLIP-2 for one cell; see `build`."""
    return build("blip2", settings, parts)


def build(kind: str, settings: CellSettings, parts: Any) -> CropCaptioner:
    """Build SAM + captioner for one cell.

    Args:
        kind: `git`, `blip` or `blip2`.
        settings: The cell: `sam`, `encoder`, `baseline`, `crop`, `eval.select` and
            `runtime.eval_regions` are read.
        parts: What cells of a group share: SAM; loaded here where it is None and needed.

    Raises:
        InputError: The captioner cannot be loaded or its parts do not fit, or a setting has no
            meaning for it.
    """
    captioner = load_captioner(kind, settings.baseline, chunk=settings.runtime.regions_at_a_time)
    crop = settings.crop
    if crop.prompt and not captioner.architecture.answers:
        problem = f"{crop.prompt!r}: a {kind} captioner answers no questions"
        raise InputError(None, "crop.prompt", problem, "use variant: sam_blip2, or leave it out")
    if crop.source == "image":
        return CropCaptioner(whole_images, captioner)
    if crop.source == "box":
        if settings.eval.prompt not in ("box", "box_point"):
            problem = f"{settings.eval.prompt!r} gives no box to cut out"
            raise InputError(None, "eval.prompt", problem, "use box, or crop.source: mask")
        return CropCaptioner(PromptBoxCutter(crop.margin), captioner)
    if parts is None:
        parts = get_variant(f"sam_{kind}").load_parts(settings)
    encode = parts.region_encoder(embedding_dtype=settings.features.encoder_dtype)
    cutter = MaskCutter(encode, crop, settings.eval.select)
    if cutter.needs_masks:
        return CropCaptioner(cutter, captioner)  # boxes alone would not do, so nothing is shared
    return SamCaptioner(cutter, captioner)
