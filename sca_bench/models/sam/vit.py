"""SAM's image encoder: segment_anything's ViT with its attention through PyTorch's fused kernel.

Shape legend: B images or windows, H heads, h w rows and columns of tokens, S = h*w, D channels
per head, C channels.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention as ExplicitAttention
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from sca_bench.specs.sam_dims import SamDims

LAYER_NORM_EPS = 1e-6
BIAS_ELEMENTS_CPU = 2**21
"""Numbers of the position bias that exist at a time: 8 MB, which a CPU's caches hold in part."""
BIAS_ELEMENTS = 2**28
"""The same on other devices, which want few and large kernels."""


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
    """Meta's ViT attention; the decomposed relative positions become an additive bias.

    The bias has a number for every head, query and key: 0.8 GB for one image at the published
    size. So a few heads, or a few rows of queries of one head, attend at a time.
    """

    def forward(self, x_BhwC: Tensor) -> Tensor:
        """Attend among all tokens of each image or window; shapes (B, h, w, C) in and out."""
        B, h, w, _ = x_BhwC.shape
        qkv = self.qkv(x_BhwC).reshape(B, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q_BHSD, k_BHSD, v_BHSD = qkv.unbind(0)
        if self.use_rel_pos:
            out_BHSD = self._attend_with_positions(q_BHSD, k_BHSD, v_BHSD, h, w)
        else:
            out_BHSD = F.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD)
        return self.proj(out_BHSD.transpose(1, 2).reshape(B, h, w, -1))  # type: ignore[no-any-return]

    def _attend_with_positions(
        self, q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, h: int, w: int
    ) -> Tensor:
        q_BHhwD = q_BHSD.unflatten(2, (h, w))
        by_row = torch.einsum("bnhwd,hkd->bnhwk", q_BHhwD, relative_positions(h, self.rel_pos_h))
        by_column = torch.einsum("bnhwd,wkd->bnhwk", q_BHhwD, relative_positions(w, self.rel_pos_w))
        heads, rows = _piece(q_BHSD, h, w)
        parts = []
        for head in range(0, self.num_heads, heads):
            n = slice(head, head + heads)
            for row in range(0, h, rows):
                r, q = slice(row, row + rows), slice(row * w, (row + rows) * w)
                bias = by_row[:, n, r, :, :, None] + by_column[:, n, r, :, None, :]
                parts.append(
                    F.scaled_dot_product_attention(
                        q_BHSD[:, n, q],
                        k_BHSD[:, n],
                        v_BHSD[:, n],
                        attn_mask=bias.flatten(4, 5).flatten(2, 3),
                    )
                )
        per_head = -(-h // rows)
        return torch.cat(
            [torch.cat(parts[i : i + per_head], 2) for i in range(0, len(parts), per_head)], 1
        )


def _piece(q_BHSD: Tensor, h: int, w: int) -> tuple[int, int]:
    """Return how many heads, and how many rows of queries, attend at a time."""
    B, H, S, _ = q_BHSD.shape
    # Tensors without content are there to size a step on a GPU, wherever they say they are.
    on_cpu = q_BHSD.device.type == "cpu" and not isinstance(q_BHSD, FakeTensor)
    most = BIAS_ELEMENTS_CPU if on_cpu else BIAS_ELEMENTS
    heads = min(H, most // (B * S * S))
    return (heads, h) if heads else (1, max(1, most // (B * w * S)))


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


def build(settings: object, dims: SamDims) -> SamImageEncoder:
    """Build SAM's own image encoder by its sizes."""
    return SamImageEncoder(
        image_size=dims.image_size,
        patch_size=dims.patch_size,
        width=dims.encoder_width,
        depth=dims.encoder_depth,
        num_heads=dims.encoder_num_heads,
        mlp_dim=dims.encoder_mlp_dim,
        window_size=dims.encoder_window,
        global_attention=dims.encoder_global_blocks,
        out_channels=dims.embed_dim,
    )
