"""Keeping a page below a number of bytes: smaller and fewer images first, plots last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sca_bench.errors import InputError
from sca_bench.report.page.gallery import GallerySize
from sca_bench.report.read.thumbnails import SharedImage

DEFAULT_LIMIT_MB = 2.0
BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Detail:
    """How much a page shows beside its tables.

    Attributes:
        gallery: What of the test regions.
        num_pictures: How many plots, at most.
        answer: Whether the regions that stand beside the answer are shown.
    """

    gallery: GallerySize
    num_pictures: int
    answer: bool = True


ALL_PICTURES = 99
SUITE_DETAILS = (
    *(
        Detail(GallerySize(num_disputed, num_each, side_px), ALL_PICTURES)
        for num_disputed, num_each, side_px in (
            *((24, 12, 480), (24, 12, 320), (16, 8, 320), (16, 8, 200)),
            *((12, 4, 200), (8, 4, 200), (6, 2, 160), (4, 0, 160), (0, 0, 160)),
        )
    ),
    Detail(GallerySize(0, 0, 160), 1),
    Detail(GallerySize(0, 0, 160), 1, answer=False),
    Detail(GallerySize(0, 0), 0, answer=False),
)
"""What the page of a suite shows, the most first."""
OVERVIEW_DETAILS = (
    *(
        Detail(GallerySize(num_disputed, 0, side_px, first_seed_only=True), num_pictures, answer)
        for num_disputed, side_px, num_pictures, answer in (
            *((6, 320, ALL_PICTURES, True), (6, 240, ALL_PICTURES, True), (4, 240, 3, True)),
            *((4, 200, 2, True), (4, 200, 1, True), (2, 160, 1, True), (0, 160, 1, True)),
            *((0, 160, 1, False), (0, 160, 0, False)),
        )
    ),
)
"""What the page of all suites shows of each, the most first."""


def fit(
    details: Iterable[Detail],
    render: Callable[[Detail, str], str],
    limit_mb: float,
    what: str,
) -> str:
    """Return the richest page below the limit.

    Args:
        details: What may be shown, the most first.
        render: Makes the page of a detail, given the limit in words where it is not the first one.
        limit_mb: Most megabytes (10^6 bytes) of the file.
        what: The page, for the error.

    Raises:
        InputError: Even the last one, tables and texts alone, is larger.
    """
    most, size, limit = limit_mb * BYTES_PER_MB, 0, ""
    for detail in details:
        page = render(detail, limit)
        size = len(page.encode("utf-8"))
        if size <= most:
            return page
        limit = f"{limit_mb:g} MB"
    least = -(-size * 100 // BYTES_PER_MB) / 100
    problem = f"tables and texts of {what} alone take {least:g} MB"
    raise InputError("report", "--limit-mb", f"{limit_mb:g} is too small: {problem}", "give more")


def held_back(
    limit: str, first: Detail, detail: Detail, images: Iterable[SharedImage], elsewhere: str
) -> str:
    """Say what a page leaves out; nothing where no limit had to be kept.

    Args:
        limit: The limit in words; empty where all is shown.
        first: What would be shown without a limit.
        detail: What is shown.
        images: The images on the page.
        elsewhere: Where plots that are left out can be found.
    """
    if not limit:
        return ""
    parts = []
    count = detail.gallery.most
    wanted = first.gallery.most
    if not count:
        least = "only the regions beside the answer" if detail.answer else "no regions"
        parts.append(f"{least} are shown")
    elif count < wanted:
        parts.append(f"at most {count} regions are shown instead of {wanted}")
    if any(max(image.width, image.height) > detail.gallery.side_px for image in images):
        parts.append(f"images have at most {detail.gallery.side_px} pixels a side")
    if detail.num_pictures < first.num_pictures:
        shown = {0: "no plot is", 1: "only the plot of the answer is"}
        plots = shown.get(detail.num_pictures, f"only the first {detail.num_pictures} plots are")
        parts.append(f"{plots} shown ({elsewhere})")
    return f"To keep this page below {limit} (report --limit-mb): {'; '.join(parts)}."
