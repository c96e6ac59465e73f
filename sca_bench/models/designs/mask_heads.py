"""Learned text queries of their own for every mask candidate.

Shape legend: N regions, M mask candidates, Q caption query tokens per head, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

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


class MaskHeadQueries(CaptionQueries):
    """Learned tokens for every mask token of SAM; those of the candidates handed on are used."""

    def __init__(self, num_mask_tokens: int, num_query_tokens: int, embedding_dim: int) -> None:
        """Build Q tokens of C channels for each mask token, mask by mask."""
        super().__init__()
        self.num_mask_tokens = num_mask_tokens
        self.num_query_tokens = num_query_tokens
        self.tokens = nn.Embedding(num_mask_tokens * num_query_tokens, embedding_dim)

    def heads(self, num_candidates: int) -> int:
        """Return M."""
        return num_candidates

    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the candidates' learned tokens (N, M, Q, C), repeated for every region."""
        regions, candidates = features.ious_NM.shape
        first = features.first_candidate
        tokens: Tensor = self.tokens.weight.unflatten(0, (self.num_mask_tokens, -1))
        return tokens[first : first + candidates].expand(regions, -1, -1, -1)


def mask_heads(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix the queries with the SAM mixer's output tokens; with its inputs as published.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    reason = "sca_mask_heads has one caption head per mask candidate"
    refuse_changed(mixer, reason, "num_caption_heads")
    text_mixer = build_text_mixer(mixer, dims)
    queries = MaskHeadQueries(dims.num_mask_tokens, mixer.num_query_tokens, dims.embed_dim)
    if mixer.as_published:
        return Design(queries, ("mixed", "prompts"), text_mixer, unmixed_tokens_context)
    return Design(queries, ("mixed",), text_mixer, mixed_context)
