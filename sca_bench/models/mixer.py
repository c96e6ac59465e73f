"""The feature mixer: a two-way transformer between a few tokens and the tokens of an image.

One implementation serves twice: as SAM's own (frozen) mixer inside segment_anything's
`MaskDecoder`, and as the trained text feature mixer. Parameter names equal those of Meta's
`TwoWayTransformer`, so a SAM checkpoint loads strictly.

Shape legend: B images, N regions, T tokens, S image tokens (= h*w), C channels, I attention
channels, H attention heads, D channels per head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

FINAL_LAYER_NORM_EPS = 1e-5
"""The closing LayerNorm keeps torch's default, whatever the blocks use."""


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embedding."""

    def __init__(self, embedding_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        """Build the four projections.

        Args:
            embedding_dim: Channels C of all inputs and of the output.
            num_heads: Number of heads H.
            downsample_rate: C divided by the inner width I.

        Raises:
            ValueError: The widths do not divide.
        """
        super().__init__()
        inner_dim, rest = divmod(embedding_dim, downsample_rate)
        if rest or inner_dim % num_heads:
            raise ValueError(
                f"embedding_dim {embedding_dim} / downsample_rate {downsample_rate}"
                f" must be a multiple of num_heads {num_heads}"
            )
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embedding_dim, inner_dim)
        self.k_proj = nn.Linear(embedding_dim, inner_dim)
        self.v_proj = nn.Linear(embedding_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, embedding_dim)

    def forward(self, q_NTI: Tensor, k_NTI: Tensor, v_NTI: Tensor) -> Tensor:
        """Attend with inputs that are projected already, and project the result back.

        Projecting outside lets a caller share one projection among the regions of an image.

        Returns:
            (N, T of `q_NTI`, C).
        """
        q, k, v = (self._split(x) for x in (q_NTI, k_NTI, v_NTI))
        mixed_NHTD = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed_NHTD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x_NTI: Tensor) -> Tensor:
        return x_NTI.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]


class _Mlp(nn.Module):
    """Two layers with a ReLU between them."""

    def __init__(self, embedding_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ImageReading:
    """What a block reads of image tokens before it has met a region's own tokens.

    Rows are images, which their regions share, or regions.

    Attributes:
        tokens_NSC: The image tokens.
        keys_NSI: Keys for the regions' tokens; they carry positions, as the queries do.
        values_NSI: Values for the regions' tokens.
        queries_NSI: Queries of the image tokens to the regions' tokens.
    """

    tokens_NSC: Tensor
    keys_NSI: Tensor
    values_NSI: Tensor
    queries_NSI: Tensor

    def of(self, image_index_N: Tensor) -> ImageReading:
        """Return the reading with a row per region, given the row of each region's image."""
        parts = (self.tokens_NSC, self.keys_NSI, self.values_NSI, self.queries_NSI)
        return ImageReading(*(x.index_select(0, image_index_N) for x in parts))


