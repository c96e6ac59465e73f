"""A mixture of data sets: its settings. What it yields stands in `sca_bench.data.mixture`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from sca_bench.settings.base import Settings
from sca_bench.settings.data import SingleSplit
from sca_bench.settings.splits import AnySplit, Split
from sca_bench.specs.readers import ReaderSpec


class MixturePart(Settings):
    """One data set of a mixture."""

    weight: float = Field(gt=0)
    """Its share of the training draws, relative to the other parts."""
    split: SingleSplit
    """The data set."""


class MixtureSplit(AnySplit):
    """Several data sets; every training draw picks one with the probability of its weight."""

    dataset: Literal["mixture"]
    parts: tuple[MixturePart, ...] = Field(min_length=2)
    """The data sets, each with its weight."""

    def singles(self) -> tuple[Split, ...]:
        """Return the data sets of its parts."""
        return tuple(part.split for part in self.parts)

    def first_images(self, count: int) -> Self:
        """Return the settings of the first images of each part."""
        parts = tuple(
            part.model_copy(update={"split": part.split.first_images(count)}) for part in self.parts
        )
        return self.model_copy(update={"parts": parts})

    def in_words(self) -> str:
        """Return its parts with their weights."""
        return " + ".join(f"{part.weight:g} x {part.split.in_words()}" for part in self.parts)


SPEC = ReaderSpec(
    name="mixture",
    title="mixture",
    settings=MixtureSplit,
    read="sca_bench.data.load:read_mixture",
    summary="Several data sets; every training draw picks one by its weight",
    licence="that of its parts",
    example="sca_bench.contract.examples:mixture",
)
