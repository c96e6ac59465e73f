"""Direct decoding: SAM's own mask tokens are the caption queries, one head per mask candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import Design
    from sca_bench.settings import MixerSettings
    from sca_bench.specs.sam_dims import SamDims

TRAINED = ("text_mixer", "projection", "task_tokens")
"""What is trained where no query is learned."""
FIRST_HEAD = (
    "reads one caption head only, the first mask candidate's (the original reads as many as its"
    " batch has images, and its published runs held one image a process)"
)
"""What is read as published."""

SPEC = DesignSpec(
    name="sca_sam_query",
    summary="SAM's own mask tokens as queries: one caption per mask candidate",
    design="sca_bench.models.designs.sam_query:sam_query",
    trained=TRAINED,
    as_published=FIRST_HEAD,
    revision="3",
    source=f"{PAPER}: SAM Query",
)


def sam_query(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix the mask tokens with the SAM mixer's output tokens and image tokens.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    from sca_bench.models.designs.parts import Design, build_text_mixer, mixed_context
    from sca_bench.models.designs.queries import MaskTokenQueries

    refuse_queries(mixer, SPEC.name)
    text_mixer = build_text_mixer(mixer, dims)
    queries = MaskTokenQueries(as_published=mixer.as_published)
    return Design(queries, ("mixed",), text_mixer, mixed_context)


def refuse_queries(mixer: MixerSettings, variant: str) -> None:
    """Refuse settings of learned queries, which such a design does not have.

    Raises:
        InputError: One of them was changed.
    """
    from sca_bench.models.designs.parts import refuse_changed

    reason = f"{variant} takes SAM's mask tokens as queries, one per head"
    refuse_changed(mixer, reason, "num_query_tokens", "num_caption_heads")
