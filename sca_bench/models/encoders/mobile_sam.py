"""MobileSAM: SAM with a TinyViT-5M in the place of its ViT, distilled from ViT-H."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.specs.encoders import EncoderSpec
from sca_bench.specs.sam_dims import SamDims

if TYPE_CHECKING:
    from sca_bench.models.sam.tiny_vit import TinyVitEncoder

SPEC = EncoderSpec(
    "vit_t",
    "MobileSAM: TinyViT-5M, distilled from SAM's ViT-H, 1024 px",
    "sca_bench.models.encoders.mobile_sam:build",
    SamDims(),
    unused=("norm_head.", "head."),
    source="Zhang et al., Faster Segment Anything, 2023",
)


def build(settings: object, dims: SamDims) -> TinyVitEncoder:
    """Build the image encoder: no size of it is another's to choose."""
    from sca_bench.models.sam.tiny_vit import TinyVitDims, TinyVitEncoder

    sizes = TinyVitDims((64, 128, 160, 320), (2, 2, 6, 2), (0, 4, 5, 10), (0, 7, 14, 7))
    return TinyVitEncoder(sizes, image_size=dims.image_size, out_channels=dims.embed_dim)
