"""ROI Align: a grid of image embeddings cut out of the box; nothing is mixed.

Shape legend: B images, N regions, h w rows and columns of image embeddings, C channels; one head,
Q = `OUTPUT_SIZE`**2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align as align

from sca_bench.batch import RegionFeatures
from sca_bench.errors import InputError
from sca_bench.models.designs.parts import CaptionQueries, Design, refuse_changed
from sca_bench.settings import MixerSettings
from sca_bench.specs.sam_dims import SamDims

OUTPUT_SIZE = 6
PUBLISHED_STRIDE = 16


class RoiQueries(CaptionQueries):
    """Rows and columns of the box, sampled from the image encoder's own map.

    Source: He et al., Mask R-CNN, ICCV 2017 (ROI Align, half-pixel offset, adaptive sampling).
    """

    def __init__(self, stride: int) -> None:
        """Build the part.

        Args:
            stride: Model-input pixels per image embedding.
        """
        super().__init__()
        self.stride = stride

    def heads(self, num_candidates: int) -> int:
        """Return 1."""
        return 1

    def forward(self, features: RegionFeatures) -> Tensor:
        """Return the cut-out embeddings (N, 1, 36, C), row-major.

        Raises:
            InputError: The prompt holds no box.
        """
        if features.boxes_xyxy_input_N4 is None:
            raise InputError(
                "sca_roi_align", "prompt", "a point alone has no region to cut out", "give a box"
            )
        boxes_N4 = features.boxes_xyxy_input_N4.float()
        rois_N5 = torch.cat([features.image_index_N[:, None].to(boxes_N4), boxes_N4], dim=1)
        cut_NChw: Tensor = align(
            features.need("embeddings_BChw").float(),
            rois_N5,
            output_size=OUTPUT_SIZE,
            spatial_scale=1 / self.stride,
            sampling_ratio=0,
            aligned=True,
        )
        return cut_NChw.flatten(2).transpose(1, 2)[:, None]


def roi_align(mixer: MixerSettings, dims: SamDims) -> Design:
    """Hand the cut-out embeddings on; as published, the stride is 16 whatever the encoder's is.

    Raises:
        InputError: A setting has no meaning here.
    """
    reason = f"sca_roi_align has one head of {OUTPUT_SIZE**2} cut-out image embeddings"
    refuse_changed(mixer, reason, "num_query_tokens", "num_caption_heads")
    stride = PUBLISHED_STRIDE if mixer.as_published else dims.patch_size
    return Design(RoiQueries(stride), ("prompts", "images"))
