"""The overview of all suites of a runs folder: what was asked, what came out, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sca_bench.metrics.stats import SeedSummary
from sca_bench.report.collect import CellRuns, SuiteData, collect
from sca_bench.report.markdown import escape
from sca_bench.report.names import metric_label, metric_unit, show_score
from sca_bench.report.page import render
from sca_bench.study.record import SuiteManifest
from sca_bench.study.store import Store, write_atomic

NO_SCORE = "no score yet"
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
        runs: Finished runs of the planned ones.
        holes: Failed, unfinished and missing runs, counted; `none` where there are none.
        report: Link to the report, relative to the overview; empty where it was not written.
    """

    name: str
    profile: str
    question: str
    paper: str
    best: str
    spread: str
    runs: str
    holes: str
    report: str


def write_overview(store: Store, manifests: list[SuiteManifest], out_dir: Path) -> Path:
    """Write `index.html` and `index.md` over some suites and return the page's path.

    Raises:
        InputError: A record is damaged, or numbers of one metric have different signatures.
    """
    suites = [summarise(collect(store, manifest), out_dir) for manifest in manifests]
    write_atomic(out_dir / "index.md", _markdown(suites))
    page = out_dir / "index.html"
    write_atomic(page, render("overview.html.j2", suites=suites, note=NOTE))
    return page


def summarise(data: SuiteData, out_dir: Path) -> SuiteSummary:
    """Return one suite's line; the link is there where the report is."""
    manifest, metric = data.manifest, data.main_metric
    scored = [(c, s) for c in data.cells if not c.entry.control and (s := _score(data, c, metric))]
    best = spread = NO_SCORE
    if scored:
        label = f"{metric_label(metric)} ({metric_unit(metric)})"
        top, score = max(scored, key=lambda item: item[1].mean)  # the first of equals
        means = sorted(item.mean for _, item in scored)
        best = f"{top.entry.name}: {label} {show_score(score.mean, score.sd, metric=metric)}"
        ends = [show_score(mean, metric=metric) for mean in (means[0], means[-1])]
        spread = f"{ends[0]} to {ends[1]} over {len(means)} cells"
    runs = [run for cell in data.cells for run in cell.runs]
    done = sum(not run.hole for run in runs)
    page = f"{manifest.report_name}/index.html"
    return SuiteSummary(
        name=manifest.suite,
        profile=manifest.profile,
        question=manifest.question,
        paper=manifest.paper or "",
        best=best,
        spread=spread,
        runs=f"{done} of {len(runs)}",
        holes=_holes([run.hole for run in runs if run.hole]),
        report=page if (out_dir / page).is_file() else "",
    )


def _score(data: SuiteData, cell: CellRuns, metric: str) -> SeedSummary | None:
    return data.scores.over_seeds(cell.entry.cell_id, metric)


def _holes(holes: list[str]) -> str:
    kinds = [hole.partition(":")[0] for hole in holes]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "none"


def _markdown(suites: list[SuiteSummary]) -> str:
    parts = ["# Suites\n", f"{escape(NOTE)}\n"]
    for suite in suites:
        paper = f", after the paper's {escape(suite.paper)}" if suite.paper else ""
        link = f"[{suite.report}]({suite.report})" if suite.report else "not written"
        facts = {
            "Best": suite.best,
            "Range": suite.spread,
            "Runs": f"{suite.runs} done",
            "Failed or missing": suite.holes,
        }
        lines = [f"- {key}: {escape(value)}" for key, value in facts.items()]
        parts.append(
            f"## {escape(suite.question)}\n\nSuite **{escape(suite.name)}**, profile "
            f"**{suite.profile}**{paper}.\n\n" + "\n".join([*lines, f"- Report: {link}"]) + "\n"
        )
    return "\n".join(parts)
