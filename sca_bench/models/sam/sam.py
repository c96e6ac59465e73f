"""SAM as a set of parts: image encoder, prompt encoder, mask decoder, at any size.

The modules are segment_anything's, with three exceptions that keep all parameter names: the mixer
inside the mask decoder is `TwoWayMixer`, the image encoder's attention is fused, and positions are
encoded without a matrix product.

On a CPU and without gradient every image and every region is computed by itself, so that its
numbers do not depend on what else is in the batch (see `sca_bench.batch.each_by_itself`).

Shape legend: B images, N regions, P points (or prompt tokens), T tokens, S image tokens (= h*w),
C channels, M mask candidates.
"""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from torch import Tensor, nn

from sca_bench.batch import each_by_itself, row_by_row
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.sam.image_encoder import ImageEncoder
from sca_bench.models.sam.weights import load_sam_weights
from sca_bench.models.seeding import seeded
from sca_bench.specs.encoders import of_sam, sam_dims
from sca_bench.specs.sam_dims import IOU_HEAD_DEPTH, MASK_PROMPT_CHANNELS, SamDims

_PLAIN = "vit_h"
"""Whose image encoder a SAM of sizes without a name has: SAM's ViT, in these sizes."""


class PositionalEncoding(PositionEmbeddingRandom):  # type: ignore[misc]
    """SAM's encoding of coordinates, with the sum over x and y written out.

    As a matrix product, (n, 2) times (2, C/2), it would take another kernel for one point than for
    many, and round otherwise. Two products and a sum are the same for any number of points, and
    stay in float32 under autocast.
    """

    def _pe_encoding(self, coords: Tensor) -> Tensor:
        """Encode coordinates (..., 2), x then y from 0 to 1, as (..., C): sines, then cosines."""
        x, y = (2 * coords - 1).split(1, dim=-1)
        per_x, per_y = self.positional_encoding_gaussian_matrix
        phase = 2 * math.pi * (x * per_x + y * per_y)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class Sam(nn.Module):
    """SAM's parts and the steps between them, for many regions of many images at a time.

    The state dict has Meta's key layout; without `image_encoder.*` when the image encoder is not
    a torch module.
    """

    def __init__(
        self,
        dims: SamDims,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
    ) -> None:
        """Assemble SAM from its parts."""
        super().__init__()
        self.dims = dims
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    def encode_images(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the image embeddings (B, C, h, w) of normalised, padded images."""
        return row_by_row(self.image_encoder, pixel_values_B3HW)

    def image_pe(self) -> Tensor:
        """Return the positional encoding of the image tokens, (S, C), row-major."""
        pe_1Chw = self.prompt_encoder.get_dense_pe()
        return pe_1Chw.flatten(2).transpose(1, 2)[0]  # type: ignore[no-any-return]

    def dense_prompt(self) -> Tensor:
        """Return the embedding of "no mask prompt", (C, 1, 1): it is added to every embedding."""
        return self.prompt_encoder.no_mask_embed.weight.reshape(-1, 1, 1)  # type: ignore[no-any-return]

    def own_tokens(self) -> Tensor:
        """Return the tokens that stand before every prompt, (1 + M, C): IoU token, mask tokens."""
        decoder = self.mask_decoder
        return torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def encode_prompts(
        self,
        boxes_xyxy_input_N4: Tensor | None,
        points_xy_input_NP2: Tensor | None = None,
        point_labels_NP: Tensor | None = None,
    ) -> Tensor:
        """Embed boxes, points, or both; coordinates in model-input pixels.

        A box gives two tokens, a point one. Without boxes one padding token ("not a point") is
        appended; with both, points come first.

        Args:
            boxes_xyxy_input_N4: One box per region, or None.
            points_xy_input_NP2: P points per region, or None.
            point_labels_NP: 1 foreground, 0 background; None makes all points foreground.

        Returns:
            (N, P', C).

        Raises:
            ValueError: Neither boxes nor points were given.
        """
        if boxes_xyxy_input_N4 is None and points_xy_input_NP2 is None:
            raise ValueError("a region needs a box or points")
        if points_xy_input_NP2 is not None and point_labels_NP is None:
            point_labels_NP = torch.ones_like(points_xy_input_NP2[..., 0])
        return row_by_row(
            self._prompt_tokens, boxes_xyxy_input_N4, points_xy_input_NP2, point_labels_NP
        )

    def _prompt_tokens(
        self, boxes_N4: Tensor | None, points_NP2: Tensor | None, labels_NP: Tensor | None
    ) -> Tensor:
        points = None if points_NP2 is None else (points_NP2, labels_NP)
        return self.prompt_encoder(points, boxes_N4, None)[0]  # type: ignore[no-any-return]

    def mix(
        self, embeddings_BChw: Tensor, image_index_N: Tensor, sparse_NPC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the SAM mixer on every region.

        Args:
            embeddings_BChw: Image embeddings.
            image_index_N: The image each region lies in.
            sparse_NPC: Prompt tokens of each region.

        Returns:
            Tokens (N, 1 + M + P, C): IoU token, mask tokens, prompt tokens; and the regions'
            image tokens (N, S, C).
        """
        decoder = self.mask_decoder
        own_TC = self.own_tokens()
        tokens_NTC = torch.cat([own_TC.expand(len(sparse_NPC), -1, -1), sparse_NPC], dim=1)
        image_BSC = (embeddings_BChw + self.dense_prompt()).flatten(2).transpose(1, 2)
        # New embeddings have channels last in memory, those that were kept have them first, and
        # kernels that multiply one or the other round differently.
        image_BSC = image_BSC.contiguous()
        transformer = decoder.transformer
        mix = transformer.one_by_one if each_by_itself(tokens_NTC) else transformer
        mixed: tuple[Tensor, Tensor] = mix(image_BSC, self.image_pe(), tokens_NTC, image_index_N)
        return mixed

    def predicted_ious(self, tokens_NTC: Tensor) -> Tensor:
        """Return the predicted IoU of every mask token, (N, M)."""
        return row_by_row(self.mask_decoder.iou_prediction_head, tokens_NTC[:, 0])

    def mask_logits(self, tokens_NTC: Tensor, image_tokens_NSC: Tensor) -> Tensor:
        """Return the low-resolution mask logits of every mask token, (N, M, 4h, 4w)."""
        return row_by_row(self._mask_logits, tokens_NTC, image_tokens_NSC)

    def _mask_logits(self, tokens_NTC: Tensor, image_tokens_NSC: Tensor) -> Tensor:
        decoder, grid = self.mask_decoder, self.dims.grid
        image_NChw = image_tokens_NSC.transpose(1, 2).unflatten(2, (grid, grid))
        upscaled = decoder.output_upscaling(image_NChw)
        weights = torch.stack(
            [
                head(tokens_NTC[:, 1 + i])
                for i, head in enumerate(decoder.output_hypernetworks_mlps)
            ],
            dim=1,
        )
        return torch.einsum("nmc,nchw->nmhw", weights, upscaled)


def build_sam(
    dims: SamDims | str,
    *,
    weights: str = "random",
    random_seed: int = 0,
    image_encoder: ImageEncoder | None = None,
    untrained_encoder: bool = False,
) -> Sam:
    """Build SAM in evaluation mode, with all parameters frozen.

    Args:
        dims: The `sam.size` of a registered SAM, or the sizes of one with SAM's own ViT.
        weights: `random`, `embedded:NAME`, a `.safetensors` / `.pth` file, or a folder in
            transformers' layout.
        random_seed: Seed of the untrained weights; the global generator is left as it was.
        image_encoder: Takes the place of SAM's own; then no ViT is built, and the weights need
            (and may) hold no `image_encoder.*` keys, which are skipped where they do.
        untrained_encoder: Leave SAM's own image encoder as `random_seed` drew it; the weights'
            `image_encoder.*` keys, which need not be there, are skipped.

    Raises:
        InputError: No such SAM; unreadable or unfitting weights.
    """
    own = of_sam(dims if isinstance(dims, str) else _PLAIN)
    if isinstance(dims, str):
        dims = sam_dims(dims)
    with seeded(random_seed):
        sam = _untrained(dims, image_encoder or own.load()(None, dims))
    if weights != "random":
        skip = image_encoder is not None or untrained_encoder
        load_sam_weights(sam, dims, weights, own, skip_image_encoder=skip)
    return sam.eval().requires_grad_(False)


def _untrained(dims: SamDims, image_encoder: ImageEncoder) -> Sam:
    prompt_encoder = PromptEncoder(
        embed_dim=dims.embed_dim,
        image_embedding_size=(dims.grid, dims.grid),
        input_image_size=(dims.image_size, dims.image_size),
        mask_in_chans=MASK_PROMPT_CHANNELS,
    )
    # Same buffer, other arithmetic: only the class of the module changes.
    prompt_encoder.pe_layer.__class__ = PositionalEncoding
    return Sam(
        dims,
        image_encoder,
        prompt_encoder,
        MaskDecoder(
            transformer_dim=dims.embed_dim,
            transformer=TwoWayMixer(
                dims.decoder_depth,
                dims.embed_dim,
                dims.decoder_num_heads,
                dims.decoder_mlp_dim,
            ),
            num_multimask_outputs=dims.num_mask_tokens - 1,
            iou_head_depth=IOU_HEAD_DEPTH,
            iou_head_hidden_dim=dims.iou_head_hidden_dim,
        ),
    )
