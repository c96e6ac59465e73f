"""Which tokens enter the text mixer: the one place where the mixer variants differ.

Shape legend: N regions, H caption heads, Q caption query tokens per head, T tokens, S image
tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sca_bench.batch import RegionFeatures


@dataclass(frozen=True)
class MixerInput:
    """What the text mixer reads.

    Attributes:
        tokens_NTC: Tokens; the caption queries are the first H*Q, head by head.
        image_tokens_NSC: Image tokens of each region.
        image_pe_SC: Their positional encoding.
    """

    tokens_NTC: Tensor
    image_tokens_NSC: Tensor
    image_pe_SC: Tensor


class LearnedQueries(nn.Module):
    """Learned caption query tokens in front of the SAM mixer's output tokens.

    Source: Huang et al., Segment and Caption Anything, CVPR 2024: the main model.
    """

    def __init__(self, num_caption_heads: int, num_query_tokens: int, embedding_dim: int) -> None:
        """Build H*Q learned tokens of C channels."""
        super().__init__()
        self.num_caption_heads = num_caption_heads
        self.num_query_tokens = num_query_tokens
        self.tokens = nn.Embedding(num_caption_heads * num_query_tokens, embedding_dim)

    def forward(self, features: RegionFeatures) -> MixerInput:
        """Return caption queries, then SAM's tokens; image tokens as the SAM mixer left them."""
        weight = self.tokens.weight
        sam_tokens_NTC = features.tokens_NTC.to(weight.dtype)
        queries_NQC = weight.expand(len(sam_tokens_NTC), -1, -1)
        return MixerInput(
            torch.cat([queries_NQC, sam_tokens_NTC], dim=1),
            features.image_tokens_NSC.to(weight.dtype),
            features.image_pe_SC.to(weight.dtype),
        )
