"""The page of all suites: what was asked, what came out, what is missing; one file to mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sca_bench.files import write_atomic
from sca_bench.report.figures.picture import Picture
from sca_bench.report.names import show_score
from sca_bench.report.page.page import Page, metric_words, render
from sca_bench.report.page.size_limit import OVERVIEW_DETAILS, Detail, fit, held_back
from sca_bench.report.page.suite_report import SuiteReport
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.report.tables.markdown import escape
from sca_bench.report.tables.tables import Table
from sca_bench.stats.seeds import SeedSummary

NO_SCORE = "no score yet"
_LEFT_OUT = ("interval", "parts", "slots", "slots-by-objects")
"""Tables that only a suite's own page has."""
NOTE = (
    "Every line is about its own suite. Scores of two suites compare only where their signatures "
    "agree, which the reports state; the range over cells says how much the suite's question moves "
    "the number, the ± is over training seeds. Controls are left out of best and range."
)


@dataclass(frozen=True, slots=True)
class SuiteSummary:
    """One suite in one profile.

    Attributes:
        name: Name of the suite.
        profile: Its profile.
        question: What it asks.
        paper: The paper's table it repeats; empty where none.
        best: The best cell with its main metric.
        spread: Lowest and highest mean over the cells.
        claims: Its verdicts, counted; `none` where it claims nothing.
        runs: Finished runs of the planned ones.
        holes: Failed, unfinished and missing runs, counted; `none` where there are none.
        report: Link to its own page, or to its tables where that is not kept, relative to the
            overview; empty where neither was written.
    """

    name: str
    profile: str
    question: str
    paper: str
    best: str
    spread: str
    claims: str
    runs: str
    holes: str
    report: str


@dataclass(frozen=True, slots=True)
class SuiteSection:
    """What the page shows of one suite.

    Attributes:
        name: Name of the suite's report, which goes before every id of the part.
        summary: The suite in a line.
        page: The suite's own page, with a gallery of the size that is shown here.
        tables: The tables that are shown.
        notes: Numbers of the notes these tables refer to.
        pictures: The plots that are shown, and why others have nothing to show.
        metric: The main metric in words.
    """

    name: str
    summary: SuiteSummary
    page: Page
    tables: tuple[Table, ...]
    notes: tuple[int, ...]
    pictures: tuple[Picture, ...]
    metric: str


def write_overview(
    suites: Sequence[SuiteReport],
    out_dir: Path,
    limit_mb: float,
    faults: Mapping[str, str] | None = None,
) -> Path:
    """Write `index.html` and `index.md` over some suites and return the page's path.

    Args:
        suites: The suites that could be read.
        out_dir: Folder of the reports.
        limit_mb: Most megabytes of the page.
        faults: Name of a suite that could not be read -> why.

    Raises:
        InputError: A file of the runs folder is damaged, or the limit is too small for the tables.
    """
    lines = [summarise(suite.data, out_dir, suite.page) for suite in suites]
    faults = faults or {}
    write_atomic(out_dir / "index.md", _markdown(lines, faults))
    page, first = out_dir / "index.html", OVERVIEW_DETAILS[0]

    def draw(detail: Detail, limit: str) -> str:
        parts = [_part(s, line, detail) for s, line in zip(suites, lines, strict=True)]
        images = [image for part in parts for image in part.page.gallery.images]
        left_out = held_back(limit, first, detail, images, "they are files in the suites' folders")
        shown = {"parts_of_page": parts, "note": NOTE, "held_back": left_out, "faults": faults}
        return render("overview.html.j2", **shown)

    write_atomic(page, fit(OVERVIEW_DETAILS, draw, limit_mb, str(page)))
    return page


def _part(suite: SuiteReport, line: SuiteSummary, detail: Detail) -> SuiteSection:
    page = suite.page_at(detail)
    tables = tuple(table for table in page.tables if table.id not in _LEFT_OUT)
    entries = (entry for table in tables for row in table.rows for entry in row.entries)
    notes = tuple(sorted({number for entry in entries for number in entry.notes}))
    name, metric = page.manifest.report_name, metric_words(page.main_metric)
    return SuiteSection(name, line, page, tables, notes, page.pictures, metric)


def summarise(data: SuiteData, out_dir: Path, page: Page) -> SuiteSummary:
    """Return one suite's line; the link is there where the report is."""
    manifest, metric = data.manifest, data.main_metric
    scored = [(c, s) for c in data.cells if not c.entry.control and (s := _score(data, c, metric))]
    best = spread = NO_SCORE
    if scored:
        label = metric_words(metric)
        top, score = max(scored, key=lambda item: item[1].mean)  # the first of equals
        means = sorted(item.mean for _, item in scored)
        best = f"{top.entry.name}: {label} {show_score(score.mean, score.sd, metric=metric)}"
        ends = [show_score(mean, metric=metric) for mean in (means[0], means[-1])]
        spread = f"{ends[0]} to {ends[1]} over {len(means)} cells"
    runs = [run for cell in data.cells for run in cell.runs]
    done = sum(not run.hole for run in runs)
    links = [f"{manifest.report_name}/{name}" for name in ("index.html", "table.md")]
    return SuiteSummary(
        name=manifest.suite,
        profile=manifest.profile,
        question=manifest.question,
        paper=manifest.paper or "",
        best=best,
        spread=spread,
        claims=_verdicts(page),
        runs=f"{done} of {len(runs)}",
        holes=_holes([run.hole for run in runs if run.hole]),
        report=next((link for link in links if (out_dir / link).is_file()), ""),
    )


def _score(data: SuiteData, cell: CellRuns, metric: str) -> SeedSummary | None:
    return data.scores.over_seeds(cell.entry.cell_id, metric)


def _verdicts(page: Page) -> str:
    rows = [row for table in page.tables if table.id == "claims" for row in table.rows]
    tones = [entry.tone for row in rows for entry in row.entries if entry.tone]
    verdicts = [tone.replace("incomparable", "not comparable") for tone in tones]
    return ", ".join(f"{verdicts.count(each)} {each}" for each in sorted(set(verdicts))) or "none"


def _holes(holes: list[str]) -> str:
    kinds = [hole.partition(":")[0] for hole in holes]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "none"


def _markdown(suites: list[SuiteSummary], faults: Mapping[str, str]) -> str:
    parts = ["# Suites\n", f"{escape(NOTE)}\n"]
    parts += [f"**{escape(name)}** has no report: {escape(why)}\n" for name, why in faults.items()]
    for suite in suites:
        paper = f", after the paper's {escape(suite.paper)}" if suite.paper else ""
        link = f"[{escape(suite.report)}]({quote(suite.report)})" if suite.report else "not written"
        facts = {
            "Best": suite.best,
            "Claims": suite.claims,
            "Range": suite.spread,
            "Runs": f"{suite.runs} done",
            "Failed or missing": suite.holes,
        }
        lines = [f"- {key}: {escape(value)}" for key, value in facts.items()]
        parts.append(
            f"## {escape(suite.question)}\n\nSuite **{escape(suite.name)}**, profile "
            f"**{escape(suite.profile)}**{paper}.\n\n"
            + "\n".join([*lines, f"- Report: {link}"])
            + "\n"
        )
    return "\n".join(parts)
