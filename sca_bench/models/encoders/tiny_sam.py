"""This package's own tiny SAMs, trained on rendered scenes by the recipes in `embedded`."""

from __future__ import annotations

from sca_bench.models.encoders.sam_vit import BUILD, NAMES
from sca_bench.specs.encoders import EncoderSpec
from sca_bench.specs.sam_dims import SamDims


def _tiny(name: str, width: int, depth: int) -> EncoderSpec:
    dims = SamDims(
        image_size=96,
        patch_size=8,
        encoder_width=width,
        encoder_depth=depth,
        encoder_num_heads=4,
        encoder_mlp_dim=4 * width,
        encoder_global_blocks=tuple(range(depth)),
        embed_dim=96,
        decoder_num_heads=4,
        decoder_mlp_dim=192,
        iou_head_hidden_dim=96,
    )
    summary = f"Tiny SAM for rendered scenes: {depth} blocks of width {width}, 96 px"
    return EncoderSpec(name, summary, BUILD, dims, scale="small", renamed=NAMES)


SPECS = (_tiny("tiny_small", 48, 2), _tiny("tiny", 96, 4), _tiny("tiny_large", 128, 6))
