"""The SCA captioner: an assembly of injected parts.

Shape legend: N real regions in row-major (image, region) order, P prefix positions, C channels,
M mask candidates, H caption heads, Q caption query tokens per head, K task tokens, D width of the
text decoder, L generated tokens. In flattened rows of N*H the head runs fastest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sca_bench.batch import RegionBatch, RegionFeatures, each_by_itself
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.models.caption_memory import decoder_bytes, image_bytes
from sca_bench.models.compiled_blocks import compile_block
from sca_bench.models.designs.parts import Design
from sca_bench.models.frozen_matrices import keep_matrices_in
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.stacked import (
    OwnDraws,
    Stream,
    dropout_of_each_cell,
    no_other_draws,
    of_each_cell,
    stack_parameters,
)
from sca_bench.models.text_decoder.activation_checkpointing import keeps_activations, layers_of
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.models.text_decoder.search import Generated
from sca_bench.types import Family, Prediction

TASKS = {"recognition": 0, "caption": 1}
"""Block of task tokens by task name."""
_NO_CAPTIONS = "a training batch needs at least one region, each with a caption"
MOST_QUERIES = 40
"""Caption queries of a design that does not say how many it has; ROI Align cuts out 36."""


class ScaCaptioner(nn.Module):
    """Captions regions by letting caption queries read SAM's tokens.

    Frozen: image encoder, prompt encoder, SAM mixer. Trained: text mixer, caption query tokens,
    projection, task tokens (those that the design has); the text decoder only when asked. A text
    decoder may be shared by several captioners, so its mode (dropout or not) is set at every use.

    Source: Huang et al., Segment and Caption Anything, CVPR 2024.
    """

    def __init__(
        self,
        region_encoder: RegionEncoder,
        design: Design,
        projection: nn.Module,
        task_tokens: nn.Embedding | None,
        text_decoder: TextDecoder,
        *,
        variant: str = "sca",
        as_published: bool = False,
        select: Literal["predicted_iou", "first"] = "predicted_iou",
        prefix_gain: float = 1.0,
        query_dropout: float = 0.0,
        label_smoothing: float = 0.1,
        loss_over: Literal["tokens", "images"] = "tokens",
        max_caption_tokens: int = 18,
        train_text_decoder: bool = False,
        dropout_in_training: bool = True,
        checkpoint_text_decoder: bool = False,
    ) -> None:
        """Assemble the captioner, in evaluation mode.

        Args:
            region_encoder: The frozen half.
            design: Decides what the caption queries are and what they are mixed with.
            projection: From the queries' C channels to the decoder's D.
            task_tokens: 2*K rows of D channels: K for recognition, then K for captions; or None.
            text_decoder: Continues the prefix.
            variant: Registry name of the design.
            as_published: Whether the design was built with `mixer.as_published`.
            select: Which of several caption heads is kept: that of the mask candidate with the
                highest predicted IoU, or the first.
            prefix_gain: Constant factor on the whole prefix.
            query_dropout: Dropout on the query outputs, in training only.
            label_smoothing: Share of each target spread over the vocabulary.
            loss_over: Whether the loss is the mean over all tokens of a batch, or over its images'
                own means.
            max_caption_tokens: Training captions are cut to this before the end token.
            train_text_decoder: Whether the text decoder learns; it must not be shared then.
            dropout_in_training: Whether the text decoder's own dropout is on in training.
            checkpoint_text_decoder: Whether the text decoder's activations are computed again in
                the backward pass instead of being kept.
        """
        super().__init__()
        self.region_encoder = region_encoder
        self.caption_query_tokens = design.queries
        self.text_mixer = design.text_mixer
        self.context = design.context
        self.families = design.families
        self.projection = projection
        self.task_tokens = task_tokens
        self.text_decoder = text_decoder
        self.variant = variant
        self.as_published = as_published
        self.select = select
        self.prefix_gain = prefix_gain
        self.query_dropout = query_dropout
        self.label_smoothing = label_smoothing
        self.loss_over = loss_over
        self.max_caption_tokens = max_caption_tokens
        self.train_text_decoder = train_text_decoder
        self.dropout_in_training = dropout_in_training
        self.checkpoint_text_decoder = checkpoint_text_decoder
        region_encoder.requires_grad_(False).eval()
        text_decoder.requires_grad_(train_text_decoder)
        self.eval()

    # --- the protocol -------------------------------------------------------------------------

    def frozen_features(
        self,
        batch: RegionBatch,
        *,
        families: Collection[Family] | None = None,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Run image encoder, prompt encoder and SAM mixer without gradient.

        Args:
            batch: Images with prompts.
            families: Which features to return; those this design reads where None.
            with_masks: Also return low-resolution mask logits.
        """
        wanted = self.families if families is None else families
        features: RegionFeatures = self.region_encoder(
            batch, families=wanted, with_masks=with_masks
        )
        return features

    def embed_images(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images, without gradient."""
        embeddings_BChw: Tensor = self.region_encoder.embed(pixel_values_B3HW)
        return embeddings_BChw

    def caption_bytes(self, decoding: Decoding) -> int:
        """Return the bytes that captioning one region more takes at most, features included."""
        encoder, queries = self.region_encoder, self.caption_query_tokens
        dims = encoder.sam.dims
        heads = queries.heads(dims.num_mask_tokens - 1) or 1
        prefix = max(MOST_QUERIES, getattr(queries, "num_query_tokens", 0))
        if self.task_tokens is not None:
            prefix += self.task_tokens.num_embeddings // len(TASKS)
        config = self.text_decoder.language_model.config
        mixing = image_bytes((encoder.image_grid or dims.grid) ** 2, dims.embed_dim)
        return mixing + heads * decoder_bytes(config, prefix, decoding)

    def cast_frozen(self, dtype: torch.dtype) -> None:
        """Keep the matrices of SAM, and of a frozen text decoder, in the type of autocast."""
        keep_matrices_in(self.region_encoder, dtype)
        keep_matrices_in(self.text_decoder, dtype)

    def loss(self, batch: RegionBatch) -> Tensor:
        """Return the mean token loss of the batch; every caption head learns every caption.

        With `loss_over` images each image counts alike, however many tokens its captions have.

        Raises:
            ValueError: The batch has no regions or no captions.
        """
        if not batch.captions:
            raise ValueError(_NO_CAPTIONS)
        features = self._features(batch)
        outputs_NHQC = self.query_outputs(features)
        prefix = self.prefix(outputs_NHQC, batch.region_tasks())
        tokens = self.text_decoder.tokenize(batch.captions, self.max_caption_tokens)
        heads = outputs_NHQC.shape[1]
        by_image = self.loss_over == "images"
        self._set_decoder_mode()
        return self.text_decoder.loss(
            prefix,
            tokens.repeat_interleave(heads),
            self.label_smoothing,
            image_index_N=features.image_index_N.repeat_interleave(heads) if by_image else None,
            num_images=features.num_images,
            checkpoint=self.checkpoint_text_decoder,
        )

    def stacked_losses(
        self, cells: Sequence[ScaCaptioner], batch: RegionBatch, streams: Sequence[Stream]
    ) -> list[Tensor]:
        """Return each cell's `loss`, of one pass over all of them; `backward` reaches each cell.

        Args:
            cells: Captioners that share a frozen text decoder and differ in what they have learnt
                only; this one may be any of them.
            batch: As for `loss`.
            streams: Each cell's random numbers, which dropout draws from as if it were alone.

        Raises:
            ValueError: As for `loss`.
            CellError: The text decoder draws random numbers that no cell can have for itself.
        """
        if not batch.captions:
            raise ValueError(_NO_CAPTIONS)
        features, mixer = self._features(batch), self.text_mixer
        half: list[str] = []
        device = features.ious_NM.device
        if mixer is not None and torch.is_autocast_enabled(device.type):
            half = [f"text_mixer.{name}" for name in mixer.cast_parameters()]
        dtype = torch.get_autocast_dtype(device.type)
        stacks = stack_parameters([cell.trainable_parameters() for cell in cells], half, dtype)
        mixed_GNHQC = of_each_cell(self, "mixed_queries", stacks, given=(features,))
        dropout = self.query_dropout if self.training else 0.0
        outputs_GNHQC = dropout_of_each_cell(mixed_GNHQC, dropout, streams)
        heads = outputs_GNHQC.shape[2]
        index_N = self.task_index(batch.region_tasks(), device)
        prefix_GNPD = of_each_cell(self, "prefix_of", stacks, outputs_GNHQC, given=(index_N,))
        tokens = self.text_decoder.tokenize(batch.captions, self.max_caption_tokens)
        images_N = features.image_index_N.repeat_interleave(heads)
        self._set_decoder_mode()
        drawing = OwnDraws(streams) if self.text_decoder.training else contextlib.nullcontext()
        with no_other_draws(device), drawing:
            losses_G = self.text_decoder.loss_of_each_cell(
                prefix_GNPD.flatten(0, 1),
                tokens.repeat_interleave(heads),
                len(cells),
                self.label_smoothing,
                image_index_N=images_N if self.loss_over == "images" else None,
                num_images=features.num_images,
            )
        return list(losses_G.unbind())

    @torch.no_grad()
    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return one `Prediction` per real region, in the batch's row-major order.

        Of several caption heads, `select` says which is kept. Frozen features do not depend on
        what else is in the batch (on a CPU); text mixer, projection and text decoder compute the
        whole batch at a time, so the last digits of `log_prob` may (see `TextDecoder.generate`).

        Raises:
            InputError: `select` is `predicted_iou`, but there are several heads and not one per
                mask candidate.
        """
        if not batch.region_ids:
            return []
        started = time.perf_counter()
        was_training = self.training
        self.eval()
        try:
            features = self._features(batch)
            generated = self.generate_ids(features, batch.region_tasks(), decoding)
        finally:
            self.train(was_training)
        kept_N = self._chosen_rows(features.ious_NM, len(generated.ids_NL))
        chosen = Generated(
            generated.ids_NL[kept_N], generated.lengths_N[kept_N], generated.log_prob_N[kept_N]
        )
        captions = self.text_decoder.decode(chosen)
        seconds = (time.perf_counter() - started) / len(captions)
        return [
            Prediction(region_id, caption, log_prob, tuple(ious), seconds)
            for region_id, caption, log_prob, ious in zip(
                batch.region_ids,
                captions,
                chosen.log_prob_N.tolist(),
                features.ious_NM.tolist(),
                strict=True,
            )
        ]

    # --- the steps ----------------------------------------------------------------------------

    def query_outputs(self, features: RegionFeatures) -> Tensor:
        """Return what the text decoder shall know of each region, (N, H, Q, C).

        These are the caption queries, mixed with their context where the design has a text mixer,
        with dropout in training.
        """
        return F.dropout(self.mixed_queries(features), self.query_dropout, self.training)

    def mixed_queries(self, features: RegionFeatures) -> Tensor:
        """Return `query_outputs` before dropout, (N, H, Q, C)."""
        dtype = next(self.projection.parameters()).dtype
        outputs_NHQC: Tensor = self.caption_query_tokens(features).to(dtype)
        if self.text_mixer is not None and self.context is not None:
            context = self.context(features)
            heads, queries = outputs_NHQC.shape[1:3]
            tokens_NTC = self.text_mixer.mixed_tokens(
                context.image_tokens_NSC.to(dtype),
                context.image_pe_SC.to(dtype),
                torch.cat([outputs_NHQC.flatten(1, 2), context.tokens_NTC.to(dtype)], dim=1),
                context.image_index_N,
            )
            num_heads = self.caption_query_tokens.num_heads_used(features, heads)
            outputs_NHQC = tokens_NTC[:, : num_heads * queries].unflatten(1, (-1, queries))
        return outputs_NHQC

    def prefix(self, outputs_NHQC: Tensor, tasks: list[str]) -> Tensor:
        """Return what the text decoder continues, (N*H, K + Q, D): task tokens, then queries.

        Args:
            outputs_NHQC: Query outputs.
            tasks: Task of each of the N regions.

        Raises:
            ValueError: A task is unknown.
        """
        return self.prefix_of(outputs_NHQC, self.task_index(tasks, outputs_NHQC.device))

    def task_index(self, tasks: list[str], device: torch.device) -> Tensor:
        """Return the block of task tokens of each of N regions, (N,), on a device.

        Raises:
            ValueError: A task is unknown.
        """
        unknown = set(tasks) - set(TASKS)
        if unknown and self.task_tokens is not None:
            raise ValueError(f"unknown task {unknown.pop()!r}, known: {', '.join(TASKS)}")
        index_N = torch.tensor([TASKS.get(t, 0) for t in tasks])
        return index_N.to(device, non_blocking=True)

    def prefix_of(self, outputs_NHQC: Tensor, task_index_N: Tensor) -> Tensor:
        """Return `prefix`, given `task_index` of the regions."""
        prefix_NPD: Tensor = self.projection(outputs_NHQC.flatten(0, 1))
        if self.task_tokens is not None:
            task_NKD = self.task_tokens.weight.unflatten(0, (len(TASKS), -1))[task_index_N]
            task_NKD = task_NKD.repeat_interleave(outputs_NHQC.shape[1], 0)
            prefix_NPD = torch.cat([task_NKD.to(prefix_NPD.dtype), prefix_NPD], dim=1)
        return prefix_NPD * self.prefix_gain

    def generate_ids(
        self, features: RegionFeatures, tasks: list[str], decoding: Decoding
    ) -> Generated:
        """Decode all caption heads of N regions: N*H rows."""
        self._set_decoder_mode()
        return self.text_decoder.generate(
            self.prefix(self.query_outputs(features), tasks), decoding
        )

    # --- what is trained ----------------------------------------------------------------------

    def trained_stages(self) -> dict[str, nn.Module]:
        """Return the trained parts by stage name; a part that learns nothing is none."""
        stages: dict[str, nn.Module | None] = {
            "text_mixer": self.text_mixer,
            "caption_query_tokens": self.caption_query_tokens,
            "projection": self.projection,
            "task_tokens": self.task_tokens,
            "text_decoder": self.text_decoder if self.train_text_decoder else None,
        }
        return {
            name: part
            for name, part in stages.items()
            if part is not None and any(True for _ in part.parameters())
        }

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name; the name begins with its stage and a dot."""
        return {
            f"{stage}.{name}": parameter
            for stage, part in self.trained_stages().items()
            for name, parameter in part.named_parameters()
        }

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
                raise InputError(
                    where, name, "is no trained tensor here", did_you_mean(name, parameters)
                )
        for name, parameter in parameters.items():
            if name not in state:
                raise InputError(where, name, "is missing")
            if state[name].shape != parameter.shape:
                raise InputError(
                    where,
                    name,
                    f"has shape {tuple(state[name].shape)}, expected {tuple(parameter.shape)}",
                )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state[name])

    def compile_blocks(self) -> None:
        """Compile the blocks of text mixer, text decoder and image encoder (SAM's own ViT).

        Some run as they were written: the decoder's where captions are generated (their caches grow
        with every word) or are computed again in the backward pass, and the encoder's on a CPU,
        where no bit of frozen features may depend on how they came about.
        """
        for block in self.text_mixer.layers if self.text_mixer is not None else ():
            compile_block(block)
        for block in layers_of(self.text_decoder.language_model):
            compile_block(block, when=partial(keeps_activations, block))
        vit = getattr(self.region_encoder.sam.image_encoder, "blocks", None)
        for block in vit if isinstance(vit, nn.ModuleList) else ():
            compile_block(block, when=lambda rows: not each_by_itself(rows))

    def train(self, mode: bool = True) -> ScaCaptioner:
        """Set the mode of the trained parts; SAM always stays in evaluation mode."""
        self.training = mode
        for stage, part in self.trained_stages().items():
            if stage != "text_decoder":
                part.train(mode)
        return self

    # --- small helpers ------------------------------------------------------------------------

    def _features(self, batch: RegionBatch) -> RegionFeatures:
        return batch.features if batch.features is not None else self.frozen_features(batch)

    def _set_decoder_mode(self) -> None:
        wanted = self.training and self.dropout_in_training
        if self.text_decoder.training != wanted:
            self.text_decoder.train(wanted)

    def _chosen_rows(self, ious_NM: Tensor, num_rows: int) -> Tensor:
        regions, candidates = ious_NM.shape
        heads = num_rows // regions
        rows_N = torch.arange(regions, device=ious_NM.device) * heads
        if heads == 1 or self.select == "first":
            return rows_N
        with at(self.variant):
            check_selection(heads, candidates, self.select)
        return rows_N + ious_NM.argmax(1)


def check_selection(heads: int | None, candidates: int, select: str) -> None:
    """Refuse to choose a caption head by the predicted IoU of masks that are not its own.

    Args:
        heads: Captions per region; None where that depends on the batch.
        candidates: Mask candidates per region.
        select: `predicted_iou` or `first`.

    Raises:
        InputError: There are several heads, and not one for each candidate.
    """
    if select == "predicted_iou" and heads not in (1, candidates):
        given = "as many as the batch has images" if heads is None else f"{heads}"
        raise InputError(
            None,
            "eval.select",
            f"predicted_iou needs one caption head, or one per mask candidate ({candidates});"
            f" there are {given}",
            "set eval.select: first, or change the number of heads",
        )
