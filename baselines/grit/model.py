"""GRiT: an assembly of its parts, and its two ways of use.

*Given boxes* (the comparison in the SCA paper): proposals and cascade are left out, every given
box is pooled and captioned. *Own detections*: proposals, cascade, then a caption per detection.

Shape legend: B images, N regions, C channels, S visual tokens of a region, D width of the text
decoder, H and W rows and columns.

Source: Wu et al., GRiT: A Generative Region-to-text Transformer for Object Understanding, 2022;
written from the published design and checked against the original's recorded outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.grit.beam_search import Captions, search
from baselines.grit.cascade import Cascade, Detections
from baselines.grit.config import GritConfig
from baselines.grit.image_encoder import ImageEncoder
from baselines.grit.pooling import pool_regions
from baselines.grit.preprocess import ResizedImage, normalise_and_pad, to_original
from baselines.grit.proposals import ProposalHead, choose_proposals
from baselines.grit.pyramid import Pyramid
from baselines.grit.text_decoder import CachedSteps, TextDecoder, UncachedSteps
from sca_bench.batch import each_by_itself, row_by_row
from sca_bench.devices import gpu

MAX_TOKENS = 40
"""Longest caption of the original, begin token included."""
REGIONS_AT_A_TIME = 64
"""Regions decoded at a time: bounds memory, moves no number beyond rounding.

