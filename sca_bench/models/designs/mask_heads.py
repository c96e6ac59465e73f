"""Learned text queries of their own for every mask candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import Design
    from sca_bench.settings import MixerSettings
    from sca_bench.specs.sam_dims import SamDims

SPEC = DesignSpec(
    name="sca_mask_heads",
    summary="Learned text queries of their own for every mask candidate",
    design="sca_bench.models.designs.mask_heads:mask_heads",
    features_as_published=("prompts",),
    as_published="mixes the queries with the SAM mixer's input tokens instead of its outputs",
    revision="3",
    source=f"{PAPER}: the code's base and first multitask models",
)


def mask_heads(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix the queries with the SAM mixer's output tokens; with its inputs as published.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    from sca_bench.models.designs import parts
    from sca_bench.models.designs.queries import MaskHeadQueries

    reason = "sca_mask_heads has one caption head per mask candidate"
    parts.refuse_changed(mixer, reason, "num_caption_heads")
    text_mixer = parts.build_text_mixer(mixer, dims)
    queries = MaskHeadQueries(dims.num_mask_tokens, mixer.num_query_tokens, dims.embed_dim)
    if mixer.as_published:
        context = parts.unmixed_tokens_context
        return parts.Design(queries, ("mixed", "prompts"), text_mixer, context)
    return parts.Design(queries, ("mixed",), text_mixer, parts.mixed_context)
