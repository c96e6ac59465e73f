"""SAM as a set of parts: image encoder, prompt encoder, mask decoder, at any size.

The modules are segment_anything's, with two exceptions that keep all parameter names: the mixer
inside the mask decoder is `TwoWayMixer`, and the image encoder's attention is fused.

Shape legend: B images, N regions, P points (or prompt tokens), T tokens, S image tokens (= h*w),
C channels, M mask candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn

from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.image_encoder import SamImageEncoder
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.randomness import seeded
from sca_bench.models.sam_weights import load_sam_weights

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""Mean of SAM's training pixels, RGB, on the 0-255 scale."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""Standard deviation of SAM's training pixels, RGB, on the 0-255 scale."""
MASK_PROMPT_CHANNELS = 16
IOU_HEAD_DEPTH = 3


class ImageEncoder(Protocol):
    """What makes an image embedding: SAM's ViT, or a file in another format."""

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        ...

    def __call__(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images."""
        ...


@dataclass(frozen=True)
class SamDims:
    """All sizes of a SAM.

    Attributes:
        image_size: Side of the square model input, in pixels.
        patch_size: Side of a patch, in pixels.
        encoder_width: Channels of the ViT.
        encoder_depth: Blocks of the ViT.
        encoder_num_heads: Heads of the ViT.
        encoder_mlp_dim: Hidden width of the ViT's MLPs.
        encoder_window: Side of its attention windows in tokens; 0 makes all blocks global.
        encoder_global_blocks: Indices of the blocks that attend globally.
        embed_dim: Channels of image embedding, prompts and tokens.
        decoder_depth: Blocks of the SAM mixer.
        decoder_num_heads: Heads of the SAM mixer.
        decoder_mlp_dim: Hidden width of the SAM mixer's MLPs.
        iou_head_hidden_dim: Hidden width of the head that predicts the masks' IoU.
        num_mask_tokens: Mask tokens: one for a single mask, the others for candidates.
    """

    image_size: int
    patch_size: int
    encoder_width: int
    encoder_depth: int
    encoder_num_heads: int
    encoder_mlp_dim: int
    encoder_window: int
    encoder_global_blocks: tuple[int, ...]
    embed_dim: int
    decoder_depth: int
    decoder_num_heads: int
    decoder_mlp_dim: int
    iou_head_hidden_dim: int
    num_mask_tokens: int = 4

    @property
    def grid(self) -> int:
        """Rows (and columns) of image tokens."""
        return self.image_size // self.patch_size


def _published(width: int, depth: int, num_heads: int, global_blocks: tuple[int, ...]) -> SamDims:
    return SamDims(
        image_size=1024,
        patch_size=16,
        encoder_width=width,
        encoder_depth=depth,
        encoder_num_heads=num_heads,
        encoder_mlp_dim=4 * width,
        encoder_window=14,
        encoder_global_blocks=global_blocks,
        embed_dim=256,
        decoder_depth=2,
        decoder_num_heads=8,
        decoder_mlp_dim=2048,
        iou_head_hidden_dim=256,
    )


PRESETS: dict[str, SamDims] = {
    "tiny": SamDims(
        image_size=96,
        patch_size=8,
        encoder_width=96,
        encoder_depth=4,
        encoder_num_heads=4,
        encoder_mlp_dim=384,
        encoder_window=0,
        encoder_global_blocks=(0, 1, 2, 3),
        embed_dim=96,
        decoder_depth=2,
        decoder_num_heads=4,
        decoder_mlp_dim=192,
        iou_head_hidden_dim=96,
    ),
    "vit_b": _published(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": _published(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _published(1280, 32, 16, (7, 15, 23, 31)),
}


def sam_dims(size: str, where: str = "settings") -> SamDims:
    """Return the sizes of a preset.

    Raises:
        InputError: No such preset.
    """
    if size not in PRESETS:
        raise InputError(where, "sam.size", f"{size!r} is unknown", did_you_mean(size, PRESETS))
    return PRESETS[size]


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
        return self.image_encoder(pixel_values_B3HW)

    def image_pe(self) -> Tensor:
        """Return the positional encoding of the image tokens, (S, C), row-major."""
        pe_1Chw = self.prompt_encoder.get_dense_pe()
        return pe_1Chw.flatten(2).transpose(1, 2)[0]  # type: ignore[no-any-return]

    def dense_prompt(self) -> Tensor:
        """Return what stands for "no mask prompt", (C, 1, 1): it is added to every embedding."""
        return self.prompt_encoder.no_mask_embed.weight.reshape(-1, 1, 1)  # type: ignore[no-any-return]

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
        points = None
        if points_xy_input_NP2 is not None:
            if point_labels_NP is None:
                point_labels_NP = torch.ones_like(points_xy_input_NP2[..., 0])
            points = (points_xy_input_NP2, point_labels_NP)
        sparse_NPC, _ = self.prompt_encoder(points, boxes_xyxy_input_N4, None)
        return sparse_NPC  # type: ignore[no-any-return]

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
        own_TC = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens_NTC = torch.cat([own_TC.expand(len(sparse_NPC), -1, -1), sparse_NPC], dim=1)
        image_BSC = (embeddings_BChw + self.dense_prompt()).flatten(2).transpose(1, 2)
        mixed: tuple[Tensor, Tensor] = decoder.transformer(
            image_BSC, self.image_pe(), tokens_NTC, image_index_N
        )
        return mixed

    def predicted_ious(self, tokens_NTC: Tensor) -> Tensor:
        """Return the predicted IoU of every mask token, (N, M)."""
        return self.mask_decoder.iou_prediction_head(tokens_NTC[:, 0])  # type: ignore[no-any-return]

    def mask_logits(self, tokens_NTC: Tensor, image_tokens_NSC: Tensor) -> Tensor:
        """Return the low-resolution mask logits of every mask token, (N, M, 4h, 4w)."""
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
    where: str = "settings",
) -> Sam:
    """Build SAM in evaluation mode, with all parameters frozen.

    Args:
        dims: Sizes, or the name of a preset.
        weights: `random`, `embedded:NAME`, or a `.safetensors` / `.pth` file in Meta's layout.
        random_seed: Seed of the untrained weights; the global generator is left as it was.
        image_encoder: Takes the place of SAM's own; then no ViT is built, and the weights need
            (and may) hold no `image_encoder.*` keys, which are skipped where they do.
        where: File to name in an error.

    Raises:
        InputError: Unknown preset; unreadable or unfitting weights; an image encoder of another
            input size.
    """
    if isinstance(dims, str):
        dims = sam_dims(dims, where)
    if image_encoder is not None and image_encoder.image_size != dims.image_size:
        raise InputError(
            where,
            "encoder",
            f"takes {image_encoder.image_size} px images, but sam.size expects {dims.image_size}",
        )
    with seeded(random_seed):
        sam = _untrained(dims, image_encoder)
    if weights != "random":
        load_sam_weights(sam, weights, where=where, skip_image_encoder=image_encoder is not None)
    return sam.eval().requires_grad_(False)


def _untrained(dims: SamDims, image_encoder: ImageEncoder | None) -> Sam:
    return Sam(
        dims,
        image_encoder
        or SamImageEncoder(
            image_size=dims.image_size,
            patch_size=dims.patch_size,
            width=dims.encoder_width,
            depth=dims.encoder_depth,
            num_heads=dims.encoder_num_heads,
            mlp_dim=dims.encoder_mlp_dim,
            window_size=dims.encoder_window,
            global_attention=dims.encoder_global_blocks,
            out_channels=dims.embed_dim,
        ),
        PromptEncoder(
            embed_dim=dims.embed_dim,
            image_embedding_size=(dims.grid, dims.grid),
            input_image_size=(dims.image_size, dims.image_size),
            mask_in_chans=MASK_PROMPT_CHANNELS,
        ),
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
