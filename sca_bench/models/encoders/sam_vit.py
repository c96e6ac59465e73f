"""SAM's three ViTs with plain and windowed attention, as published."""

from __future__ import annotations

from sca_bench.specs.encoders import EncoderSpec
from sca_bench.specs.sam_dims import SamDims

BUILD = "sca_bench.models.sam.vit:build"
NAMES = (
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^vision_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^vision_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^vision_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^vision_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
)
"""How transformers names the tensors of SAM's ViT."""


def _vit(
    name: str, title: str, width: int, depth: int, num_heads: int, global_blocks: tuple[int, ...]
) -> EncoderSpec:
    dims = SamDims(
        encoder_width=width,
        encoder_depth=depth,
        encoder_num_heads=num_heads,
        encoder_mlp_dim=4 * width,
        encoder_window=14,
        encoder_global_blocks=global_blocks,
    )
    return EncoderSpec(
        name,
        f"SAM with {title}: {depth} blocks of width {width}, 1024 px",
        BUILD,
        dims,
        scale="large",
        renamed=NAMES,
        source="Kirillov et al., Segment Anything, ICCV 2023",
    )


SPECS = (
    _vit("vit_b", "ViT-B", 768, 12, 12, (2, 5, 8, 11)),
    _vit("vit_l", "ViT-L", 1024, 24, 16, (5, 11, 17, 23)),
    _vit("vit_h", "ViT-H, the paper's", 1280, 32, 16, (7, 15, 23, 31)),
)
