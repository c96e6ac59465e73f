"""The sizes of a SAM: the published ones, and tiny ones for rendered scenes. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.errors import InputError, did_you_mean

MASK_PROMPT_CHANNELS = 16
IOU_HEAD_DEPTH = 3


@dataclass(frozen=True)
class TinyVitDims:
    """Sizes of a TinyViT, the image encoder of MobileSAM; one value per stage.

    The first stage is made of convolutions and has no heads or windows: 0.

    Attributes:
        widths: Channels.
        depths: Blocks.
        num_heads: Attention heads.
        windows: Side of the attention windows, in positions.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    windows: tuple[int, ...]


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
        tiny_vit: Sizes of a TinyViT, which then replaces the ViT; the `encoder_` sizes are 0.
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
    tiny_vit: TinyVitDims | None = None

    @property
    def grid(self) -> int:
        """Rows (and columns) of image tokens."""
        return self.image_size // self.patch_size


def _published(
    width: int,
    depth: int,
    num_heads: int,
    global_blocks: tuple[int, ...],
    tiny_vit: TinyVitDims | None = None,
) -> SamDims:
    return SamDims(
        image_size=1024,
        patch_size=16,
        encoder_width=width,
        encoder_depth=depth,
        encoder_num_heads=num_heads,
        encoder_mlp_dim=4 * width,
        encoder_window=0 if tiny_vit else 14,
        encoder_global_blocks=global_blocks,
        embed_dim=256,
        decoder_depth=2,
        decoder_num_heads=8,
        decoder_mlp_dim=2048,
        iou_head_hidden_dim=256,
        tiny_vit=tiny_vit,
    )


def _tiny(width: int, depth: int) -> SamDims:
    return SamDims(
        image_size=96,
        patch_size=8,
        encoder_width=width,
        encoder_depth=depth,
        encoder_num_heads=4,
        encoder_mlp_dim=4 * width,
        encoder_window=0,
        encoder_global_blocks=tuple(range(depth)),
        embed_dim=96,
        decoder_depth=2,
        decoder_num_heads=4,
        decoder_mlp_dim=192,
        iou_head_hidden_dim=96,
    )


_TINY_VIT_5M = TinyVitDims(
    widths=(64, 128, 160, 320), depths=(2, 2, 6, 2), num_heads=(0, 4, 5, 10), windows=(0, 7, 14, 7)
)

PRESETS: dict[str, SamDims] = {
    "tiny_small": _tiny(48, 2),
    "tiny": _tiny(96, 4),
    "tiny_large": _tiny(128, 6),
    "vit_t": _published(0, 0, 0, (), _TINY_VIT_5M),
    "vit_b": _published(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": _published(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _published(1280, 32, 16, (7, 15, 23, 31)),
}


def sam_dims(size: str) -> SamDims:
    """Return the sizes of a preset.

    Raises:
        InputError: No such preset.
    """
    if size not in PRESETS:
        raise InputError(None, "sam.size", f"{size!r} is unknown", did_you_mean(size, PRESETS))
    return PRESETS[size]