What is decoded together may move the last digits of a log-probability, and a caption where two
words are equally likely to that many digits. Image levels and visual tokens do not depend on it.
"""


@dataclass(frozen=True)
class CaptionedDetections:
    """What GRiT finds in one image by itself, best detection score first.

    Attributes:
        boxes_xyxy_N4: Original pixels, inside the image, none empty.
        scores_N: Square root of detection score times caption probability per token.
        captions: One caption per box (N, 1, L).
        detections: The detections, in resized pixels, that the boxes come from.
        kept: Indices of those detections whose box is not empty in original pixels.
    """

    boxes_xyxy_N4: Tensor
    scores_N: Tensor
    captions: Captions
    detections: Detections
    kept: Tensor


class Grit(nn.Module):
    """The network.

    Args:
        config: Sizes.
    """

    def __init__(self, config: GritConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.pyramid_channels
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.pyramid = Pyramid(config.image_encoder.width, channels)
        self.proposal_head = ProposalHead(channels)
        self.cascade = Cascade(channels, config.box_head_dim, config.detection)
        self.text_decoder = TextDecoder(config.text_decoder, channels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_encoder.pos_embed.device

    def pixels(self, images: Sequence[ResizedImage]) -> Tensor:
        """Normalise, pad and stack images of one size, (B, 3, H, W)."""
        dtype = self.image_encoder.pos_embed.dtype
        return torch.stack([normalise_and_pad(image, self.device, dtype) for image in images])

    def pooled_levels(self, images: Sequence[ResizedImage]) -> list[Tensor]:
        """Encode images of one size and return the levels that regions are pooled from.

        On a CPU and without gradient every image is encoded by itself.
        """
        pixels_B3HW = self.pixels(images)
        parts = pixels_B3HW.split(1) if each_by_itself(pixels_B3HW) else (pixels_B3HW,)
        encoded = [self.pyramid.pooled(self.image_encoder(part)) for part in parts]
        return [torch.cat(level) for level in zip(*encoded, strict=True)]

    def visual_tokens(
        self,
        levels: Sequence[Tensor],
        boxes_xyxy_N4: Tensor,
        image_index_N: Tensor,
        level_of_N: Sequence[int] | None = None,
    ) -> Tensor:
        """Pool regions and project them for the text decoder, (N, S, D).

        Args:
            levels: The pooled levels of a batch of images.
            boxes_xyxy_N4: Resized pixels.
            image_index_N: Which of the images each box lies in.
            level_of_N: As for `pool_regions`.
        """
        features_NSC = self.object_features(levels, boxes_xyxy_N4, image_index_N, level_of_N)
        return row_by_row(self.text_decoder.visual_tokens, features_NSC)

    def object_features(
        self,
        levels: Sequence[Tensor],
        boxes_xyxy_N4: Tensor,
        image_index_N: Tensor,
        level_of_N: Sequence[int] | None = None,
    ) -> Tensor:
        """Pool regions to their object features, row by row, (N, S, C)."""
        grid = self.config.object_grid
        pooled_NCSS = pool_regions(levels, boxes_xyxy_N4, image_index_N, grid, level_of_N)
        return pooled_NCSS.flatten(2).transpose(1, 2)

    def caption(
        self,
        visual_NSD: Tensor,
        begin_N: Tensor,
        *,
        max_tokens: int = MAX_TOKENS,
        beams: int = 1,
        cached: bool = True,
    ) -> Captions:
        """Caption regions from their visual tokens.

        Args:
            visual_NSD: Visual tokens.
            begin_N: Begin token of each region.
            max_tokens: Longest caption, begin token included.
            beams: 1 is greedy.
            cached: Keep keys and values; the original computes everything again at every token.
        """
        decoder = self.text_decoder
        steps = (
            CachedSteps(decoder, visual_NSD, max_tokens)
            if cached
            else UncachedSteps(decoder, visual_NSD)
        )
        end = self.config.text_decoder.end_token
        begin_N = gpu.send(begin_N, self.device)
        return search(steps, begin_N, end, max_tokens=max_tokens, beams=beams)

    def caption_boxes(
        self,
        levels: Sequence[Tensor],
        boxes_xyxy_N4: Tensor,
        image_index_N: Tensor,
        begin_N: Tensor,
        level_of_N: Sequence[int] | None = None,
        *,
        max_tokens: int = MAX_TOKENS,
        beams: int = 1,
    ) -> Captions:
        """Pool and caption any number of regions, `REGIONS_AT_A_TIME` of them at a time.

        Args:
            levels: The pooled levels of a batch of images.
            boxes_xyxy_N4: Resized pixels, none of them empty.
            image_index_N: Which of the images each box lies in.
            begin_N: Begin token of each region.
            level_of_N: As for `pool_regions`.
            max_tokens: Longest caption, begin token included.
            beams: 1 is greedy.
        """
        parts = []
        for start in range(0, len(boxes_xyxy_N4), REGIONS_AT_A_TIME):
            rows = slice(start, start + REGIONS_AT_A_TIME)
            visual_NSD = self.visual_tokens(
                levels,
                boxes_xyxy_N4[rows],
                image_index_N[rows],
                None if level_of_N is None else level_of_N[rows],
            )
            parts.append(
                self.caption(visual_NSD, begin_N[rows], max_tokens=max_tokens, beams=beams)
            )
        return self._join(parts, beams)

    def detect(self, image: ResizedImage) -> tuple[list[Tensor], Detections]:
        """Find regions in one image.

        Returns:
            The pooled levels, and the detections in resized pixels.
        """
        levels = self.pooled_levels([image])
        outputs = self.proposal_head([*levels, *self.pyramid.coarse(levels[-1])])
        proposals = choose_proposals(outputs, 0, self.config.detection)
        stages = self.cascade.run(levels, 0, proposals.boxes_xyxy_P4, image.size_hw)
        return levels, self.cascade.choose(proposals, stages, image.size_hw)

    def detect_and_caption(
        self, image: ResizedImage, begin_token: int, *, max_tokens: int = MAX_TOKENS, beams: int = 1
    ) -> CaptionedDetections:
        """Find regions in one image and caption them."""
        levels, detections = self.detect(image)
        boxes = detections.boxes_xyxy_P4
        index_N = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        begin_N = torch.full_like(index_N, begin_token)
        captions = self.caption_boxes(
            levels, boxes, index_N, begin_N, max_tokens=max_tokens, beams=beams
        )
        scores_N = torch.sqrt(detections.scores_P * captions.log_prob_NK[:, 0].exp())
        original_N4 = to_original(boxes, image)
        kept = torch.nonzero((original_N4[:, 2:] > original_N4[:, :2]).all(1)).flatten()
        return CaptionedDetections(
            original_N4[kept],
            scores_N[kept],
            Captions(captions.ids_NKL[kept], captions.log_prob_NK[kept]),
            detections,
            kept,
        )

    def _join(self, parts: Sequence[Captions], beams: int) -> Captions:
        """Put captions of several chunks together, filled up with end tokens."""
        end = self.config.text_decoder.end_token
        width = max((part.ids_NKL.shape[2] for part in parts), default=1)
        ids = [
            nn.functional.pad(part.ids_NKL, (0, width - part.ids_NKL.shape[2]), value=end)
            for part in parts
        ]
        if not ids:
            nothing = torch.zeros(0, beams, width, dtype=torch.long, device=self.device)
            return Captions(nothing, torch.zeros(0, beams, device=self.device))
        return Captions(torch.cat(ids), torch.cat([part.log_prob_NK for part in parts]))
