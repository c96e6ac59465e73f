"""Where the caption queries of a region come from: learned, SAM's own tokens, cut-out embeddings.

Shape legend: B images, N regions, H caption heads, Q caption query tokens per head, M mask
candidates, T tokens, h w rows and columns of image embeddings, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align as align

from sca_bench.batch import RegionFeatures
from sca_bench.errors import InputError

ROI_SIZE = 6
"""Rows and columns that `RoiQueries` cut out of a box."""


class CaptionQueries(nn.Module, ABC):
    """Where the caption queries of a region come from."""

    @abstractmethod
    def heads(self, num_candidates: int) -> int | None:
        """Return the captions per region for M mask candidates; None where the batch decides."""

    @abstractmethod
    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the queries (N, H, Q, C)."""

    def num_heads_used(self, features: RegionFeatures, num_heads: int) -> int:
        """Return how many caption heads are read from the mixed tokens: all, as a rule."""
        return num_heads


class LearnedQueries(CaptionQueries):
    """The same learned tokens for every region."""

    def __init__(self, num_caption_heads: int, num_query_tokens: int, embedding_dim: int) -> None:
        """Build H*Q learned tokens of C channels, head by head."""
        super().__init__()
        self.num_caption_heads = num_caption_heads
        self.num_query_tokens = num_query_tokens
        self.tokens = nn.Embedding(num_caption_heads * num_query_tokens, embedding_dim)

    def heads(self, num_candidates: int) -> int:
        """Return H, whatever the number of mask candidates."""
        return self.num_caption_heads

    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the learned tokens, repeated for every region."""
        tokens_HQC: Tensor = self.tokens.weight.unflatten(0, (self.num_caption_heads, -1))
        return tokens_HQC.expand(len(features.ious_NM), -1, -1, -1)


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


class RoiQueries(CaptionQueries):
    """Rows and columns of the box, sampled from the image encoder's own map.

    Source: He et al., Mask R-CNN, ICCV 2017 (ROI Align, half-pixel offset, adaptive sampling).
    """

    def __init__(self, stride: int) -> None:
        """Build the part.

        Args:
            stride: Model-input pixels per image embedding.
        """
        super().__init__()
        self.stride = stride

    def heads(self, num_candidates: int) -> int:
        """Return 1."""
        return 1

    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the cut-out embeddings (N, 1, 36, C), row-major.

        Raises:
            InputError: The prompt holds no box.
        """
        if features.boxes_xyxy_input_N4 is None:
            raise InputError(
                "sca_roi_align", "prompt", "a point alone has no region to cut out", "give a box"
            )
        boxes_N4 = features.boxes_xyxy_input_N4.float()
        rois_N5 = torch.cat([features.image_index_N[:, None].to(boxes_N4), boxes_N4], dim=1)
        cut_NChw: Tensor = align(
            features.need("embeddings_BChw").float(),
            rois_N5,
            output_size=ROI_SIZE,
            spatial_scale=1 / self.stride,
            sampling_ratio=0,
            aligned=True,
        )
        return cut_NChw.flatten(2).transpose(1, 2)[:, None]
