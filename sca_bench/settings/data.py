"""Settings of the data: which splits are read, and what is done to their images and captions.

The three splits of a cell, and every training stage, name their data by one of these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sca_bench.settings.base import Settings, of_kind

Task = Literal["caption", "recognition"]
INDEX_FOLDER = "sca_bench_index"
"""Folder beside annotation files for what was read from them; it is no part of the data."""


class _Split(Settings):
    task: Task = "caption"
    """Which task tokens stand before its captions in training."""


class ScenesSplit(_Split):
    """Rendered scenes `first_seed ... first_seed + num_images - 1`."""

    dataset: Literal["scenes"]
    num_images: int = Field(ge=1)
    first_seed: int = Field(ge=0)
    captions: Literal["full", "shape", "colour_shape", "subject"] = "full"
    """The whole caption, or a class name in its place: 4, 20 or 120 classes."""


class _FileSplit(_Split):
    images: str = of_kind("path")
    """Folder of the image files."""
    min_side_px: float = Field(1.0, ge=0)
    """Boxes with a side of at most this many original pixels are dropped, and counted (unless
    `as_published` holds `regions`)."""
    image_ids: str | None = of_kind("path", None)
    """A JSON list of image ids (or a split file, with `split`) to keep."""
    split: str | None = None
    """Key inside `image_ids`, or the `source_split` of the image records."""
    max_images: int | None = Field(None, ge=1)
    as_published: tuple[Literal["regions", "white_space"], ...] = of_kind("result", (), since="0.2")
    """Read annotations as the published code did. `regions`: every one counts, whatever its size,
    place or phrase, and boxes are not cut to their image. `white_space`: phrases keep theirs."""

    @field_validator("as_published")
    @classmethod
    def _in_one_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))


class VisualGenomeSplit(_FileSplit):
    """Visual Genome region descriptions v1.0 or v1.2."""

    dataset: Literal["visual_genome"]
    regions: str = of_kind("path")
    image_data: str = of_kind("path")


class CocoInstancesSplit(_FileSplit):
    """COCO-layout detection annotations; the category name is the phrase."""

    dataset: Literal["coco_instances"]
    annotations: str = of_kind("path")


class CocoPanopticSplit(_FileSplit):
    """COCO panoptic segments; the (cleaned) category name is the phrase."""

    dataset: Literal["coco_panoptic"]
    annotations: str = of_kind("path")
    panoptic: str | None = of_kind("path", None)
    """Folder of the panoptic PNGs, if masks are wanted."""


class GritSplit(_FileSplit):
    """Visual Genome as GRiT prepared it: COCO's layout with a `caption` in every annotation."""

    dataset: Literal["visual_genome_grit"]
    annotations: str = of_kind("path")


class Objects365Split(_FileSplit):
    """Objects365 v2 detection annotations; the category name is the phrase."""

    dataset: Literal["objects365"]
    annotations: str = of_kind("path")


class V3DetSplit(_FileSplit):
    """V3Det detection annotations; the category name is the phrase."""

    dataset: Literal["v3det"]
    annotations: str = of_kind("path")


class RefCocoSplit(_FileSplit):
    """RefCOCO, RefCOCO+ or RefCOCOg: one region per referred object, all its sentences."""

    dataset: Literal["refcoco"]
    refs: str = of_kind("path")
    """`refs(unc).p`, `refs(umd).p` or `refs(google).p`; `split` names train, val, testA, ..."""
    instances: str = of_kind("path")


SingleSplit = Annotated[
    ScenesSplit
    | VisualGenomeSplit
    | GritSplit
    | CocoInstancesSplit
    | CocoPanopticSplit
    | Objects365Split
    | V3DetSplit
    | RefCocoSplit,
    Field(discriminator="dataset"),
]


class MixturePart(Settings):
    """One data set of a mixture."""

    weight: float = Field(gt=0)
    split: SingleSplit


class MixtureSplit(Settings):
    """Several data sets; every training draw picks one with the probability of its weight."""

    dataset: Literal["mixture"]
    parts: tuple[MixturePart, ...] = Field(min_length=2)


SplitSettings = Annotated[
    ScenesSplit
    | VisualGenomeSplit
    | GritSplit
    | CocoInstancesSplit
    | CocoPanopticSplit
    | Objects365Split
    | V3DetSplit
    | RefCocoSplit
    | MixtureSplit,
    Field(discriminator="dataset"),
]


class AugmentationSettings(Settings):
    """What is done to training images."""

    flip: Literal["never", "unsided", "always"] = "never"
    """Mirror training images (p = 0.5): never, unless a caption says left or right, or always."""
    lsj_scale: tuple[float, float] | None = None
    """Large-scale jitter: smallest and largest scale of the image before a square crop."""
    lsj_as_published: bool = False
    """Jitter as the original does: flips whatever the captions say, and truncated pixels."""

    @field_validator("flip", mode="before")
    @classmethod
    def _flip_was_a_truth_value(cls, value: Any) -> Any:
        words = {True: "unsided", False: "never"}
        return words[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _jitter_fits(self) -> Self:
        if self.lsj_scale is not None and not 0 < self.lsj_scale[0] <= self.lsj_scale[1]:
            raise ValueError("data.lsj_scale needs 0 < smallest <= largest")
        if self.lsj_as_published and self.lsj_scale is None:
            raise ValueError("data.lsj_as_published needs data.lsj_scale")
        return self


class DataSettings(AugmentationSettings):
    """The three splits and what is done to the training captions or the images."""

    train: SplitSettings
    val: SplitSettings | None = None
    test: SplitSettings
    permute_captions: bool = False
    """Control: training captions are permuted over the regions (one fixed permutation)."""
    blank_images: bool = False
    """Control: one constant image takes the place of all, in all splits; only boxes stay."""
