"""SCA's designs, one file each: functions `(mixer settings, SAM's sizes) -> Design`.

Designs of other packages import from here what they are made of.
"""

from sca_bench.models.designs.parts import (
    CaptionQueries,
    Design,
    LearnedQueries,
    MixerContext,
    build_text_mixer,
    mixed_context,
    refuse_changed,
    unmixed_tokens_context,
)
from sca_bench.specs.sam_dims import SamDims

__all__ = [
    "CaptionQueries",
    "Design",
    "LearnedQueries",
    "MixerContext",
    "SamDims",
    "build_text_mixer",
    "mixed_context",
    "refuse_changed",
    "unmixed_tokens_context",
]
