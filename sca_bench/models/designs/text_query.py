"""The main model: learned text queries over what the SAM mixer yields."""

from __future__ import annotations

from sca_bench.models.designs.parts import Design, LearnedQueries, build_text_mixer, mixed_context
from sca_bench.settings import MixerSettings
from sca_bench.specs.sam_dims import SamDims


def with_sam_tokens(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix learned caption queries with the SAM mixer's output tokens and image tokens.

    Raises:
        InputError: Sizes contradict each other.
    """
    text_mixer = build_text_mixer(mixer, dims)
    queries = LearnedQueries(mixer.num_caption_heads, mixer.num_query_tokens, dims.embed_dim)
    return Design(queries, ("mixed",), text_mixer, mixed_context)
