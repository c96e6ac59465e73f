"""ROI Align: a grid of image embeddings cut out of the box; nothing is mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import Design
    from sca_bench.settings import MixerSettings
    from sca_bench.specs.sam_dims import SamDims

PUBLISHED_STRIDE = 16
_MIXER_SIZES = ("num_layers", "num_heads", "mlp_dim", "attention_downsample_rate", "image_grid")

SPEC = DesignSpec(
    name="sca_roi_align",
    summary="6 x 6 image embeddings cut out of the box, without a text mixer",
    design="sca_bench.models.designs.roi_align:roi_align",
    trained=("projection", "task_tokens"),
    features=("prompts", "images"),
    ignores=tuple(f"mixer.{size}" for size in _MIXER_SIZES),
    as_published="takes every image embedding for one of 16 px patches",
    needs_boxes=True,
    revision="3",
    source=f"{PAPER}: ROI Align; ROI Align + MLP with prefix.projection: mlp",
)


def roi_align(mixer: MixerSettings, dims: SamDims) -> Design:
    """Hand the cut-out embeddings on; as published, the stride is 16 whatever the encoder's is.

    Raises:
        InputError: A setting has no meaning here.
    """
    from sca_bench.models.designs.parts import Design, refuse_changed
    from sca_bench.models.designs.queries import ROI_SIZE, RoiQueries

    reason = f"sca_roi_align has one head of {ROI_SIZE**2} cut-out image embeddings"
    refuse_changed(mixer, reason, "num_query_tokens", "num_caption_heads")
    stride = PUBLISHED_STRIDE if mixer.as_published else dims.patch_size
    return Design(RoiQueries(stride), ("prompts", "images"))
