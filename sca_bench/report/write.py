"""Writing the reports of suites: the same files in, the same bytes out."""

from __future__ import annotations

from pathlib import Path

from sca_bench.errors import InputError, did_you_mean
from sca_bench.report.best import mark_best
from sca_bench.report.claims import claim_results
from sca_bench.report.collect import SuiteData, collect
from sca_bench.report.csv_tables import long_csv, wide_csv
from sca_bench.report.gallery import build_gallery
from sca_bench.report.intervals import RegionMeans, cell_estimate, region_means
from sca_bench.report.latex import write_latex, write_latex_table
from sca_bench.report.markdown import write_markdown
from sca_bench.report.overview import write_overview
from sca_bench.report.page import Page, render_page
from sca_bench.report.paper import Paper, read_paper
from sca_bench.report.paper_table import claim_entries, paper_table
from sca_bench.report.pictures import write_pictures
from sca_bench.report.provenance import provenance, signature_legend
from sca_bench.report.tables import (
    Footnotes,
    Table,
    claim_table,
    interval_table,
    parts_table,
    score_table,
    slot_by_objects_table,
    slot_table,
)
from sca_bench.study.record import SuiteManifest
from sca_bench.study.store import Store, write_atomic


def write_report(store: Store, manifest: SuiteManifest, out_dir: Path) -> Path:
    """Write one suite's report and return its folder, `out_dir / manifest.report_name`.

    The folder then holds `index.html`, `table.md`, `tables.tex` (a document with every table),
    `scores.tex` (the table of scores alone), `table.csv` (one value a row), `summary.csv` (one
    cell a row), and as `.png`, `.svg` and `.pdf` the figures that have something to draw:
    `metric_over_axis`, `pareto`, `distribution` and `learning_curves`. Files of an earlier report
    are replaced.

    Raises:
        InputError: A file of the runs folder is damaged, a claim cannot be read, or numbers of
            one metric have different signatures.
    """
    data = collect(store, manifest)
    folder = Path(out_dir) / manifest.report_name
    paper = read_paper(data, Path(out_dir))
    notes = Footnotes()
    means = [region_means(data, cell, data.main_metric) for cell in data.cells]
    tables = _tables(data, means, paper, notes)
    legend = signature_legend(data)
    gallery = build_gallery(data)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = write_pictures(data, folder, means)
    write_atomic(folder / "table.csv", long_csv(data, paper))
    write_atomic(folder / "summary.csv", wide_csv(data, paper))
    write_atomic(folder / "table.md", write_markdown(manifest, tables, notes, legend))
    write_atomic(folder / "tables.tex", write_latex(manifest, tables, notes))
    scores = next(table for table in tables if table.id == "scores")
    write_atomic(folder / "scores.tex", write_latex_table(manifest, scores, notes))
    page = Page(
        manifest,
        data.main_metric,
        tuple(tables),
        notes,
        tuple(pictures),
        gallery,
        provenance(data, paper.source),
        tuple(legend),
    )
    write_atomic(folder / "index.html", render_page(page))
    return folder


def write_reports(store: Store, suites: list[str] | None, out_dir: Path) -> list[Path]:
    """Write the reports of some suites (all profiles of each), or of all that were run.

    Where more than one is written, the overview of every suite in the runs folder is, too:
    `index.html` and `index.md` in `out_dir`.

    Args:
        store: The runs folder.
        suites: Names of suites, or of reports (`suite.profile`); all suites where None or empty.
        out_dir: Folder of the reports.

    Raises:
        InputError: Nothing was run yet, or a name is unknown; and as `write_report`.
    """
    manifests = store.manifests()
    if not manifests:
        problem = "no suite has been run into this folder"
        raise InputError(store.root, "", problem, "run one first: sca-bench run SUITE")
    chosen: list[SuiteManifest] = []
    for name in suites or []:
        found = [m for m in manifests if name in (m.suite, m.report_name, f"{m.suite}.{m.profile}")]
        if not found:
            hint = did_you_mean(name, {m.suite for m in manifests})
            raise InputError(store.root, "suites", f"{name!r} was not run into this folder", hint)
        chosen += [manifest for manifest in found if manifest not in chosen]
    folders = [write_report(store, manifest, out_dir) for manifest in chosen or manifests]
    if len(folders) > 1:
        write_overview(store, manifests, Path(out_dir))
    return folders


def _tables(
    data: SuiteData, means: list[RegionMeans], paper: Paper, notes: Footnotes
) -> list[Table]:
    claims = claim_results(data)
    # In the page's order, so that footnotes are numbered as they are met.
    found = [
        interval_table(data, [cell_estimate(mean) for mean in means], notes),
        claim_table(claims, notes, claim_entries(data, paper, claims, notes)),
        paper_table(data, paper, notes),
        score_table(data, notes),
        parts_table(data, notes),
        slot_table(data, notes),
        slot_by_objects_table(data, notes),
    ]
    return [mark_best(table) for table in found if table is not None]
