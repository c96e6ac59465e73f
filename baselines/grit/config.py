"""All sizes of a GRiT in one place: the released models, and a tiny one for rendered scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sca_bench import scene_grammar
from sca_bench.errors import InputError, did_you_mean

STRIDES = (8, 16, 32, 64, 128)
"""Pixels per cell of the five pyramid levels p3 ... p7; the first three are pooled from."""
NUM_POOLED_LEVELS = 3
"""Levels that regions are pooled from, the finest ones."""


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of the ViT.

    Attributes:
        width: Channels.
        depth: Blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs, in widths.
        window: Side of an attention window in tokens.
        global_blocks: Indices of the blocks that attend globally; the others attend in windows.
        table_grid: Side in tokens of the image that the global position tables were made for.
        position_grid: Side in tokens of the absolute position table.
        patch_px: Side of a patch in pixels.
    """

    width: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    mlp_ratio: float = 4.0
    window: int = 14
    table_grid: int = 64
    position_grid: int = 14
    patch_px: int = 16


@dataclass(frozen=True)
class TextDecoderConfig:
    """Sizes of the text decoder.

    Attributes:
        vocab_size: Rows of the embedding.
        width: Channels.
        num_layers: Transformer layers.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.
        num_positions: Rows of the position table; text tokens only have positions.
        begin_tokens: Token that a caption of each task begins with; the tasks it was trained on.
        end_token: Token that ends a caption.
    """

    vocab_size: int = 30_522
    width: int = 768
    num_layers: int = 6
    num_heads: int = 12
    mlp_dim: int = 3_072
    num_positions: int = 1_024
    begin_tokens: Mapping[str, int] = field(default_factory=lambda: {"caption": 101})
    end_token: int = 102


@dataclass(frozen=True)
class DetectionConfig:
    """How proposals and detections are chosen.

    Attributes:
        min_heat: Proposals need a heat above this.
        max_per_level: Proposals kept of each pyramid level before suppression.
        proposal_iou: Proposals that overlap a better one by more are dropped.
        max_proposals: Proposals kept of an image (more where scores tie).
        num_stages: Stages of the cascade.
        min_score: Detections need a score above this.
        detection_iou: Detections that overlap a better one by more are dropped.
        max_detections: Detections kept of an image.
    """

    min_heat: float = 1e-4
    max_per_level: int = 1_000
    proposal_iou: float = 0.9
    max_proposals: int = 256
    num_stages: int = 3
    min_score: float = 0.02
    detection_iou: float = 0.5
    max_detections: int = 256


@dataclass(frozen=True)
class GritConfig:
    """All sizes of a GRiT.

    Attributes:
        image_encoder: The ViT.
        text_decoder: The text decoder.
        detection: Choice of proposals and detections.
        pyramid_channels: Channels of every pyramid level.
        box_head_dim: Hidden width of the cascade's heads.
        object_grid: Rows and columns that a region is pooled to for the text decoder.
        short_side_px: Images are scaled so that their shorter side has this length ...
        long_side_px: ... unless the longer one would exceed this.
        mask_head: Whether its checkpoints hold a mask head, which is not used here. All that tells
            the joint checkpoint from the one for captions alone, whose begin tokens differ.
    """

    image_encoder: ImageEncoderConfig
    text_decoder: TextDecoderConfig = TextDecoderConfig()
    detection: DetectionConfig = DetectionConfig()
    pyramid_channels: int = 256
    box_head_dim: int = 1_024
    object_grid: int = 14
    short_side_px: int = 800
    long_side_px: int = 1_333
    mask_head: bool = False


_ENCODERS = {
    "b": ImageEncoderConfig(768, 12, 12, (2, 5, 8, 11)),
    "l": ImageEncoderConfig(1_024, 24, 16, (5, 11, 17, 23)),
    "h": ImageEncoderConfig(1_280, 32, 16, (7, 15, 23, 31)),
}
# The i-th training task begins with token 103 + i, the first one with [CLS].
_JOINT = TextDecoderConfig(begin_tokens={"recognition": 101, "caption": 104})
_RECOGNITION = TextDecoderConfig(begin_tokens={"recognition": 101})

TINY_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[TASK]", *scene_grammar.VOCABULARY)
"""Vocabulary of the tiny size, by token id: special tokens, then the words of rendered scenes."""
_TINY = GritConfig(
    ImageEncoderConfig(
        width=64,
        depth=3,
        num_heads=4,
        mlp_ratio=2.0,
        window=4,
        global_blocks=(2,),
        table_grid=12,
        position_grid=12,
    ),
    TextDecoderConfig(
        vocab_size=len(TINY_WORDS),
        width=96,
        num_layers=2,
        num_heads=4,
        mlp_dim=192,
        num_positions=64,
        begin_tokens={"caption": 2, "recognition": 4},
        end_token=3,
    ),
    DetectionConfig(max_per_level=64, max_proposals=32, max_detections=16),
    pyramid_channels=64,
    box_head_dim=64,
    object_grid=7,
    short_side_px=192,
    long_side_px=320,
)

SIZES: dict[str, GritConfig] = {
    "grit_b_densecap": GritConfig(_ENCODERS["b"]),
    "grit_b_densecap_objectdet": GritConfig(_ENCODERS["b"], _JOINT, mask_head=True),
    "grit_b_objectdet": GritConfig(_ENCODERS["b"], _RECOGNITION, mask_head=True),
    "grit_l_objectdet": GritConfig(_ENCODERS["l"], _RECOGNITION, mask_head=True),
    "grit_h_objectdet": GritConfig(_ENCODERS["h"], _RECOGNITION, mask_head=True),
    "grit_tiny": _TINY,
}
"""Configurations by the name of the released checkpoint; `grit_tiny` is this package's own."""


def grit_config(size: str) -> GritConfig:
    """Return the configuration of a size.

    Raises:
        InputError: No such size; the nearest one is suggested.
    """
    if size not in SIZES:
        raise InputError(None, "baseline.size", f"{size!r} is unknown", did_you_mean(size, SIZES))
    return SIZES[size]
