"""The captioner: GRiT with the package's protocol, on given boxes.

Shape legend: N regions of a batch in row-major (image, region) order, T text tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.grit.model import Grit
from baselines.grit.preprocess import (
    ResizedImage,
    clean_boxes,
    resize,
    to_resized,
    widen_empty,
)
from baselines.grit.text_decoder import IGNORED
from baselines.grit.tokenizer import Tokenizer
from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, did_you_mean
from sca_bench.types import Prediction

_TRAINED = (
    "image_encoder.",
    "pyramid.upsample.",
    "pyramid.p3.",
    "pyramid.p4.",
    "pyramid.p5.",
    "text_decoder.",
)


@dataclass(frozen=True)
class _EqualImages:
    """Images of one size with their regions.

    Attributes:
        images: The images.
        rows: Places of their regions among the batch's N.
        image_index: Which of the images each region lies in.
        boxes_xyxy: Boxes in resized pixels, none of them empty.
    """

    images: list[ResizedImage]
    rows: Tensor
    image_index: Tensor
    boxes_xyxy: Tensor


class GritCaptioner(nn.Module):
    """Captions given boxes: the box itself is pooled, without proposals and cascade.

    Args:
        grit: The network.
        tokenizer: Its tokenizer.
        label_smoothing: Share of each training target spread over the vocabulary.
        loss_over: Whether the loss is the mean over all tokens of a batch, or over its images' own
            means.
        max_caption_tokens: Training captions are cut to this before the end token.
    """

    def __init__(
        self,
        grit: Grit,
        tokenizer: Tokenizer,
        *,
        label_smoothing: float = 0.1,
        loss_over: Literal["tokens", "images"] = "tokens",
        max_caption_tokens: int = 18,
    ) -> None:
        super().__init__()
        self.grit = grit
        self.tokenizer = tokenizer
        self.label_smoothing = label_smoothing
        self.loss_over = loss_over
        self.max_caption_tokens = max_caption_tokens
        self.requires_grad_(False).eval()

    # --- the protocol -------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return one `Prediction` per real region, in the batch's row-major order.

        An image is encoded once for all its regions. `log_prob` is GRiT's own: the mean over words
        and end token. Nothing is predicted about the box, so its IoU counts as 1.

        Raises:
            InputError: A task that the checkpoint was not trained on.
            ValueError: The batch has no boxes or no original images.
        """
        if not batch.region_ids:
            return []
        started = time.perf_counter()
        begin_N = self._begin_tokens(batch)
        captions: dict[int, tuple[str, float]] = {}
        for group in self._equal_images(batch):
            generated = self.grit.caption_boxes(
                self.grit.pooled_levels(group.images),
                group.boxes_xyxy,
                group.image_index,
                begin_N[group.rows],
                max_tokens=decoding.max_new_tokens + 1,
                beams=decoding.num_beams,
            )
            ids, log_probs = generated.ids_NKL[:, 0].tolist(), generated.log_prob_NK[:, 0].tolist()
            for row, row_ids, log_prob in zip(group.rows.tolist(), ids, log_probs, strict=True):
                captions[row] = (self.decode(row_ids), log_prob)
        seconds = (time.perf_counter() - started) / batch.num_regions
        return [
            Prediction(region_id, *captions[row], (1.0,), seconds)
            for row, region_id in enumerate(batch.region_ids)
        ]

    def begin_token(self, task: str) -> int:
        """Return the token that captions of a task begin with.

        Raises:
            InputError: The checkpoint was not trained on the task.
        """
        known = self.grit.config.text_decoder.begin_tokens
        if task not in known:
            problem = f"this GRiT was not trained on the task {task!r}"
            raise InputError("grit", "task", problem, f"it knows {', '.join(known)}")
        return known[task]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the caption of ids that begin with a begin token; the end tokens are left out."""
        end = self.grit.config.text_decoder.end_token
        return self.tokenizer.decode([i for i in ids[1:] if i != end]).strip()

    # --- training on given boxes --------------------------------------------------------------

    def loss(self, batch: RegionBatch) -> Tensor:
        """Return the mean token loss of the batch's captions on its given boxes.

        Raises:
            ValueError: The batch has no regions, no captions, no boxes or no original images.
        """
        if not batch.captions:
            raise ValueError("a training batch needs at least one region, each with a caption")
        visual, rows = [], []
        for group in self._equal_images(batch):
            levels = self.grit.pooled_levels(group.images)
            visual.append(self.grit.visual_tokens(levels, group.boxes_xyxy, group.image_index))
            rows.append(group.rows)
        rows_N = torch.cat(rows)
        return self.grit.text_decoder.loss(
            torch.cat(visual),
            self._token_ids(batch)[rows_N],
            self.label_smoothing,
            image_index_N=batch.image_index()[rows_N] if self.loss_over == "images" else None,
            num_images=len(batch.image_ids),
        )

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return what training on given boxes reaches: all but proposals and cascade."""
        return {n: p for n, p in self.grit.named_parameters() if n.startswith(_TRAINED)}

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name, detached and not copied."""
        return {name: p.detach() for name, p in self.trainable_parameters().items()}

    def load_trainable_state(
        self, state: Mapping[str, Tensor], where: object = "checkpoint"
    ) -> None:
        """Copy trained tensors in.

        Raises:
            InputError: Names or shapes are not exactly those of this captioner.
        """
        parameters = self.trainable_parameters()
        for name in state:
            if name not in parameters:
                fix = did_you_mean(name, parameters)
                raise InputError(where, name, "is no trained tensor here", fix)
        for name, parameter in parameters.items():
            if name not in state:
                raise InputError(where, name, "is missing")
            if state[name].shape != parameter.shape:
                given, expected = tuple(state[name].shape), tuple(parameter.shape)
                raise InputError(where, name, f"has shape {given}, expected {expected}")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state[name])

    # --- small helpers ------------------------------------------------------------------------

    def _begin_tokens(self, batch: RegionBatch) -> Tensor:
        begins = [self.begin_token(task) for task in batch.region_tasks()]
        return torch.tensor(begins, device=self.grit.device)

    def _token_ids(self, batch: RegionBatch) -> Tensor:
        """Return begin token, words, end token of every caption, (N, T); `IGNORED` on padding."""
        end = self.grit.config.text_decoder.end_token
        begins = self._begin_tokens(batch).tolist()
        rows = [
            [begin, *self.tokenizer.encode(caption)[: self.max_caption_tokens], end]
            for begin, caption in zip(begins, batch.captions or [], strict=True)
        ]
        width = max(map(len, rows))
        padded = [row + [IGNORED] * (width - len(row)) for row in rows]
        return torch.tensor(padded, device=self.grit.device)

    def _equal_images(self, batch: RegionBatch) -> Iterator[_EqualImages]:
        """Yield the batch's images in groups of one resized size: padding would change numbers."""
        boxes_N4 = batch.original_boxes().to(self.grit.device)
        config = self.grit.config
        sides = (config.short_side_px, config.long_side_px)
        counts = batch.region_mask_BR.sum(dim=1).tolist()
        rows_of_images = torch.arange(batch.num_regions).split(counts)
        groups: dict[tuple[int, int], list[tuple[ResizedImage, Tensor]]] = {}
        for image_HW3, rows_N in zip(batch.original_images or [], rows_of_images, strict=True):
            if len(rows_N):
                image = resize(image_HW3, *sides)
                groups.setdefault(image.size_hw, []).append((image, rows_N))
        for members in groups.values():
            boxes = [
                widen_empty(to_resized(clean_boxes(boxes_N4[rows_N], image.original_hw), image))
                for image, rows_N in members
            ]
            index = [torch.full((len(rows_N),), i) for i, (_, rows_N) in enumerate(members)]
            yield _EqualImages(
                [image for image, _ in members],
                torch.cat([rows_N for _, rows_N in members]),
                torch.cat(index).to(self.grit.device),
                torch.cat(boxes),
            )
