"""Nearest neighbours among the training regions.

Shape legend: N regions of a batch, K training regions, T tokens, S image tokens (= h*w), C
channels, M mask candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sca_bench.batch import RegionBatch, RegionFeatures, row_by_row
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings import CellSettings
from sca_bench.types import Family, Prediction
from sca_bench.variants import get_variant

_ROWS_AT_A_TIME = 262_144
"""Training regions compared at a time."""

Describe = Callable[[RegionFeatures, int], Tensor]
"""(features, side of the model input in pixels) -> one vector per region, (N, C)."""


def mask_token(features: RegionFeatures, side: int) -> Tensor:
    """Return the SAM mixer's token of the mask with the highest predicted IoU, (N, C)."""
    tokens_NTC = features.need("tokens_NTC")
    best_N = features.ious_NM.argmax(1) + 1 + features.first_candidate
    return tokens_NTC[torch.arange(len(tokens_NTC), device=tokens_NTC.device), best_N]


def box_tokens(features: RegionFeatures, side: int) -> Tensor:
    """Return the mean of the SAM mixer's image tokens inside the prompt box, (N, C).

    A token counts by the share of its cell that the box covers.
    """
    tokens_NSC, boxes_N4 = features.need("image_tokens_NSC"), features.need("boxes_xyxy_input_N4")
    if features.grid_hw is None:
        raise ValueError("these image tokens have no grid")

    def covered(low_N: Tensor, high_N: Tensor, count: int) -> Tensor:
        edges = torch.arange(count + 1, device=low_N.device) * (side / count)
        inside = torch.minimum(high_N[:, None], edges[1:]) - torch.maximum(
            low_N[:, None], edges[:-1]
        )
        return inside.clamp(min=0)

    rows, columns = features.grid_hw
    across_Nw = covered(boxes_N4[:, 0], boxes_N4[:, 2], columns)
    down_Nh = covered(boxes_N4[:, 1], boxes_N4[:, 3], rows)
    weights_NS = (down_Nh[:, :, None] * across_Nw[:, None, :]).flatten(1)
    return (weights_NS[..., None] * tokens_NSC).sum(1) / weights_NS.sum(1, keepdim=True)


DESCRIPTORS: dict[str, Describe] = {"mask_token": mask_token, "box_tokens": box_tokens}
"""What `baseline.size` names; empty is the first."""


class NearestRegion(nn.Module):
    """Answers every region with the caption of the most similar training region (cosine)."""

    def __init__(self, encode: Any, describe: Describe) -> None:
        """Take SAM and a descriptor.

        Args:
            encode: Frozen SAM: `(batch, families=...) -> RegionFeatures`, with attributes `sam` and
                `embed`.
            describe: Turns features into one vector per region.
        """
        super().__init__()
        self.encode, self.describe = encode, describe
        self.captions: list[str] = []
        self.register_buffer("known_KC", torch.zeros(0, 0), persistent=False)
        self.known_KC: Tensor

    def frozen_features(
        self,
        batch: RegionBatch,
        *,
        families: Collection[Family] | None = None,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Run SAM without gradient."""
        features: RegionFeatures = self.encode(
            batch, families=("mixed",) if families is None else families, with_masks=with_masks
        )
        return features

    def embed_images(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images, without gradient."""
        embeddings_BChw: Tensor = self.encode.embed(pixel_values_B3HW)
        return embeddings_BChw

    @torch.no_grad()
    def fit_features(self, batches: Iterable[RegionBatch]) -> None:
        """Keep descriptor and caption of every training region.

        Raises:
            ValueError: A batch has no captions, or there is no region at all.
        """
        parts: list[Tensor] = []
        self.captions = []
        for batch in batches:
            if batch.captions is None:
                raise ValueError("regions to retrieve need captions")
            parts.append(self._vectors(batch.features or self.frozen_features(batch)))
            self.captions += batch.captions
        if not self.captions:
            raise ValueError("there is no training region to retrieve")
        self.known_KC = torch.cat(parts)

    @torch.no_grad()
    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return one `Prediction` per real region; the first of equally near regions answers.

        Nothing is decoded, so `decoding` is not read and the log-probability is 0.
        """
        if not batch.num_regions:
            return []
        features = batch.features or self.frozen_features(batch)
        place_N = row_by_row(self._nearest, self._vectors(features))
        return [
            Prediction(region_id, self.captions[row_index].strip(), 0.0, tuple(row), 0.0)
            for region_id, row_index, row in zip(
                batch.region_ids, place_N.tolist(), features.ious_NM.tolist(), strict=True
            )
        ]

    def _nearest(self, vectors_NC: Tensor) -> Tensor:
        """Return the place (N,) of the training region with the highest cosine."""
        best_N = torch.full((len(vectors_NC),), -torch.inf, device=vectors_NC.device)
        place_N = torch.zeros(len(vectors_NC), dtype=torch.long, device=vectors_NC.device)
        for start in range(0, len(self.known_KC), _ROWS_AT_A_TIME):
            found_N, at_N = (vectors_NC @ self.known_KC[start : start + _ROWS_AT_A_TIME].T).max(1)
            place_N = torch.where(found_N > best_N, at_N + start, place_N)
            best_N = torch.maximum(found_N, best_N)
        return place_N

    def _vectors(self, features: RegionFeatures) -> Tensor:
        return F.normalize(self.describe(features, self.encode.sam.dims.image_size).float(), dim=1)


def build(settings: CellSettings, parts: Any = None) -> NearestRegion:
    """Build the baseline for one cell.

    Args:
        settings: The cell: `sam`, `encoder`, `mixer.image_grid`, `baseline.size`, the prompts and
            `features.encoder_dtype` are read.
        parts: What cells of a group share: SAM; loaded here where it is None.

    Raises:
        InputError: No such descriptor, it needs boxes and the cell prompts with points, or the
            grid is finer than SAM's.
    """
    name = settings.baseline.size or next(iter(DESCRIPTORS))
    if name not in DESCRIPTORS:
        problem = f"{name!r} is no descriptor of a region"
        raise InputError(None, "baseline.size", problem, did_you_mean(name, DESCRIPTORS))
    prompts = (settings.train.prompt, settings.eval.prompt)
    if name == "box_tokens" and not set(prompts) <= {"box", "box_point"}:
        problem = f"box_tokens needs boxes, and the prompts are {' and '.join(prompts)}"
        raise InputError(None, "baseline.size", problem, "use mask_token")
    if parts is None:
        parts = get_variant(settings.variant).load_parts(settings)
    encode = parts.region_encoder(
        image_grid=settings.mixer.image_grid, embedding_dtype=settings.features.encoder_dtype
    )
    return NearestRegion(encode, DESCRIPTORS[name])
