"""The page of a suite: one HTML file with everything inlined, readable without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sca_bench.report.gallery import Gallery
from sca_bench.report.names import metric_label, metric_unit
from sca_bench.report.provenance import Provenance, RunFacts, SignatureLine
from sca_bench.report.tables import Footnotes, Table
from sca_bench.study.record import SuiteManifest

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page; the caption says why where `uri` is empty and nothing is drawn.

    Attributes:
        id: Anchor.
        title: Heading.
        uri: Data URI of the PNG.
        alt: What the figure shows, for those who cannot see it.
        caption: How to read it.
    """

    id: str
    title: str
    uri: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows."""

    manifest: SuiteManifest
    main_metric: str
    tables: tuple[Table, ...]
    notes: Footnotes
    pictures: tuple[Picture, ...]
    gallery: Gallery
    provenance: Provenance
    signatures: tuple[SignatureLine, ...]

    @property
    def failures(self) -> list[RunFacts]:
        """Runs without a result."""
        return [run for run in self.provenance.runs if run.status != "done"]


def render_page(page: Page) -> str:
    """Return the HTML (also well-formed XML), every text of a record escaped."""
    return render(
        "index.html.j2",
        page=page,
        suite=page.manifest,
        metric=f"{metric_label(page.main_metric)} ({metric_unit(page.main_metric)})",
        js=_asset("page.js"),
    )


def render(template: str, **values: Any) -> str:
    """Return one template filled in; it gets the style sheet as `css`, and texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(css=_asset("page.css"), **values)


def _asset(name: str) -> str:
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    # Inlined unescaped by the template; markup in our own assets would end the element early.
    assert "<" not in text, name
    return text
