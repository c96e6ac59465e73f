"""The page of a suite: one HTML file with everything inlined, readable without a network."""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sca_bench.output import visible
from sca_bench.report.figures.picture import Picture
from sca_bench.report.findings.headline import Headline, Sentence
from sca_bench.report.names import metric_label, metric_unit
from sca_bench.report.page.gallery import Gallery
from sca_bench.report.page.table_view import TableView, table_views
from sca_bench.report.tables.provenance import Provenance, RunFacts, SignatureLine
from sca_bench.report.tables.tables import Footnotes, Table
from sca_bench.study.runs.record import SuiteManifest

_TEMPLATES = Path(__file__).parent / "templates"
_ANSWERING = "headline-figure"


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows.

    `held_back` says what was left out to keep the page small; empty where nothing was. `related` is
    the other reports of the suite's sweep: what each is in words, and its name.
    """

    manifest: SuiteManifest
    main_metric: str
    headline: Headline
    tables: tuple[Table, ...]
    notes: Footnotes
    pictures: tuple[Picture, ...]
    gallery: Gallery
    provenance: Provenance
    signatures: tuple[SignatureLine, ...]
    held_back: str = ""
    related: tuple[tuple[str, str], ...] = ()

    @property
    def failures(self) -> list[RunFacts]:
        """Runs without a result."""
        return [run for run in self.provenance.runs if run.status != "done"]

    @property
    def answering(self) -> Picture | None:
        """The figure that answers the question; the first one where that is not drawn."""
        drawn = [picture for picture in self.pictures if picture.uri]
        return next((one for one in drawn if one.id == _ANSWERING), next(iter(drawn), None))

    @property
    def views(self) -> tuple[TableView, ...]:
        """The tables, with the figures that stand beside them."""
        return table_views(self.tables, [p for p in self.pictures if p is not self.answering])

    @property
    def others(self) -> list[Picture]:
        """The figures that stand by themselves, and why others show nothing."""
        beside = [self.answering, *(view.picture for view in self.views)]
        return [picture for picture in self.pictures if not any(picture is p for p in beside)]


def render_page(page: Page) -> str:
    """Return the HTML (also well-formed XML), every text of a record escaped."""
    return render(
        "index.html.j2",
        page=page,
        suite=page.manifest,
        metric=metric_words(page.main_metric),
    )


def metric_words(metric: str) -> str:
    """Return a metric with its unit."""
    return f"{metric_label(metric)} ({metric_unit(metric)})"


def tone(sentence: Sentence) -> str:
    """Return which colour a sentence has: red only for a contradiction of the paper as it is."""
    if sentence.verdict == "contradicted":
        return "contradicted" if sentence.is_alarm else "scoped"
    return sentence.verdict.replace("not comparable", "incomparable") or "plain"


def _drawn(picture: Picture, prefix: str) -> Markup:
    """Return a figure as an element of the page, which names the kind of its elements itself."""
    drawn = picture.inline(prefix).replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    return Markup(drawn)  # `inline` escapes its texts


def render(template: str, **values: Any) -> str:
    """Return one template filled in, every text escaped.

    Besides its values it gets the style sheet as `css`, the script as `js`, and as `policy` what
    a browser may do for it: show what is inlined, and run this script.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(css=_asset("page.css"), js=script, policy=policy, **values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_finished,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"tone": tone, "drawn": _drawn}
    return environment


def _finished(value: Any) -> Any:
    """Let every character of a text be seen; HTML's own signs are escaped after this."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return visible(value, joiners=True) if plain else value


def _asset(name: str) -> str:
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    # Inlined unescaped by the template; markup in our own assets would end the element early.
    assert not set("<&") & set(text), name
    return text
