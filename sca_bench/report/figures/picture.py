"""One figure as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("png", "svg", "pdf")
"""Every figure is written in each."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page; the caption says why where `uri` is empty and nothing is drawn.

    Attributes:
        id: Anchor.
        title: Heading.
        uri: Data URI of the PNG.
        alt: What the figure shows, for those who cannot see it.
        caption: How to read it.
        failed: Whether a plot of another package is at fault, of which the caption then tells.
    """

    id: str
    title: str
    uri: str
    alt: str
    caption: str
    failed: bool = False
