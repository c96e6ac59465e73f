"""One suite read once: what its own page and the page of all suites are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sca_bench.report.page.gallery import build_gallery
from sca_bench.report.page.page import Page, render_page
from sca_bench.report.page.size_limit import SUITE_DETAILS, Detail, fit, held_back
from sca_bench.report.read.regions import SuiteRegions
from sca_bench.report.read.suite_data import SuiteData


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """A suite with everything that its pages show.

    Attributes:
        data: Its records.
        page: Its page with all plots, and no regions yet.
        regions: Its test regions.
        reference: Name of the cell that others are compared with; empty where there is none.
    """

    data: SuiteData
    page: Page
    regions: SuiteRegions
    reference: str = ""

    def page_at(self, detail: Detail) -> Page:
        """Return the page with as much as a detail says."""
        answer = self.page.headline.regions if detail.answer else ()
        gallery = build_gallery(self.regions, detail.gallery, self.reference, answer)
        # The figure that answers the question goes last.
        drawn = [picture for picture in self.page.pictures if picture.uri]
        drawn.sort(key=lambda picture: picture is not self.page.answering)
        kept = drawn[: detail.num_pictures]
        shown = [one for one in self.page.pictures if not one.uri or any(one is k for k in kept)]
        return replace(self.page, gallery=gallery, pictures=tuple(shown))

    def html(self, limit_mb: float) -> str:
        """Return the suite's own page, below a limit.

        Raises:
            InputError: Its tables and texts alone are larger.
        """

        def draw(detail: Detail, limit: str) -> str:
            elsewhere = "they are files beside this page"
            page = self.page_at(detail)
            left_out = held_back(limit, SUITE_DETAILS[0], detail, page.gallery.images, elsewhere)
            return render_page(replace(page, held_back=left_out))

        name = f"{self.page.manifest.report_name}/index.html"
        return fit(SUITE_DETAILS, draw, limit_mb, name)
