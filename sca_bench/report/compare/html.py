"""A comparison as one page: the answer, the table, and pictures of the regions that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sca_bench.report.compare.changed import ChangedRegion
from sca_bench.report.compare.compared import Compared
from sca_bench.report.compare.words import (
    CHANGE_HEADS,
    HEADS,
    all_notes,
    answer,
    change_rows,
    changes_text,
    reference_text,
    region_text,
    shown_captions,
    shown_rows,
    side_text,
    size_text,
)
from sca_bench.report.page.caption_words import Word
from sca_bench.report.page.page import render
from sca_bench.report.read.thumbnails import SharedImage, Shot, Thumbnails

_SIDE_PX = 240
"""Longer side of the pictures, at most: 60 of them make a page of less than 2 MB."""


@dataclass(frozen=True, slots=True)
class PageCaption:
    """What one side said, as the gallery's macros show it."""

    cell: str
    words: tuple[Word, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class PageRegion:
    """A region with its picture and captions.

    Attributes:
        name: Its id, after the cell's name where there are several.
        became: What became of it.
        reference: Its references.
        shot: Image and box, or None with the reason in `no_image`.
        no_image: Why there is none.
        pair: What A's and B's seeds said.
    """

    name: str
    became: str
    reference: str
    shot: Shot | None
    no_image: str
    pair: tuple[PageCaption, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of a page, each once."""

    images: tuple[SharedImage, ...]


def compared_html(compared: Compared, regions: Sequence[ChangedRegion]) -> str:
    """Return a comparison as HTML that fetches nothing, every text escaped.

    Args:
        compared: The comparison.
        regions: The regions to show, with captions.

    Raises:
        InputError: A picture of the runs folder is damaged.
    """
    readers: dict[Path, Thumbnails] = {}
    shown = [_region(compared, region, readers) for region in regions]
    several = len(compared.pairs) > 1
    return render(
        "compare.html.j2",
        a=side_text(compared.a),
        b=side_text(compared.b),
        answer=answer(compared),
        size=size_text(compared),
        heads=[*(["cell"] if several else []), *HEADS],
        rows=[
            ([*([row.cell] if several else []), *row.fields], row.finding)
            for row in shown_rows(compared)
        ],
        notes=all_notes(compared),
        changes="" if several else changes_text(compared.pairs[0].changes),
        change_heads=CHANGE_HEADS,
        change_rows=change_rows(compared) if several else [],
        cards=shown,
        pictures=Pictures(tuple(i for reader in readers.values() for i in reader.images.values())),
    )


def _region(
    compared: Compared, region: ChangedRegion, readers: dict[Path, Thumbnails]
) -> PageRegion:
    one = next(p for p in compared.pairs if p.pair.name == region.cell)
    root = compared.a.pictures or compared.b.pictures
    shot, reason = None, "a file of captions has no pictures"
    if root is not None:
        reader = readers.setdefault(root, Thumbnails(root, _SIDE_PX))
        shot, reason = reader.shot(region.images_dir, region.image_id, region.box_xyxy)
    pair = [
        PageCaption(f"{said.side}{f', {said.seeds}' if said.seeds else ''}", said.words)
        for said in shown_captions(region)
    ]
    name = f"{region.cell}, {region.region_id}" if len(compared.pairs) > 1 else region.region_id
    became = region_text(region, one.changes.metric)
    return PageRegion(name, became, reference_text(region), shot, reason, tuple(pair))
