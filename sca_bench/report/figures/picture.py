"""One figure as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.report.figures.svg import inlined

KINDS = ("png", "svg", "pdf")
"""Every figure is written in each."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page; the caption says why where `uri` is empty and nothing is drawn.

    Attributes:
        id: Anchor.
        title: Heading.
        uri: Data URI of the PNG, black on white.
        alt: What the figure shows, for those who cannot see it.
        caption: How to read it.
        failed: Whether a plot of another package is at fault, of which the caption then tells.
        svg: The SVG, for light and dark screens; empty where it is too large for a page.
    """

    id: str
    title: str
    uri: str
    alt: str
    caption: str
    failed: bool = False
    svg: str = ""

    def inline(self, prefix: str = "") -> str:
        """Return the figure as an `<svg>` element, its texts escaped; empty where it has none.

        It takes the page's `color` and its `--ground`, fills the width it is given, and says `alt`
        by itself.

        Args:
            prefix: What goes before every id of this part of the page.
        """
        return inlined(self.svg, prefix + self.id, self.alt) if self.svg else ""
