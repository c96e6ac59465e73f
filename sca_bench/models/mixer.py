"""The feature mixer: a two-way transformer between a few tokens and the tokens of an image.

One class serves twice: as SAM's own (frozen) mixer inside segment_anything's `MaskDecoder`, by
Meta's formulas, and as the trained text feature mixer, where equal ones that cost less are taken
(`TwoWayMixer.mixed_tokens`). Parameter names equal those of Meta's `TwoWayTransformer`, so a SAM
checkpoint loads strictly.

Shape legend: B images, N regions, T tokens, S image tokens (= h*w), C channels, I attention
channels, H attention heads, D channels per head, R rows (H*T, the token runs fastest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sca_bench.models.cast_together import called_with, cast_together, linear_parameters
from sca_bench.models.few_tokens import read_image, write_image
from sca_bench.models.stacked import call_rows

FINAL_LAYER_NORM_EPS = 1e-5
"""The closing LayerNorm keeps torch's default, whatever the blocks use."""
IMAGE_ELEMENTS_CPU = 2**20
"""Numbers of the image tokens that go through all blocks at a time: 4 MB, which a CPU's caches
hold."""


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
        mixed_NHTD = call_rows(F.scaled_dot_product_attention, q, k, v)
        return self.out_proj(mixed_NHTD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def suits(self, tokens_NTC: Tensor) -> bool:
        """Say whether projections cost less on the side of these tokens than on the image's."""
        rows = tokens_NTC.shape[1] * self.num_heads
        return rows <= self.q_proj.out_features

    def read(self, tokens_NTC: Tensor, image_NSC: Tensor, placed_NSC: Tensor) -> Tensor:
        """Attend from few tokens to image tokens; see `sca_bench.models.few_tokens`.

        Keys are made of image tokens at their positions, values without these.

        Returns:
            (N, T, C).
        """
        q_NHTD = self._split(self.q_proj(tokens_NTC)) * self._scale
        keys_NHTC = q_NHTD @ self._per_head(self.k_proj.weight)
        offsets_NHT = (q_NHTD @ self._per_head(self.k_proj.bias)[..., None])[..., 0]
        keys_NRC, offsets_NR = _rows(image_NSC.dtype, keys_NHTC, offsets_NHT)
        mixed_NRC = read_image(keys_NRC, offsets_NR, image_NSC, placed_NSC)
        mixed_NHTC = mixed_NRC.unflatten(1, (self.num_heads, -1))
        value_NHTD = mixed_NHTC @ self._per_head(self.v_proj.weight).transpose(1, 2)
        value_NTI = value_NHTD.transpose(1, 2).flatten(2) + self.v_proj.bias
        return self.out_proj(value_NTI)  # type: ignore[no-any-return]

    def write(
        self, keys_NTC: Tensor, values_NTC: Tensor, image_NSC: Tensor, placed_NSC: Tensor
    ) -> Tensor:
        """Add to image tokens what they, at their positions, read from few tokens.

        Args:
            keys_NTC: The tokens as keys are made of them.
            values_NTC: The tokens as values are made of them.
            image_NSC: The image tokens.
            placed_NSC: The same plus their positions, detached.

        Returns:
            (N, S, C).
        """
        k_NHTD = self._split(self.k_proj(keys_NTC)) * self._scale
        v_NHTD = self._split(self.v_proj(values_NTC))
        keys_NHTC = k_NHTD @ self._per_head(self.q_proj.weight)
        offsets_NHT = (k_NHTD @ self._per_head(self.q_proj.bias)[..., None])[..., 0]
        out_HDC = self._per_head(self.out_proj.weight.t())
        # The weights that an image token reads a head's tokens with add up to one.
        values_NHTC = v_NHTD @ out_HDC + self.out_proj.bias / self.num_heads
        keys_NRC, offsets_NR, values_NRC = _rows(
            image_NSC.dtype, keys_NHTC, offsets_NHT, values_NHTC
        )
        return write_image(keys_NRC, offsets_NR, values_NRC, image_NSC, placed_NSC, self.num_heads)

    @property
    def _scale(self) -> float:
        return float((self.q_proj.out_features // self.num_heads) ** -0.5)

    def _split(self, x_NTI: Tensor) -> Tensor:
        return x_NTI.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]

    def _per_head(self, x_I: Tensor) -> Tensor:
        """Return what begins with the attention channels head by head: (I, ...) to (H, D, ...)."""
        return x_I.unflatten(0, (self.num_heads, -1))  # type: ignore[no-any-return]


def _rows(dtype: torch.dtype, *per_head: Tensor) -> list[Tensor]:
    """Return tensors (N, H, T, ...) as rows (N, R, ...) in a type."""
    return [x.flatten(1, 2).to(dtype) for x in per_head]


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

    ADDED_IN_FLOAT32 = (
        "cross_attn_token_to_image.v_proj.bias",
        "cross_attn_image_to_token.out_proj.bias",
    )
    """Biases that are added to half precision as they are, where attention has few tokens."""

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
        """Return mixed tokens (N, T, C) and image tokens (N, S, C), those in the type they had.

        With `image_index_N` the image tokens come in once per image.
        """
        inward, outward = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        if not inward.suits(tokens_NTC):
            reading = self.read(image_tokens_NSC, image_pe_SC)
            if image_index_N is not None:
                reading = reading.of(image_index_N)
            tokens, image = self.mix(tokens_NTC, reading, token_pe_NTC)
            return tokens, image.to(image_tokens_NSC.dtype)
        image = image_tokens_NSC
        if image_index_N is not None:
            image = image.index_select(0, image_index_N)
        placed = image.detach() + image_pe_SC
        tokens = self._among_themselves(tokens_NTC, token_pe_NTC)
        update = inward.read(tokens + token_pe_NTC, image, placed)
        tokens = self._after_reading(tokens, update)
        image = outward.write(tokens + token_pe_NTC, tokens, image, placed)
        return tokens, self.norm4(image).to(image.dtype)

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
        tokens = self._among_themselves(tokens_NTC, token_pe_NTC)
        attn = self.cross_attn_token_to_image
        update = attn(attn.q_proj(tokens + token_pe_NTC), image.keys_NSI, image.values_NSI)
        tokens = self._after_reading(tokens, update)

        attn = self.cross_attn_image_to_token
        update = attn(image.queries_NSI, attn.k_proj(tokens + token_pe_NTC), attn.v_proj(tokens))
        return tokens, self.norm4(image.tokens_NSC + update)

    def _among_themselves(self, tokens_NTC: Tensor, token_pe_NTC: Tensor) -> Tensor:
        attn = self.self_attn
        if self.is_first:
            tokens = attn(*(p(tokens_NTC) for p in (attn.q_proj, attn.k_proj, attn.v_proj)))
        else:
            placed = tokens_NTC + token_pe_NTC
            tokens = tokens_NTC + attn(
                attn.q_proj(placed), attn.k_proj(placed), attn.v_proj(tokens_NTC)
            )
        return self.norm1(tokens)  # type: ignore[no-any-return]

    def _after_reading(self, tokens_NTC: Tensor, update_NTC: Tensor) -> Tensor:
        tokens = self.norm2(tokens_NTC + update_NTC)
        return self.norm3(tokens + self.mlp(tokens))  # type: ignore[no-any-return]


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
        for layer in self._blocks():
            reading = layer.read(image, image_pe)
            if image_index_N is not None:
                reading, image_index_N = reading.of(image_index_N), None
            tokens, image = layer.mix(tokens, reading, tokens_NTC)
        return self._finish(tokens, image, tokens_NTC, image_pe), image

    def mixed_tokens(
        self,
        image_tokens_NSC: Tensor,
        image_pe_SC: Tensor,
        tokens_NTC: Tensor,
        image_index_N: Tensor | None = None,
    ) -> Tensor:
        """Return the mixed tokens of `forward`, up to rounding: what is trained.

        Under autocast image tokens stay in its type between the blocks. On a CPU a few regions at a
        time go through all blocks. How many is a matter of their shape alone.

        Args:
            image_tokens_NSC: Image tokens of each region.
            image_pe_SC: Positional encoding of the image tokens, one for all regions; it gets no
                gradient.
            tokens_NTC: Tokens of each region; also their own positional term.
            image_index_N: When given, `image_tokens_NSC` holds B images, and this holds the image
                of each region.

        Returns:
            (N, T, C).
        """
        device = image_tokens_NSC.device.type
        dtype = image_tokens_NSC.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        image, image_pe = image_tokens_NSC.to(dtype), image_pe_SC.to(dtype)
        # Tensors without content are there to size a step on a GPU, wherever they say they are.
        if device != "cpu" or isinstance(image, FakeTensor):
            return self._mixed_tokens(image, image_pe, tokens_NTC, image_index_N)
        regions = max(1, IMAGE_ELEMENTS_CPU // (image.shape[1] * image.shape[2]))
        parts_NTC = tokens_NTC.split(regions)
        images: Sequence[Tensor] = [image] * len(parts_NTC)
        indices: Sequence[Tensor | None] = [None] * len(parts_NTC)
        if image_index_N is None:
            images = image.split(regions)
        else:
            indices = image_index_N.split(regions)
        mixed = [
            self._mixed_tokens(image, image_pe, tokens, index)
            for image, tokens, index in zip(images, parts_NTC, indices, strict=True)
        ]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def cast_parameters(self) -> list[str]:
        """Return the names of the parameters that `mixed_tokens` casts to the type of autocast."""
        return [
            f"layers.{number}.{name}"
            for number, block in enumerate(self.layers)
            for name, _ in linear_parameters(block, TwoWayBlock.ADDED_IN_FLOAT32)
        ]

    def _cast_blocks(self, device: str, dtype: torch.dtype) -> list[Callable[..., Any]]:
        """Return the blocks; under autocast, with their matrices cast to its type at once."""
        blocks: list[Any] = list(self.layers)
        compiled = any(block._compiled_call_impl is not None for block in blocks)
        if compiled or not torch.is_autocast_enabled(device):  # a compiler casts on the way
            return blocks
        casts = cast_together(blocks, dtype, TwoWayBlock.ADDED_IN_FLOAT32)
        return [called_with(b, c) if c else b for b, c in zip(blocks, casts, strict=True)]

    def _mixed_tokens(
        self, image: Tensor, image_pe_SC: Tensor, start_NTC: Tensor, image_index_N: Tensor | None
    ) -> Tensor:
        tokens = start_NTC
        again = self.checkpoint_blocks and torch.is_grad_enabled()
        for layer in self._cast_blocks(image.device.type, image.dtype):
            inputs = (tokens, image, start_NTC, image_pe_SC, image_index_N)
            # Nothing in a block is random, so there is no generator to put back.
            tokens, image = (
                checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
                if again
                else layer(*inputs)
            )
            image_index_N = None
        last = self.final_attn_token_to_image
        if not last.suits(tokens):
            return self._finish(tokens, image, start_NTC, image_pe_SC)
        update = last.read(tokens + start_NTC, image, image.detach() + image_pe_SC)
        return self.norm_final_attn(tokens + update)  # type: ignore[no-any-return]

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
        first, *rest = self._blocks()
        readings: dict[int, ImageReading] = {}
        mixed_NTC = torch.empty_like(tokens_NTC)
        mixed_image_NSC = image_tokens_BSC.new_empty(len(tokens_NTC), *image_tokens_BSC.shape[1:])
        for n, b in enumerate(image_index_N.tolist()):
            if b not in readings:
                readings[b] = first.read(image_tokens_BSC[b : b + 1], image_pe_SC)
            start = tokens_NTC[n : n + 1]
            tokens, image = first.mix(start, readings[b], start)
            for layer in rest:
                tokens, image = layer.mix(tokens, layer.read(image, image_pe_SC), start)
            mixed_NTC[n] = self._finish(tokens, image, start, image_pe_SC)[0]
            mixed_image_NSC[n] = image[0]
        return mixed_NTC, mixed_image_NSC

    def _blocks(self) -> list[TwoWayBlock]:
        return cast("list[TwoWayBlock]", list(self.layers))

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
