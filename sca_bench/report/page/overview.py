"""The page of all suites: what was asked, what came out, what is missing; one file to mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from sca_bench.files import write_atomic
from sca_bench.report.page.page import Page, metric_words, render
from sca_bench.report.page.size_limit import OVERVIEW_DETAILS, Detail, fit, held_back
from sca_bench.report.page.suite_report import SuiteReport
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.tables.markdown import escape

_LEFT_OUT = ("interval", "parts", "slots", "slots-by-objects")
"""Tables that only a suite's own page has."""
NOTE = (
    "One question a suite, and the first sentence of its answer. Scores of two suites compare only "
    "where their signatures agree, which the reports state."
)


@dataclass(frozen=True, slots=True)
class SuiteSummary:
    """One suite in one profile.

    Attributes:
        name: Name of the suite.
        profile: Its profile.
        question: What it asks.
        paper: The paper's table it repeats; empty where none.
        answer: The first sentence of the answer, its verdict before it.
        claims: Its verdicts as they are labelled, counted; `no claims` where it claims nothing.
        runs: Finished runs of the planned ones.
        holes: Failed, unfinished and missing runs, counted; `none` where there are none.
        report: Link to its own page, or to its tables where that is not kept, relative to the
            overview; empty where neither was written.
    """

    name: str
    profile: str
    question: str
    paper: str
    answer: str
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
        page: The suite's own page, with what is shown of it here.
        notes: Numbers of the notes that its tables refer to.
        metric: The main metric in words.
    """

    name: str
    summary: SuiteSummary
    page: Page
    notes: tuple[int, ...]
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
    page = replace(page, tables=tuple(one for one in page.tables if one.id not in _LEFT_OUT))
    entries = (entry for table in page.tables for row in table.rows for entry in row.entries)
    notes = tuple(sorted({number for entry in entries for number in entry.notes}))
    name = page.manifest.report_name
    return SuiteSection(name, line, page, notes, metric_words(page.main_metric))


def summarise(data: SuiteData, out_dir: Path, page: Page) -> SuiteSummary:
    """Return one suite's line; the link is there where the report is."""
    manifest, sentences = data.manifest, page.headline.sentences
    first = next(iter(sentences), None)
    answer = "" if first is None else f"{first.label}: {first.text}" if first.label else first.text
    runs = [run for cell in data.cells for run in cell.runs]
    done = sum(not run.hole for run in runs)
    links = [f"{manifest.report_name}/{name}" for name in ("index.html", "table.md")]
    return SuiteSummary(
        name=manifest.suite,
        profile=manifest.profile,
        question=manifest.question,
        paper=manifest.paper or "",
        answer=answer,
        claims=_counted([_in_a_count(one.label) for one in sentences if one.verdict])
        or "no claims",
        runs=f"{done} of {len(runs)}",
        holes=_counted([run.hole.partition(":")[0] for run in runs if run.hole]) or "none",
        report=next((link for link in links if (out_dir / link).is_file()), ""),
    )


def _in_a_count(label: str) -> str:
    return "without numbers" if label == "no numbers" else label


def _counted(kinds: Sequence[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def _markdown(suites: list[SuiteSummary], faults: Mapping[str, str]) -> str:
    parts = ["# Suites\n", f"{escape(NOTE)}\n"]
    parts += [f"**{escape(name)}** has no report: {escape(why)}\n" for name, why in faults.items()]
    for suite in suites:
        paper = (
            f", after the paper's {escape(suite.paper.replace('_', ' '))}" if suite.paper else ""
        )
        link = f"[{escape(suite.report)}]({quote(suite.report)})" if suite.report else "not written"
        facts = {
            "Answer": suite.answer,
            "Claims": suite.claims,
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
