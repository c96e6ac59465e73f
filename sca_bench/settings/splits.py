"""What the settings of every split have in common: the bases that a dataset reader builds on.

A reader's own class adds `dataset: Literal["its name"]` and whatever it reads. What the rest of
the package asks about a split, it asks through the methods of `AnySplit`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator

from sca_bench.settings.base import Settings, items_of, of_kind

Task = Literal["caption", "recognition"]
INDEX_FOLDER = "sca_bench_index"
"""Folder beside annotation files for what was read from them; it is no part of the data."""


class AnySplit(Settings):
    """What may stand at `data.train`, `data.val` and `data.test`."""

    dataset: str
    """Which reader reads it; `list datasets` names them."""

    def singles(self) -> tuple[Split, ...]:
        """Return the data sets it is made of."""
        raise NotImplementedError

    def most_images(self) -> int | None:
        """Return how many images it has at most; None where the settings do not say."""
        return None

    def first_images(self, count: int) -> Self:
        """Return the settings of its first images; itself where it cannot be made smaller.

        Args:
            count: How many images are kept at most.
        """
        return self

    def files(self) -> dict[str, Path]:
        """Return the files and folders that its regions are read from, by setting; no images."""
        return {
            name: Path(value)
            for name, kind, value in items_of(self)
            if kind == "path" and name != "images" and value is not None
        }

    def in_words(self) -> str:
        """Return it in a few words, as `plan` prints it."""
        return self.dataset


class Split(AnySplit):
    """One data set: the base of readers that make their images, or find them in their own way."""

    task: Task = "caption"
    """Which task tokens stand before its captions in training."""

    def singles(self) -> tuple[Split, ...]:
        """Return itself."""
        return (self,)


class ImageFolderSplit(Split):
    """One data set whose images lie in a folder."""

    images: str = of_kind("path")
    """Folder of the image files."""
    min_side_px: float = Field(1.0, ge=0)
    """Boxes with a side of at most this many original pixels are dropped, and counted."""
    split: str | None = None
    """Which split of the data set."""
    max_images: int | None = Field(None, ge=1)
    """Images that are kept at most, the first ones with a region."""

    def most_images(self) -> int | None:
        """Return how many images it has at most; None where the settings do not say."""
        return self.max_images

    def first_images(self, count: int) -> Self:
        """Return the settings of its first images."""
        return self.model_copy(update={"max_images": min(self.max_images or count, count)})

    def in_words(self) -> str:
        """Return data set, split and limit."""
        name = f"{self.dataset} {self.split}" if self.split else self.dataset
        return f"{name} (up to {self.max_images} images)" if self.max_images else name


class FileSplit(ImageFolderSplit):
    """One data set of annotation files and a folder of images, read through a `Collector`."""

    min_side_px: float = Field(1.0, ge=0)
    """Boxes with a side of at most this many original pixels are dropped, and counted (unless
    `as_published` holds `regions`)."""
    image_ids: str | None = of_kind("path", None)
    """A JSON list of image ids (or a split file, with `split`) to keep."""
    split: str | None = None
    """Key inside `image_ids`, or the `source_split` of the image records."""
    as_published: tuple[Literal["regions", "white_space"], ...] = of_kind("result", (), since="0.2")
    """Read annotations as the published code did. `regions`: every one counts, whatever its size,
    place or phrase, and boxes are not cut to their image. `white_space`: phrases keep theirs."""

    @field_validator("as_published")
    @classmethod
    def _in_one_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))
