"""The captioner: GRiT with the package's protocol, on given boxes.

Shape legend: N regions of a batch in row-major (image, region) order, T text tokens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.grit.model import Grit
from baselines.grit.preprocess import Preparation, Prepared
from baselines.grit.text_decoder import IGNORED, TargetsOfImages
from baselines.grit.tokenizer import Tokenizer
from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.devices import gpu
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
        begins, made = self._begin_tokens(batch), self._prepared(batch)
        captions: dict[int, tuple[str, float]] = {}
        for group, images, boxes_xyxy_N4 in made.parts():
            index_N, begin_N = self._sent(group.image_index, [begins[row] for row in group.rows])
            generated = self.grit.caption_boxes(
                self.grit.pooled_levels(images),
                boxes_xyxy_N4,
                index_N,
                begin_N,
                group.levels,
                max_tokens=decoding.max_new_tokens + 1,
                beams=decoding.num_beams,
            )
            ids, log_probs = generated.ids_NKL[:, 0].tolist(), generated.log_prob_NK[:, 0].tolist()
            for row, row_ids, log_prob in zip(group.rows, ids, log_probs, strict=True):
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

    def preparation(self) -> Preparation:
        """Return what resizes the images of a batch, and its boxes, beforehand."""
        return Preparation(self.grit.config.short_side_px, self.grit.config.long_side_px)

    # --- training on given boxes --------------------------------------------------------------

    def loss(self, batch: RegionBatch) -> Tensor:
        """Return the mean token loss of the batch's captions on its given boxes.

        Raises:
            ValueError: The batch has no regions, no captions, no boxes or no original images.
        """
        if not batch.captions:
            raise ValueError("a training batch needs at least one region, each with a caption")
        made, of_images = self._prepared(batch), None
        ids, places, image_index = self._tokens(batch, made.rows)
        flat_X, places_K, image_index_K, *index = self._sent(
            [token for row in ids for token in row],
            places,
            image_index,
            *(group.image_index for group in made.groups),
        )
        if self.loss_over == "images":
            of_images = TargetsOfImages(places_K, image_index_K, len(batch.image_ids))
        visual = [
            self.grit.visual_tokens(
                self.grit.pooled_levels(images), boxes_xyxy_N4, index_N, group.levels
            )
            for (group, images, boxes_xyxy_N4), index_N in zip(made.parts(), index, strict=True)
        ]
        return self.grit.text_decoder.loss(
            torch.cat(visual),
            flat_X.view(len(ids), -1),
            self.label_smoothing,
            of_images=of_images,
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

    def _prepared(self, batch: RegionBatch) -> Prepared:
        """Return what a loader has made of a batch; where none did, that is made now."""
        if isinstance(batch.prepared, Prepared):
            return batch.prepared
        made = self.preparation().of(batch)
        pixels_X = gpu.send(made.pixels_X, self.grit.device)
        boxes_xyxy_N4 = gpu.send(made.boxes_xyxy_N4, self.grit.device)
        return Prepared(made.groups, pixels_X, boxes_xyxy_N4)

    def _begin_tokens(self, batch: RegionBatch) -> list[int]:
        return [self.begin_token(task) for task in batch.region_tasks()]

    def _tokens(
        self, batch: RegionBatch, rows: Sequence[int]
    ) -> tuple[list[list[int]], list[int], list[int]]:
        """Return the tokens of some regions, and where the targets among them are.

        Returns:
            Begin token, words, end token of each region, as long as the longest, with `IGNORED` on
            padding. Places of what is no padding among all tokens but the first ones. The image in
            the batch that each of these belongs to.
        """
        end = self.grit.config.text_decoder.end_token
        begins, captions = self._begin_tokens(batch), batch.captions or []
        images = batch.per_region(list(range(len(batch.image_ids))))
        words = [self.tokenizer.encode(captions[row])[: self.max_caption_tokens] for row in rows]
        ids = [[begins[row], *said, end] for row, said in zip(rows, words, strict=True)]
        width = max(map(len, ids))
        places = [n * (width - 1) + k for n, row in enumerate(ids) for k in range(len(row) - 1)]
        image_index = [images[row] for row, one in zip(rows, ids, strict=True) for _ in one[1:]]
        return [row + [IGNORED] * (width - len(row)) for row in ids], places, image_index

    def _sent(self, *lists: Sequence[int]) -> Sequence[Tensor]:
        """Return whole numbers on the device; they go there in one copy that nobody waits for."""
        flat = torch.tensor([number for one in lists for number in one], dtype=torch.long)
        sent = gpu.send(flat, self.grit.device)
        parts: Sequence[Tensor] = sent.split([len(one) for one in lists])
        return parts
