"""The feature mixer: a two-way transformer between a few tokens and the tokens of an image.

One implementation serves twice: as SAM's own (frozen) mixer inside segment_anything's
`MaskDecoder`, and as the trained text feature mixer. Parameter names equal those of Meta's
`TwoWayTransformer`, so a SAM checkpoint loads strictly.

Shape legend: B images, N regions, T tokens, S image tokens (= h*w), C channels, I attention
channels, H attention heads, D channels per head.
"""

from __future__ import annotations

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


def _per_region(x: Tensor, image_index_N: Tensor | None) -> Tensor:
    return x if image_index_N is None else x.index_select(0, image_index_N)


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
        image_index_N: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the block; with `image_index_N` the image tokens come in once per image."""
        attn = self.self_attn
        if self.is_first:
            tokens = attn(*(p(tokens_NTC) for p in (attn.q_proj, attn.k_proj, attn.v_proj)))
        else:
            placed = tokens_NTC + token_pe_NTC
            tokens = tokens_NTC + attn(
                attn.q_proj(placed), attn.k_proj(placed), attn.v_proj(tokens_NTC)
            )
        tokens = self.norm1(tokens)

        placed_image = image_tokens_NSC + image_pe_SC
        update = attend_to_image(
            self.cross_attn_token_to_image,
            tokens + token_pe_NTC,
            placed_image,
            image_tokens_NSC,
            image_index_N,
        )
        tokens = self.norm2(tokens + update)
        tokens = self.norm3(tokens + self.mlp(tokens))

        attn = self.cross_attn_image_to_token
        update = attn(
            _per_region(attn.q_proj(placed_image), image_index_N),
            attn.k_proj(tokens + token_pe_NTC),
            attn.v_proj(tokens),
        )
        return tokens, self.norm4(_per_region(image_tokens_NSC, image_index_N) + update)


def attend_to_image(
    attn: Attention,
    queries_NTC: Tensor,
    placed_image_NSC: Tensor,
    image_tokens_NSC: Tensor,
    image_index_N: Tensor | None,
) -> Tensor:
    """Let tokens attend to image tokens; keys carry positions, values do not."""
    return attn(  # type: ignore[no-any-return]
        attn.q_proj(queries_NTC),
        _per_region(attn.k_proj(placed_image_NSC), image_index_N),
        _per_region(attn.v_proj(image_tokens_NSC), image_index_N),
    )


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
        update = attend_to_image(
            self.final_attn_token_to_image, tokens + tokens_NTC, image + image_pe, image, None
        )
        return self.norm_final_attn(tokens + update), image
