"""What the catalogue says about a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sca_bench.data.catalogue.layouts import LAYOUTS
from sca_bench.settings.splits import FileSplit

SplitOf = Callable[[Path], FileSplit]
"""Makes the settings of a split, given the root folder."""


@dataclass(frozen=True)
class Remote:
    """One file to fetch, and what becomes of it.

    Attributes:
        path: Where it lies under the root.
        gives: Files and folders under the root that it becomes.
        url: Where it comes from; None where it lies in another archive or is fetched by hand.
        unpack_to: Folder under the root that its members go to; None where it is no archive.
        by_hand: Where a person gets it, if no program can.
        size: Its size in bytes, where published.
    """

    path: str
    gives: tuple[str, ...]
    url: str | None = None
    unpack_to: str | None = None
    by_hand: str = ""
    size: int | None = None


@dataclass(frozen=True)
class PublishedCount:
    """What is published about one split; None where nothing is.

    Attributes:
        images: Images, those without a usable region included.
        regions: Annotations (of RefCOCO: referred objects), unusable ones included.
        source: Who says so.
    """

    images: int | None
    regions: int | None
    source: str


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: What the command line calls it.
        licence: Under which it may be used.
        page: Its home.
        remotes: What to fetch, in order; archives inside archives come after them.
        splits: Split name -> its settings for a root folder.
        published: Split name -> what is published about it.
        disjoint: Groups of splits that must not share an image.
        shared: Groups of splits whose authors let them share images, but not regions.
        also_read: Further splits that a profile reads; they get an index too.
        coco_ids: File under the root whose records name the COCO image they are, if any.
    """

    name: str
    licence: str
    page: str
    remotes: tuple[Remote, ...]
    splits: dict[str, SplitOf]
    published: dict[str, PublishedCount]
    disjoint: tuple[tuple[str, ...], ...]
    shared: tuple[tuple[str, ...], ...] = ()
    also_read: tuple[SplitOf, ...] = ()
    coco_ids: str | None = None

    @property
    def layout(self) -> str:
        """What should lie under the root."""
        return LAYOUTS[self.name]
