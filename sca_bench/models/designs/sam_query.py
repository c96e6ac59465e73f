"""Direct decoding: SAM's own mask tokens are the caption queries, one head per mask candidate.

Shape legend: B images, N regions, M mask candidates, T tokens, C channels; Q = 1.
"""

from __future__ import annotations

from torch import Tensor

from sca_bench.batch import RegionFeatures
from sca_bench.models.designs.parts import (
    CaptionQueries,
    Design,
    build_text_mixer,
    mixed_context,
    refuse_changed,
    unmixed_tokens_context,
)
from sca_bench.settings import MixerSettings
from sca_bench.specs.sam_dims import SamDims


class MaskTokenQueries(CaptionQueries):
    """The SAM mixer's output mask tokens of the candidates handed on: no token is learned."""

    def __init__(self, *, as_published: bool = False) -> None:
        """Build the part.

        Args:
            as_published: Read one head only, the first candidate's. The original reads as many
                heads as its batch has images, and its published runs held one image a process.

        Attributes:
            counts_images: As published, read as many heads as the batch has images after all:
                what the original's code does with any batch. More images than candidates run into
                the tokens after the queries.
        """
        super().__init__()
        self.as_published = as_published
        self.counts_images = False

    def heads(self, num_candidates: int) -> int | None:
        """Return M, or 1 as published; None where the batch decides."""
        if self.counts_images:
            return None
        return 1 if self.as_published else num_candidates

    def num_heads_used(self, features: RegionFeatures, num_heads: int) -> int:
        """Return M; as published 1, or the number of images."""
        if self.counts_images:
            return features.num_images
        return 1 if self.as_published else num_heads

    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the mask tokens (N, M, 1, C)."""
        first = 1 + features.first_candidate  # the IoU token stands before the mask tokens
        last = first + features.ious_NM.shape[1]
        return features.need("tokens_NTC")[:, first:last, None]


def sam_query(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix the mask tokens with the SAM mixer's output tokens and image tokens.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    _refuse_queries(mixer, "sca_sam_query")
    text_mixer = build_text_mixer(mixer, dims)
    queries = MaskTokenQueries(as_published=mixer.as_published)
    return Design(queries, ("mixed",), text_mixer, mixed_context)


def sam_query_v1(mixer: MixerSettings, dims: SamDims) -> Design:
    """Build the first version: as published, the SAM mixer's *input* tokens follow the queries.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    if not mixer.as_published:
        return sam_query(mixer, dims)
    _refuse_queries(mixer, "sca_sam_query_v1")
    text_mixer = build_text_mixer(mixer, dims)
    queries = MaskTokenQueries(as_published=True)
    return Design(queries, ("mixed", "prompts"), text_mixer, unmixed_tokens_context)


def _refuse_queries(mixer: MixerSettings, variant: str) -> None:
    reason = f"{variant} takes SAM's mask tokens as queries, one per head"
    refuse_changed(mixer, reason, "num_query_tokens", "num_caption_heads")
