"""Learned text queries that never see what the SAM mixer did.

Shape legend: B images, h w rows and columns of image embeddings, S = h*w image tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.batch import RegionFeatures
    from sca_bench.models.designs.parts import Design, MixerContext
    from sca_bench.settings import MixerSettings
    from sca_bench.specs.sam_dims import SamDims

SPEC = DesignSpec(
    name="sca_split_mixer",
    summary="Text queries over prompt and image embeddings; the SAM mixer stands beside",
    design="sca_bench.models.designs.split_mixer:without_sam_tokens",
    features=("prompts", "images"),
    ignores=("mixer.as_published",),
    revision="3",
    source=f"{PAPER}: Text Query w/o SAM Tokens",
)


@dataclass(frozen=True)
class UnmixedContext:
    """Prompt tokens and image embeddings, both as they go into the SAM mixer.

    Attributes:
        image_grid: Average-pool the image tokens, and their positional encoding, to this many
            rows and columns; None leaves them.
    """

    image_grid: int | None = None

    def __call__(self, features: RegionFeatures) -> MixerContext:
        """Return prompt tokens per region and image tokens once per image."""
        from sca_bench.models.designs.parts import MixerContext
        from sca_bench.models.sam.region_encoder import pool_tokens

        embeddings_BChw = features.need("embeddings_BChw")
        pe_SC, grid = features.need("embedding_pe_SC"), embeddings_BChw.shape[-1]
        image_BChw = embeddings_BChw + features.need("dense_prompt_C")[:, None, None]
        # Contiguous, whatever the layout: new embeddings have channels last, kept ones first.
        image_BSC = image_BChw.flatten(2).transpose(1, 2).contiguous()
        if self.image_grid is not None and self.image_grid != grid:
            image_BSC = pool_tokens(image_BSC, grid, self.image_grid)
            pe_SC = pool_tokens(pe_SC[None], grid, self.image_grid)[0]
        return MixerContext(
            features.need("prompt_tokens_NPC"), image_BSC, pe_SC, features.image_index_N
        )


def without_sam_tokens(mixer: MixerSettings, dims: SamDims) -> Design:
    """Mix learned caption queries with prompt tokens and un-mixed image tokens.

    Raises:
        InputError: Sizes contradict each other.
    """
    from sca_bench.models.designs.parts import Design, build_text_mixer
    from sca_bench.models.designs.queries import LearnedQueries

    text_mixer = build_text_mixer(mixer, dims)
    queries = LearnedQueries(mixer.num_caption_heads, mixer.num_query_tokens, dims.embed_dim)
    return Design(queries, ("prompts", "images"), text_mixer, UnmixedContext(mixer.image_grid))
