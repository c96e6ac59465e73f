"""SAM's image encoder: segment_anything's ViT with its attention through PyTorch's fused kernel.

Shape legend: B images or windows, H heads, h w rows and columns of tokens, S = h*w, D channels
per head, C channels.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention as ExplicitAttention
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6


def relative_positions(size: int, table_LD: Tensor) -> Tensor:
    """Pick the embedding of every offset between `size` query and `size` key positions.

    Args:
        size: Number of positions along one axis.
        table_LD: Learned embeddings of the offsets; resized linearly when it has not 2*size - 1.

    Returns:
        (size, size, D), query position first.
    """
    length = 2 * size - 1
    if table_LD.shape[0] != length:
        table_LD = F.interpolate(table_LD.T[None], size=length, mode="linear")[0].T
    positions = torch.arange(size, device=table_LD.device)
    return table_LD[positions[:, None] - positions[None, :] + size - 1]


class FusedAttention(ExplicitAttention):  # type: ignore[misc]
    """Meta's ViT attention; the decomposed relative positions become an additive bias."""

    def forward(self, x_BhwC: Tensor) -> Tensor:
        """Attend among all tokens of each image or window; shapes (B, h, w, C) in and out."""
        B, h, w, _ = x_BhwC.shape
        qkv = self.qkv(x_BhwC).reshape(B, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q_BHSD, k_BHSD, v_BHSD = qkv.unbind(0)
        bias_BHSS = self._position_bias(q_BHSD, h, w) if self.use_rel_pos else None
        out_BHSD = F.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD, attn_mask=bias_BHSS)
        return self.proj(out_BHSD.transpose(1, 2).reshape(B, h, w, -1))  # type: ignore[no-any-return]

    def _position_bias(self, q_BHSD: Tensor, h: int, w: int) -> Tensor:
        q_BHhwD = q_BHSD.unflatten(2, (h, w))
        rows = torch.einsum("bnhwd,hkd->bnhwk", q_BHhwD, relative_positions(h, self.rel_pos_h))
        columns = torch.einsum("bnhwd,wkd->bnhwk", q_BHhwD, relative_positions(w, self.rel_pos_w))
        bias = rows[..., :, None] + columns[..., None, :]
        return bias.reshape(*q_BHSD.shape[:3], h * w)


class SamImageEncoder(ImageEncoderViT):  # type: ignore[misc]
    """Image encoder with Meta's parameter names: `pos_embed`, `patch_embed`, `blocks`, `neck`."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        window_size: int,
        global_attention: tuple[int, ...],
        out_channels: int,
    ) -> None:
        """Build the encoder.

        Args:
            image_size: Side of the square input, in pixels.
            patch_size: Side of a patch, in pixels.
            width: Channels of the ViT.
            depth: Number of blocks.
            num_heads: Heads of every attention.
            mlp_dim: Hidden width of the MLPs.
            window_size: Side of the attention windows in tokens; 0 makes all blocks global.
            global_attention: Indices of the blocks that attend globally.
            out_channels: Channels of the embedding.
        """
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=(mlp_dim + 0.5) / width,  # ImageEncoderViT rounds the product down
            out_chans=out_channels,
            qkv_bias=True,
            norm_layer=_layer_norm,
            use_rel_pos=True,
            window_size=window_size,
            global_attn_indexes=global_attention,
        )
        for block in self.blocks:
            # Same parameters, other arithmetic: only the class of the module changes.
            block.attn.__class__ = FusedAttention

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return int(self.img_size)


def _layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=LAYER_NORM_EPS)
