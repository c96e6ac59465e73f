"""SAM + an image captioner that has never seen a region: the paper's SAM+GIT, +BLIP, +BLIP-2."""

from collections.abc import Mapping
from pathlib import Path

from sca_bench.variants import VariantSpec

_READS = (
    "sam",
    "encoder",
    "baseline",
    "crop",
    "data",
    "eval",
    "features",
    "train.precision",  # evaluation runs in it, too
)
_SOURCE = "Huang et al., Segment and Caption Anything, CVPR 2024: SAM + captioner baselines"


def _spec(kind: str, title: str, licence: str) -> VariantSpec:
    return VariantSpec(
        name=f"sam_{kind}",
        builder=f"baselines.sam_captioner.captioner:build_{kind}",
        parts="sca_bench.models.build:load_sam_parts",
        summary=f"SAM's mask cut out of the image and captioned by {title}",
        frozen=("image_encoder", "prompt_encoder", "sam_mixer", "mask_decoder", "image_captioner"),
        reads=_READS,
        has_sams_features=True,
        features=("mask_boxes",),
        needs_originals=True,
        trains="never",
        revision="2",
        source=_SOURCE,
        licence=licence,
        example=f"baselines.sam_captioner:example_{kind}",
    )


def example_git(folder: Path) -> Mapping[str, str]:
    """Return the shipped weights of GIT for rendered scenes, for `sca_bench test`."""
    return {"baseline.weights": "package:baselines.sam_captioner/weights/git_scenes"}


def example_blip(folder: Path) -> Mapping[str, str]:
    """Return the shipped weights of BLIP for rendered scenes, for `sca_bench test`."""
    return {"baseline.weights": "package:baselines.sam_captioner/weights/blip_scenes"}


def example_blip2(folder: Path) -> Mapping[str, str]:
    """Return the shipped weights of BLIP-2 for rendered scenes, for `sca_bench test`."""
    return {"baseline.weights": "package:baselines.sam_captioner/weights/blip2_scenes"}


GIT = _spec("git", "GIT", "MIT (weights of microsoft/git-*)")
BLIP = _spec("blip", "BLIP", "BSD-3-Clause (weights of Salesforce/blip-*)")
BLIP2 = _spec("blip2", "BLIP-2 with OPT", "MIT (weights of Salesforce/blip2-opt-*)")
