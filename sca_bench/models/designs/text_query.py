"""The main model: learned text queries over what the SAM mixer yields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import Design
    from sca_bench.settings import MixerSettings
    from sca_bench.specs.sam_dims import SamDims

SPEC = DesignSpec(
    name="sca",
    summary="Text queries over SAM tokens: the paper's main model",
    design="sca_bench.models.designs.text_query:with_sam_tokens",
    ignores=("mixer.as_published",),
    revision="3",
    source=f"{PAPER}: Text Query w/ SAM Tokens",
)


def with_sam_tokens(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix learned caption queries with the SAM mixer's output tokens and image tokens.

    Raises:
        InputError: Sizes contradict each other.
    """
    from sca_bench.models.designs.parts import Design, build_text_mixer, mixed_context
    from sca_bench.models.designs.queries import LearnedQueries

    text_mixer = build_text_mixer(mixer, dims)
    queries = LearnedQueries(mixer.num_caption_heads, mixer.num_query_tokens, dims.embed_dim)
    return Design(queries, ("mixed",), text_mixer, mixed_context)
