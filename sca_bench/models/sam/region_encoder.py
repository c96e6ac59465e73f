"""The frozen half of a captioner: images and prompts in, SAM's tokens per region out.

Shape legend: B images, R padded regions per image, N real regions in row-major (image, region)
order, P points or prompt tokens, S image tokens (= h*w), C channels, M mask candidates.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.models.sam.mask_points import points_in_sam_masks
from sca_bench.models.sam.sam import Sam
from sca_bench.types import Family

_MIXED: tuple[Family, ...] = ("mixed",)


class RegionEncoder(nn.Module):
    """SAM's image encoder, prompt encoder and mixer, without gradient."""

    def __init__(
        self,
        sam: Sam,
        *,
        image_grid: int | None = None,
        multimask_output: bool = True,
        embedding_dtype: torch.dtype = torch.float32,
    ) -> None:
        """Wrap SAM.

        Args:
            sam: Frozen SAM.
            image_grid: Average-pool the mixed image tokens, and their positional encoding, to
                this many rows and columns; None leaves them.
            multimask_output: Hand on the mask candidates (indices 1 and up), else the single
                mask (index 0). The tokens are the same either way.
            embedding_dtype: Image embeddings are rounded to this.
        """
        super().__init__()
        self.sam = sam
        self.image_grid = image_grid
        self.multimask_output = multimask_output
        self.embedding_dtype = embedding_dtype

    @torch.no_grad()
    def forward(
        self,
        batch: RegionBatch,
        *,
        families: Collection[Family] = _MIXED,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Return the frozen features of the batch's N real regions.

        Args:
            batch: Images with boxes, points, or both, in model-input pixels.
            families: Which features to return.
            with_masks: Also return low-resolution mask logits.

        Raises:
            ValueError: The batch has no pixels, no prompts, or not one id per real region; or asks
                for points in SAM's masks and has no boxes, or points already.
        """
        image_index_N = batch.image_index()
        if len(image_index_N) != batch.num_regions:
            given = f"region_mask has {len(image_index_N)} regions"
            raise ValueError(f"{batch.num_regions} region ids, but {given}")
        embeddings_BChw = batch.image_embeddings_BChw
        if embeddings_BChw is None:
            if batch.pixel_values_B3HW is None:
                raise ValueError("frozen features need pixel values")
            embeddings_BChw = self.embed(batch.pixel_values_B3HW)
        return self.from_embeddings(
            embeddings_BChw,
            image_index_N,
            self._prompt_tokens(batch, embeddings_BChw),
            boxes_xyxy_input_N4=batch.prompt_boxes(),
            families=families,
            with_masks=with_masks,
        )

    def _prompt_tokens(self, batch: RegionBatch, embeddings_BChw: Tensor) -> Tensor:
        """Return the prompt tokens (N, P, C) of boxes and points, or of points in SAM's masks."""
        if batch.mask_point_seed is None:
            return self.sam.encode_prompts(
                batch.prompt_boxes(),
                _real(batch, batch.points_xy_input_BRP2),
                _real(batch, batch.point_labels_BRP),
            )
        if batch.boxes_xyxy_input_BR4 is None or batch.points_xy_input_BRP2 is not None:
            raise ValueError("a point in SAM's mask of a box needs the box, and no other point")
        side = self.sam.dims.image_size
        points_N12 = points_in_sam_masks(
            self.sam,
            embeddings_BChw,
            batch.image_index(),
            batch.real(batch.boxes_xyxy_input_BR4),
            input_sizes_hw=batch.input_sizes_hw or [(side, side)] * len(batch.image_ids),
            region_ids=batch.region_ids,
            seed=batch.mask_point_seed,
        )
        return self.sam.encode_prompts(None, points_N12)

    @torch.no_grad()
    def embed(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Embed images without gradient, (B, C, h, w)."""
        embeddings_BChw: Tensor = self.sam.encode_images(pixel_values_B3HW)
        if self.embedding_dtype == torch.float32:
            return embeddings_BChw
        return embeddings_BChw.to(self.embedding_dtype).to(embeddings_BChw.dtype)

    @torch.no_grad()
    def from_embeddings(
        self,
        embeddings_BChw: Tensor,
        image_index_N: Tensor,
        sparse_NPC: Tensor,
        *,
        boxes_xyxy_input_N4: Tensor | None = None,
        families: Collection[Family] = _MIXED,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Return the frozen features of N regions whose images and prompts are embedded already.

        Args:
            embeddings_BChw: Image embeddings.
            image_index_N: The image each region lies in.
            sparse_NPC: Prompt tokens of each region.
            boxes_xyxy_input_N4: The boxes they were made from, if any; handed on as they are.
            families: Which features to return; the predicted IoUs always come with them.
            with_masks: Also return low-resolution mask logits (N, M, 4h, 4w).
        """
        tokens_NTC, image_tokens_NSC = self.sam.mix(embeddings_BChw, image_index_N, sparse_NPC)
        candidates = slice(1, None) if self.multimask_output else slice(0, 1)
        asked: dict[str, Any] = {}
        if with_masks:
            masks_NMhw = self.sam.mask_logits(tokens_NTC, image_tokens_NSC)
            asked["mask_logits_NMhw"] = masks_NMhw[:, candidates]
        if "mixed" in families:
            asked["tokens_NTC"] = tokens_NTC
            asked |= self._mixed_image(image_tokens_NSC)
        if "prompts" in families:
            asked |= {"prompt_tokens_NPC": sparse_NPC, "own_tokens_TC": self.sam.own_tokens()}
        if "images" in families:
            asked["embeddings_BChw"] = embeddings_BChw
            asked["embedding_pe_SC"] = self.sam.image_pe()
            asked["dense_prompt_C"] = self.sam.dense_prompt().flatten()
        return RegionFeatures(
            ious_NM=self.sam.predicted_ious(tokens_NTC)[:, candidates],
            image_index_N=image_index_N,
            num_images=len(embeddings_BChw),
            first_candidate=1 if self.multimask_output else 0,
            boxes_xyxy_input_N4=boxes_xyxy_input_N4,
            **asked,
        )

    def _mixed_image(self, image_tokens_NSC: Tensor) -> dict[str, Any]:
        """Return the SAM mixer's image tokens with their positions, pooled where that is set."""
        grid, pe_SC = self.sam.dims.grid, self.sam.image_pe()
        if self.image_grid is not None and self.image_grid != grid:
            image_tokens_NSC = pool_tokens(image_tokens_NSC, grid, self.image_grid)
            pe_SC = pool_tokens(pe_SC[None], grid, self.image_grid)[0]
            grid = self.image_grid
        return {
            "image_tokens_NSC": image_tokens_NSC,
            "image_pe_SC": pe_SC,
            "grid_hw": (grid, grid),
        }


def _real(batch: RegionBatch, prompts: Tensor | None) -> Tensor | None:
    return None if prompts is None else batch.real(prompts)


def pool_tokens(tokens_NSC: Tensor, grid: int, pooled_grid: int) -> Tensor:
    """Average-pool image tokens of a square grid to fewer rows and columns.

    In and out of the pooling goes what is contiguous: torch would choose the kernel by the layout,
    which it guesses differently for one row than for several.
    """
    map_NChw = tokens_NSC.transpose(1, 2).contiguous().unflatten(2, (grid, grid))
    return F.adaptive_avg_pool2d(map_NChw, pooled_grid).flatten(2).transpose(1, 2).contiguous()