class TwoWayBlock(nn.Module):
    """Self-attention, token to image, MLP, image to token: each with residual and LayerNorm."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        attention_downsample_rate: int,
        layer_norm_eps: float,
        is_first: bool,
    ) -> None:
        """Build one block.

        Args:
            embedding_dim: Channels C.
            num_heads: Heads of every attention.
            mlp_dim: Hidden width of the MLP.
            attention_downsample_rate: Width reduction of the two cross attentions.
            layer_norm_eps: Epsilon of the four LayerNorms.
            is_first: The first block attends without positions and replaces its tokens.
        """
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim, eps=layer_norm_eps)
        self.cross_attn_token_to_image = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )
        self.norm2 = nn.LayerNorm(embedding_dim, eps=layer_norm_eps)
        self.mlp = _Mlp(embedding_dim, mlp_dim)
        self.norm3 = nn.LayerNorm(embedding_dim, eps=layer_norm_eps)
        self.norm4 = nn.LayerNorm(embedding_dim, eps=layer_norm_eps)
        self.cross_attn_image_to_token = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )

    def forward(
        self,
        tokens_NTC: Tensor,
        image_tokens_NSC: Tensor,
        token_pe_NTC: Tensor,
        image_pe_SC: Tensor,
        image_index_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the block; with `image_index_N` the image tokens come in once per image."""
        reading = self.read(image_tokens_NSC, image_pe_SC)
        if image_index_N is not None:
            reading = reading.of(image_index_N)
        return self.mix(tokens_NTC, reading, token_pe_NTC)

    def read(self, image_tokens_NSC: Tensor, image_pe_SC: Tensor) -> ImageReading:
        """Project image tokens: all work on them that no region's own tokens take part in."""
        inward, outward = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        placed_NSC = image_tokens_NSC + image_pe_SC
        return ImageReading(
            image_tokens_NSC,
            inward.k_proj(placed_NSC),
            inward.v_proj(image_tokens_NSC),
            outward.q_proj(placed_NSC),
        )

    def mix(
        self, tokens_NTC: Tensor, image: ImageReading, token_pe_NTC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mixed tokens (N, T, C) and image tokens (N, S, C) of the N regions read."""
        attn = self.self_attn
        if self.is_first:
            tokens = attn(*(p(tokens_NTC) for p in (attn.q_proj, attn.k_proj, attn.v_proj)))
        else:
            placed = tokens_NTC + token_pe_NTC
            tokens = tokens_NTC + attn(
                attn.q_proj(placed), attn.k_proj(placed), attn.v_proj(tokens_NTC)
            )
        tokens = self.norm1(tokens)

        attn = self.cross_attn_token_to_image
        update = attn(attn.q_proj(tokens + token_pe_NTC), image.keys_NSI, image.values_NSI)
        tokens = self.norm2(tokens + update)
        tokens = self.norm3(tokens + self.mlp(tokens))

        attn = self.cross_attn_image_to_token
        update = attn(image.queries_NSI, attn.k_proj(tokens + token_pe_NTC), attn.v_proj(tokens))
        return tokens, self.norm4(image.tokens_NSC + update)


class TwoWayMixer(nn.Module):
    """A stack of two-way blocks and a last attention from the tokens to the image.

    The initial tokens serve as the tokens' positional term in every block but the first one's
    self-attention.

    Source: Kirillov et al., Segment Anything, ICCV 2023, section A (lightweight mask decoder).
    """

    def __init__(
        self,
        depth: int,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        attention_downsample_rate: int = 2,
        layer_norm_eps: float = 1e-6,
    ) -> None:
        """Build the mixer.

        Args:
            depth: Number of blocks, at least one.
            embedding_dim: Channels C.
            num_heads: Heads of every attention.
            mlp_dim: Hidden width of the MLPs.
            attention_downsample_rate: Width reduction of the cross attentions.
            layer_norm_eps: Epsilon of the blocks' LayerNorms (the closing one has 1e-5).
        """
        super().__init__()
        self.embedding_dim = embedding_dim
        self.checkpoint_blocks = False  # keep what goes into a block, and compute the rest again
        self.layers = nn.ModuleList(
            TwoWayBlock(
                embedding_dim,
                num_heads,
                mlp_dim,
                attention_downsample_rate,
                layer_norm_eps,
                is_first=i == 0,
            )
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )
        self.norm_final_attn = nn.LayerNorm(embedding_dim, eps=FINAL_LAYER_NORM_EPS)

    def forward(
        self,
        image_tokens_NSC: Tensor,
        image_pe_SC: Tensor,
        tokens_NTC: Tensor,
        image_index_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mix tokens and image.

        Args:
            image_tokens_NSC: Image tokens of each region; (N, C, h, w) maps, as Meta's
                `MaskDecoder` hands over, are flattened row-major.
            image_pe_SC: Positional encoding of the image tokens, one for all regions: (S, C) or
                (1, S, C); also (N, S, C) and (N, C, h, w).
            tokens_NTC: Tokens of each region; also their own positional term.
            image_index_N: When given, `image_tokens_NSC` holds B images, and this holds the image
                of each region: work on the yet unmixed image is then done once per image.

        Returns:
            Mixed tokens (N, T, C) and mixed image tokens (N, S, C).
        """
        image, image_pe = (
            x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
            for x in (image_tokens_NSC, image_pe_SC)
        )
        tokens = tokens_NTC
        again = self.checkpoint_blocks and torch.is_grad_enabled()
        for layer in self.layers:
            inputs = (tokens, image, tokens_NTC, image_pe, image_index_N)
            # Nothing in a block is random, so there is no generator to put back.
            tokens, image = (
                checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
                if again
                else layer(*inputs)
            )
            image_index_N = None
        return self._finish(tokens, image, tokens_NTC, image_pe), image

    def one_by_one(
        self,
        image_tokens_BSC: Tensor,
        image_pe_SC: Tensor,
        tokens_NTC: Tensor,
        image_index_N: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mix as `forward` does, every image and region by itself, for work without gradient.

        A matrix product of other height may take another kernel and round otherwise; here nothing
        that stands beside a region has a say in its last digits. Work on the unmixed image is
        still done once per image.
        """
        first: Any
        first, *rest = self.layers
        readings: dict[int, ImageReading] = {}
        mixed_NTC = torch.empty_like(tokens_NTC)
        mixed_image_NSC = image_tokens_BSC.new_empty(len(tokens_NTC), *image_tokens_BSC.shape[1:])
        for n, b in enumerate(image_index_N.tolist()):
            if b not in readings:
                readings[b] = first.read(image_tokens_BSC[b : b + 1], image_pe_SC)
            start = tokens_NTC[n : n + 1]
            tokens, image = first.mix(start, readings[b], start)
            for layer in rest:
                tokens, image = layer(tokens, image, start, image_pe_SC)
            mixed_NTC[n] = self._finish(tokens, image, start, image_pe_SC)[0]
            mixed_image_NSC[n] = image[0]
        return mixed_NTC, mixed_image_NSC

    def _finish(
        self, tokens_NTC: Tensor, image_NSC: Tensor, token_pe_NTC: Tensor, image_pe_SC: Tensor
    ) -> Tensor:
        attn = self.final_attn_token_to_image
        update = attn(
            attn.q_proj(tokens_NTC + token_pe_NTC),
            attn.k_proj(image_NSC + image_pe_SC),
            attn.v_proj(image_NSC),
        )
        return self.norm_final_attn(tokens_NTC + update)  # type: ignore[no-any-return]
