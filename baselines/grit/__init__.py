"""GRiT: one model that finds regions and says what they show, here on given boxes."""

from collections.abc import Mapping
from pathlib import Path

from sca_bench.variants import VariantSpec

_SOURCE = "Wu et al., GRiT: A Generative Region-to-text Transformer for Object Understanding, 2022"
_OLDER = ("1", "2")
"""Revisions whose keys lacked what the engine reads for both: the frame of the boxes, and the
precision of the captioning."""

SPEC = VariantSpec(
    name="grit",
    builder="baselines.grit.build:build",
    summary="GRiT with a released checkpoint, captioning the given boxes (table 1)",
    frozen=("image_encoder", "pyramid", "text_decoder"),
    reads=("baseline", "data", "eval"),
    keys_lacked=(("sam.size", _OLDER), ("train.precision", _OLDER)),
    needs_boxes=True,
    needs_originals=True,
    needs_pixels=False,
    trains="never",
    revision="3",
    source=_SOURCE,
    licence="MIT (upstream code and weights)",
    example="baselines.grit:example",
)

FROM_SCRATCH = VariantSpec(
    name="grit_from_scratch",
    builder="baselines.grit.build:build_from_scratch",
    summary="GRiT's own encoder and text decoder, trained on the given boxes from scratch",
    trained=("image_encoder", "pyramid", "text_decoder"),
    reads=("baseline", "data", "train", "eval", "pretraining", "start_from"),
    keys_lacked=(("sam.size", _OLDER),),
    needs_boxes=True,
    needs_originals=True,
    needs_pixels=False,
    published_loss=True,
    revision="3",
    source=_SOURCE,
    licence="MIT (upstream design)",
    example="baselines.grit:example",
)


def example(folder: Path) -> Mapping[str, str]:
    """Return the size for rendered scenes, untrained, for `sca_bench test`."""
    return {"baseline.size": "grit_tiny"}
