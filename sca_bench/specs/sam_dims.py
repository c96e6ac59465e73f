"""The sizes of a SAM; no torch."""

from __future__ import annotations

from dataclasses import dataclass

MASK_PROMPT_CHANNELS = 16
IOU_HEAD_DEPTH = 3


@dataclass(frozen=True)
class SamDims:
    """All sizes of a SAM; where nothing else is said, those of the published ones.

    The `encoder_` sizes are those of SAM's ViT; they stay 0 where another image encoder stands in
    its place.

    Attributes:
        image_size: Side of the square model input, in pixels.
        patch_size: Side of the square of pixels that becomes one image token.
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

    image_size: int = 1024
    patch_size: int = 16
    encoder_width: int = 0
    encoder_depth: int = 0
    encoder_num_heads: int = 0
    encoder_mlp_dim: int = 0
    encoder_window: int = 0
    encoder_global_blocks: tuple[int, ...] = ()
    embed_dim: int = 256
    decoder_depth: int = 2
    decoder_num_heads: int = 8
    decoder_mlp_dim: int = 2048
    iou_head_hidden_dim: int = 256
    num_mask_tokens: int = 4

    @property
    def grid(self) -> int:
        """Rows (and columns) of image tokens."""
        return self.image_size // self.patch_size
