"""TinyViT-5M as the image encoder of MobileSAM, in plain torch.

timm has a TinyViT of its own, but with other parameter names, no neck, and a last stage of half the
resolution, so every weight would have to be renamed and the graph changed; MobileSAM's own package
exists only in unmaintained copies. This module has the parameter names of `mobile_sam.pt`, less the
classifier that its encoder was distilled with and never uses again.

Shape legend: B images or windows, C channels, h w rows and columns, S positions of a window,
H heads, D channels per head.

Source: Wu et al., TinyViT, ECCV 2022; Zhang et al., Faster Segment Anything, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4
"""Hidden channels over channels, in convolution blocks and MLPs alike."""


@dataclass(frozen=True)
class TinyVitDims:
    """Sizes of a TinyViT; one value per stage.

    The first stage is made of convolutions and has no heads or windows: 0.

    Attributes:
        widths: Channels.
        depths: Blocks.
        num_heads: Attention heads.
        windows: Side of the attention windows, in positions.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    windows: tuple[int, ...]


class _ConvBn(nn.Module):
    """A convolution without bias that keeps the size (over its stride), and a batch norm."""

    def __init__(
        self, in_channels: int, channels: int, side: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            in_channels, channels, side, stride, side // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return self.bn(self.c(x_BChw))  # type: ignore[no-any-return]


class _Stem(nn.Module):
    """Two strided convolutions: a quarter of the image's side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.seq = nn.Sequential(
            _ConvBn(3, half, 3, stride=2), nn.GELU(), _ConvBn(half, channels, 3, stride=2)
        )

    def forward(self, pixel_values_B3HW: Tensor) -> Tensor:
        return self.seq(pixel_values_B3HW)  # type: ignore[no-any-return]


class _InvertedBottleneck(nn.Module):
    """Widen, convolve channel by channel, narrow; the sum with the input goes through GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.conv1 = _ConvBn(channels, hidden, 1)
        self.conv2 = _ConvBn(hidden, hidden, 3, groups=hidden)
        self.conv3 = _ConvBn(hidden, channels, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        hidden_BChw = F.gelu(self.conv2(F.gelu(self.conv1(x_BChw))))
        return F.gelu(x_BChw + self.conv3(hidden_BChw))


class _Downsample(nn.Module):
    """From one stage's channels to the next's, at half the side or (stride 1) the same."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvBn(in_channels, channels, 1)
        self.conv2 = _ConvBn(channels, channels, 3, stride=stride, groups=channels)
        self.conv3 = _ConvBn(channels, channels, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x_BChw)))))  # type: ignore[no-any-return]


class _WindowAttention(nn.Module):
    """Attention inside a window, biased by the distance in rows and in columns; LayerNorm first."""

    offset_index_SS: Tensor

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window**2))
        position = torch.arange(window**2)
        row_S, column_S = position // window, position % window
        rows_SS = (row_S[:, None] - row_S).abs()
        columns_SS = (column_S[:, None] - column_S).abs()
        index_SS = rows_SS * window + columns_SS
        self.register_buffer("offset_index_SS", index_SS, persistent=False)

    def forward(self, x_BSC: Tensor) -> Tensor:
        # Queries, keys and values of one head stand beside each other.
        qkv_BSHD = self.qkv(self.norm(x_BSC)).unflatten(-1, (self.num_heads, -1))
        q_BHSD, k_BHSD, v_BHSD = qkv_BSHD.transpose(1, 2).chunk(3, dim=-1)
        bias_HSS = self.attention_biases[:, self.offset_index_SS]
        out_BHSD = F.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD, attn_mask=bias_HSS)
        return self.proj(out_BHSD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Mlp(nn.Module):
    """LayerNorm and two layers with GELU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))  # type: ignore[no-any-return]


class _WindowBlock(nn.Module):
    """Window attention (residual), a convolution channel by channel, an MLP (residual)."""

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _WindowAttention(channels, num_heads, window)
        self.local_conv = _ConvBn(channels, channels, 3, groups=channels)
        self.mlp = _Mlp(channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        x_BhwC = x_BChw.permute(0, 2, 3, 1)
        # Zeros fill the last windows up before the LayerNorm, and are attended to: as published.
        windows, padded_hw = window_partition(x_BhwC, self.window)
        mixed = self.attn(windows.flatten(1, 2)).reshape(windows.shape)
        x_BhwC = x_BhwC + window_unpartition(mixed, self.window, padded_hw, x_BhwC.shape[1:3])
        x_BhwC = self.local_conv(x_BhwC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x_BhwC + self.mlp(x_BhwC)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """Blocks of one width, and the way to the next stage where there is one."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x_BChw: Tensor) -> Tensor:
        x_BChw = self.blocks(x_BChw)
        return x_BChw if self.downsample is None else self.downsample(x_BChw)


class TinyVitEncoder(nn.Module):
    """Images in, SAM's image embedding out, at a sixteenth of the image's side."""

    def __init__(self, dims: TinyVitDims, *, image_size: int, out_channels: int) -> None:
        """Build the encoder.

        Args:
            dims: Sizes of its stages.
            image_size: Side of the square input, in pixels.
            out_channels: Channels of the embedding.
        """
        super().__init__()
        self.image_size = image_size
        self.patch_embed = _Stem(dims.widths[0])
        self.layers = nn.Sequential(*(_stage(dims, index) for index in range(len(dims.widths))))
        self.neck = nn.Sequential(
            nn.Conv2d(dims.widths[-1], out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images."""
        return self.neck(self.layers(self.patch_embed(pixel_values_B3HW)))  # type: ignore[no-any-return]


def _stage(dims: TinyVitDims, index: int) -> _Stage:
    width, last = dims.widths[index], len(dims.widths) - 1
    blocks: list[nn.Module] = [
        _WindowBlock(width, dims.num_heads[index], dims.windows[index])
        if index
        else _InvertedBottleneck(width)
        for _ in range(dims.depths[index])
    ]
    if index == last:
        return _Stage(blocks, None)
    # MobileSAM keeps the side before the last stage, so that the embedding has SAM's grid.
    stride = 1 if index == last - 1 else 2
    return _Stage(blocks, _Downsample(width, dims.widths[index + 1], stride))
