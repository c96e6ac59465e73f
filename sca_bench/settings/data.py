"""Settings of the data: which splits are read, and what is done to their images and captions.

The three splits of a cell, and every training stage, name their data by one of these. What may
stand in a split, the reader that its `dataset` names decides (`sca_bench.specs.readers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import field_validator, model_validator

from sca_bench.errors import did_you_mean
from sca_bench.settings.base import ByName, Settings
from sca_bench.settings.splits import AnySplit, Split
from sca_bench.specs.readers import READERS


def _models() -> Mapping[str, type[Settings]]:
    return {name: spec.settings for name, spec in READERS.all().items() if not spec.fault}


def _single_models() -> Mapping[str, type[Settings]]:
    return {name: model for name, model in _models().items() if issubclass(model, Split)}


def _why_none(name: Any) -> str:
    """Say why no reader of a name can be used, or which one may have been meant."""
    spec = READERS.all().get(name) if isinstance(name, str) else None
    if spec is not None and spec.fault:
        return f"it cannot be used: {spec.fault}"
    if spec is not None:
        return "a mixture is made of single data sets"
    return did_you_mean(str(name), _models())


SplitSettings = Annotated[AnySplit, ByName("dataset", _models, why_none=_why_none)]
"""One split, of whatever data set."""
SingleSplit = Annotated[Split, ByName("dataset", _single_models, why_none=_why_none)]
"""One split of one data set: no mixture."""


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
    """The images and regions that are trained on."""
    val: SplitSettings | None = None
    """Those that are captioned while training goes on; a sweep chooses by them."""
    test: SplitSettings
    """Those that are captioned and scored in the end."""
    permute_captions: bool = False
    """Control: training captions are permuted over the regions (one fixed permutation)."""
    blank_images: bool = False
    """Control: one constant image takes the place of all, in all splits; only boxes stay."""


def unread_data() -> DataSettings:
    """Return data settings for what needs a cell's settings and reads no data."""
    scene = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    return DataSettings.model_validate({"train": scene, "test": scene})
