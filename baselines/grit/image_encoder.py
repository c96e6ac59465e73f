"""The image encoder: a plain ViT with attention in windows and decomposed relative positions.

Shape legend: B images, H and W rows and columns of tokens, C channels, A attention heads, D
channels of a head, L = H*W tokens, R rows of a position table.

Source: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022, as
GRiT uses it (no norm after the last block).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.grit.config import ImageEncoderConfig

_NORM_EPS = 1e-6


def relative_positions(table_RD: Tensor, size: int) -> Tensor:
    """Return the embedding of (query row - key row) for every pair, (size, size, D).

    A table made for another size is interpolated linearly to 2 * size - 1 rows.
    """
    rows = 2 * size - 1
    if table_RD.shape[0] != rows:
        table_RD = F.interpolate(table_RD.T[None], size=rows, mode="linear")[0].T
    index = torch.arange(size, device=table_RD.device)
    return table_RD[index[:, None] - index[None, :] + size - 1]


class Attention(nn.Module):
    """Multi-head attention over a grid of tokens with decomposed relative positions."""

    def __init__(self, width: int, num_heads: int, table_grid: int) -> None:
        super().__init__()
        head_dim = width // num_heads
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_grid - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_grid - 1, head_dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Let all tokens of a grid attend to each other, (B, H, W, C)."""
        B, H, W, _ = x_BHWC.shape
        qkv = self.qkv(x_BHWC).view(B, H * W, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q_BALD, k_BALD, v_BALD = qkv.unbind(0)
        # The query is not scaled here, unlike in the dot product with the keys.
        q_BAHWD = q_BALD.unflatten(2, (H, W))
        by_row = torch.einsum("bahwd,hkd->bahwk", q_BAHWD, relative_positions(self.rel_pos_h, H))
        by_column = torch.einsum("bahwd,wkd->bahwk", q_BAHWD, relative_positions(self.rel_pos_w, W))
        bias_BALL = (by_row[..., :, None] + by_column[..., None, :]).reshape(
            B, self.num_heads, H * W, H * W
        )
        out_BALD = F.scaled_dot_product_attention(q_BALD, k_BALD, v_BALD, attn_mask=bias_BALL)
        projected: Tensor = self.proj(out_BALD.transpose(1, 2).reshape(B, H, W, -1))
        return projected


class Mlp(nn.Module):
    """Two layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """A pre-norm transformer block; `window` 0 attends globally."""

    def __init__(self, config: ImageEncoderConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, eps=_NORM_EPS)
        self.attn = Attention(config.width, config.num_heads, window or config.table_grid)
        self.norm2 = nn.LayerNorm(config.width, eps=_NORM_EPS)
        self.mlp = Mlp(config.width, int(config.width * config.mlp_ratio))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return the tokens after attention and MLP, (B, H, W, C)."""
        mixed: Tensor = self.norm1(x_BHWC)
        mixed = self._in_windows(mixed) if self.window else self.attn(mixed)
        x_BHWC = x_BHWC + mixed
        out: Tensor = x_BHWC + self.mlp(self.norm2(x_BHWC))
        return out

    def _in_windows(self, x_BHWC: Tensor) -> Tensor:
        """Attend inside windows; the zeros that fill the last ones are keys like any other."""
        (B, H, W, C), side = x_BHWC.shape, self.window
        padded = F.pad(x_BHWC, (0, 0, 0, -W % side, 0, -H % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.view(B, rows, side, columns, side, C).transpose(2, 3)
        windows = self.attn(windows.reshape(-1, side, side, C))
        joined = windows.view(B, rows, columns, side, side, C).transpose(2, 3)
        whole: Tensor = joined.reshape(B, rows * side, columns * side, C)
        return whole[:, :H, :W]


class ImageEncoder(nn.Module):
    """The ViT: from pixels to one feature map at 1/16 of their resolution."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, config.width, config.patch_px, config.patch_px)
        # The first row belongs to a class token that is not used.
        self.pos_embed = nn.Parameter(torch.zeros(1, config.position_grid**2 + 1, config.width))
        self.blocks = nn.ModuleList(
            Block(config, 0 if index in config.global_blocks else config.window)
            for index in range(config.depth)
        )

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Encode normalised, padded images (both sides divisible by the patch).

        Returns:
            (B, C, H, W) in tokens.
        """
        x_BHWC: Tensor = self.patch_embed(pixels_B3HW).permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self._positions(x_BHWC.shape[1], x_BHWC.shape[2])
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return x_BHWC.permute(0, 3, 1, 2)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the absolute positions (1, rows, columns, C), bicubic where the grid differs."""
        grid = int((self.pos_embed.shape[1] - 1) ** 0.5)
        table_1CHW: Tensor = self.pos_embed[:, 1:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        if (rows, columns) != (grid, grid):
            table_1CHW = F.interpolate(
                table_1CHW, size=(rows, columns), mode="bicubic", align_corners=False
            )
        return table_1CHW.permute(0, 2, 3, 1)
