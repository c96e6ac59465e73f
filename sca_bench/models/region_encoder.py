"""The frozen half of a captioner: images and prompts in, SAM's tokens per region out.

Shape legend: B images, R padded regions per image, N real regions in row-major (image, region)
order, P points or prompt tokens, S image tokens (= h*w), C channels, M mask candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.models.sam import Sam


class RegionEncoder(nn.Module):
    """SAM's image encoder, prompt encoder and mixer, without gradient."""

    def __init__(
        self, sam: Sam, *, image_grid: int | None = None, multimask_output: bool = True
    ) -> None:
        """Wrap SAM.

        Args:
            sam: Frozen SAM.
            image_grid: Average-pool the mixed image tokens, and their positional encoding, to
                this many rows and columns; None leaves them.
            multimask_output: Hand on the mask candidates (indices 1 and up), else the single
                mask (index 0). The tokens are the same either way.
        """
        super().__init__()
        self.sam = sam
        self.image_grid = image_grid
        self.multimask_output = multimask_output
        self._known: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def forward(self, batch: RegionBatch, *, with_masks: bool = False) -> RegionFeatures:
        """Return the frozen features of the batch's N real regions.

        Args:
            batch: Images with boxes, points, or both, in model-input pixels.
            with_masks: Also return low-resolution mask logits.

        Raises:
            ValueError: The batch has no pixels, no prompts, or not one id per real region.
        """
        if batch.pixel_values_B3HW is None:
            raise ValueError("frozen features need pixel values")
        mask_BR = batch.region_mask_BR
        if int(mask_BR.sum()) != batch.num_regions:
            raise ValueError(
                f"{batch.num_regions} region ids, but region_mask has {int(mask_BR.sum())} regions"
            )
        sparse_NPC = self.sam.encode_prompts(
            _real(batch.boxes_xyxy_input_BR4, mask_BR),
            _real(batch.points_xy_input_BRP2, mask_BR),
            _real(batch.point_labels_BRP, mask_BR),
        )
        embeddings_BChw = self._embed(batch.pixel_values_B3HW)
        image_index_N = mask_BR.nonzero()[:, 0]
        return self.from_embeddings(
            embeddings_BChw, image_index_N, sparse_NPC, with_masks=with_masks
        )

    def _embed(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Embed images; where all are bit for bit the same one, it is embedded once.

        That is so for the control with blank images, whose encoder passes would cost as much as
        those of real ones. The last such image is remembered across batches.
        """
        first = pixel_values_B3HW[:1]
        if not torch.equal(pixel_values_B3HW, first.expand_as(pixel_values_B3HW)):
            embeddings_BChw: Tensor = self.sam.encode_images(pixel_values_B3HW)
            return embeddings_BChw
        if self._known is None or not torch.equal(self._known[0], first):
            self._known = (first.clone(), self.sam.encode_images(first))
        embedding = self._known[1]
        return embedding.expand(len(pixel_values_B3HW), *embedding.shape[1:])

    @torch.no_grad()
    def from_embeddings(
        self,
        embeddings_BChw: Tensor,
        image_index_N: Tensor,
        sparse_NPC: Tensor,
        *,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Return the frozen features of N regions whose images and prompts are embedded already.

        Args:
            embeddings_BChw: Image embeddings.
            image_index_N: The image each region lies in.
            sparse_NPC: Prompt tokens of each region.
            with_masks: Also return low-resolution mask logits (N, M, 4h, 4w).
        """
        tokens_NTC, image_tokens_NSC = self.sam.mix(embeddings_BChw, image_index_N, sparse_NPC)
        candidates = slice(1, None) if self.multimask_output else slice(0, 1)
        masks = None
        if with_masks:
            masks = self.sam.mask_logits(tokens_NTC, image_tokens_NSC)[:, candidates]
        grid, image_pe_SC = self.sam.dims.grid, self.sam.image_pe()
        if self.image_grid is not None and self.image_grid != grid:
            image_tokens_NSC = _pool(image_tokens_NSC, grid, self.image_grid)
            image_pe_SC = _pool(image_pe_SC[None], grid, self.image_grid)[0]
            grid = self.image_grid
        return RegionFeatures(
            tokens_NTC=tokens_NTC,
            image_tokens_NSC=image_tokens_NSC,
            image_pe_SC=image_pe_SC,
            ious_NM=self.sam.predicted_ious(tokens_NTC)[:, candidates],
            grid_hw=(grid, grid),
            mask_logits_NMhw=masks,
        )


def _real(prompts: Tensor | None, mask_BR: Tensor) -> Tensor | None:
    return None if prompts is None else prompts[mask_BR]


def _pool(tokens_NSC: Tensor, grid: int, pooled_grid: int) -> Tensor:
    map_NChw = tokens_NSC.transpose(1, 2).unflatten(2, (grid, grid))
    return F.adaptive_avg_pool2d(map_NChw, pooled_grid).flatten(2).transpose(1, 2)
