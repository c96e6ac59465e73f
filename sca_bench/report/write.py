"""Writing the reports of suites: the same files in, the same bytes out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from sca_bench.errors import InputError, did_you_mean
from sca_bench.files import delete, inside, listed, path_name, replaced_files, write_atomic
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.write_figures import is_picture, write_pictures
from sca_bench.report.findings.answer import Answer, answer_of
from sca_bench.report.findings.cell_words import row_names
from sca_bench.report.findings.claims import claim_results, named_cells
from sca_bench.report.findings.differences import Differences, differences
from sca_bench.report.findings.paper import Paper, read_paper
from sca_bench.report.findings.ranking import Rankings
from sca_bench.report.in_short import suite_findings
from sca_bench.report.page.gallery import Gallery
from sca_bench.report.page.overview import write_overview
from sca_bench.report.page.page import Page
from sca_bench.report.page.size_limit import DEFAULT_LIMIT_MB
from sca_bench.report.page.suite_report import SuiteReport
from sca_bench.report.read.regions import read_regions
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.read.sweeps import related_suites
from sca_bench.report.tables.claim_table import claim_table, interval_table, significance_marks
from sca_bench.report.tables.csv import claims_csv, long_csv, wide_csv
from sca_bench.report.tables.latex import write_latex, write_latex_table
from sca_bench.report.tables.markdown import write_markdown
from sca_bench.report.tables.paper_table import claim_entries, paper_tables
from sca_bench.report.tables.parts import TexChoice, chosen, constants_in_caption
from sca_bench.report.tables.provenance import provenance, signature_legend
from sca_bench.report.tables.ranks import mark_best
from sca_bench.report.tables.sweep_table import sweep_table
from sca_bench.report.tables.tables import (
    Footnotes,
    Table,
    parts_table,
    score_table,
    slot_by_objects_table,
    slot_table,
)
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store


def write_report(
    store: Store,
    manifest: SuiteManifest,
    out_dir: Path,
    limit_mb: float = DEFAULT_LIMIT_MB,
    *,
    pages: bool = True,
    faults: list[InputError] | None = None,
    tex: TexChoice | None = None,
) -> Path:
    """Write one suite's report and return its folder, `out_dir / manifest.report_name`.

    The folder then holds `index.html`, `table.md`, `tables.tex` (a document with every table),
    `scores.tex` (the table of scores alone), `table.csv` (one value a row), `summary.csv` (one cell
    a row), `claims.csv` (one claim a row), and as `.png`, `.svg` and `.pdf` the plots that have
    something to draw (`figures.registry`). Files of an earlier report are replaced.

    Args:
        store: The runs folder.
        manifest: The suite.
        out_dir: Folder of the reports.
        limit_mb: Most megabytes of `index.html`.
        pages: Whether to write `index.html`; without it one of an earlier report is deleted.
        faults: Takes what is wrong with files of single runs, whose part is left out.
        tex: What `scores.tex` shows; the suite's metrics and all cells where None.

    Raises:
        InputError: A claim cannot be read, numbers of one metric have different signatures, or the
            limit is too small for the tables; or, where nobody takes the faults and all else is
            written, a file of a run is damaged.
    """
    suite = write_suite(store, manifest, Path(out_dir), limit_mb, pages=pages, tex=tex)
    _hand_over([suite], faults)
    return Path(out_dir) / manifest.report_name


def write_suite(
    store: Store,
    manifest: SuiteManifest,
    out_dir: Path,
    limit_mb: float,
    *,
    pages: bool = True,
    tex: TexChoice | None = None,
) -> SuiteReport:
    """Write one suite's report, and return what the page of all suites is made of."""
    data = collect(store, manifest)
    folder = inside(out_dir, out_dir / path_name(manifest.report_name, None, "suite"))
    paper = read_paper(data, out_dir)
    with replaced_files(folder) as new:
        suite = _write_files(data, paper, new, limit_mb, pages=pages, tex=tex)
        written = {path.name for path in listed(new)}
    for path in listed(folder):  # what was drawn before may have nothing to show now
        if path.name not in written and (is_picture(path) or path.name == "index.html"):
            delete(path)
    return suite


def _write_files(
    data: SuiteData,
    paper: Paper,
    folder: Path,
    limit_mb: float,
    *,
    pages: bool,
    tex: TexChoice | None,
) -> SuiteReport:
    """Write the files of a suite's report into an empty folder."""
    manifest = data.manifest
    samples = Samples(data)
    rankings = Rankings(data, samples)
    suite = _suite(data, paper, folder, samples, rankings, tex or TexChoice())
    write_atomic(folder / "table.csv", long_csv(data, paper))
    write_atomic(folder / "summary.csv", wide_csv(data, paper, rankings.marked))
    page = suite.page
    texts = write_markdown(
        manifest,
        list(page.tables),
        page.notes,
        list(page.signatures),
        [picture.caption for picture in page.pictures if picture.failed],
        page.headline,
    )
    write_atomic(folder / "table.md", texts)
    if pages:
        write_atomic(folder / "index.html", suite.html(limit_mb))
    return suite


def _read(store: Store, manifest: SuiteManifest, out_dir: Path) -> SuiteReport:
    """Return a suite for the page of all suites; its own report is left as it is."""
    data = collect(store, manifest)
    with tempfile.TemporaryDirectory() as folder:
        samples = Samples(data)
        paper, rankings = read_paper(data, out_dir), Rankings(data, samples)
        return _suite(data, paper, Path(folder), samples, rankings, TexChoice())


def _suite(
    data: SuiteData,
    paper: Paper,
    folder: Path,
    samples: Samples,
    rankings: Rankings,
    tex: TexChoice,
) -> SuiteReport:
    """Read and draw what a suite's pages show; the plots are left in a folder as files, too."""
    notes = Footnotes()
    claims = claim_results(data, samples)
    compared = differences(data, samples, data.main_metric)
    answer = answer_of(data, samples, claims, paper, compared)
    headline = answer.headline
    tables = _tables(data, paper, answer, compared, notes, rankings)
    legend = signature_legend(data)
    regions = read_regions(data)
    rows = claims_csv(answer.results, headline.sentences, headline.scope)
    write_atomic(folder / "claims.csv", rows)
    marks = significance_marks(compared)
    names = row_names(data.cells, data)
    said = [sentence.whole for sentence in headline.sentences]
    text = write_latex(data.manifest, tables, notes, marks, names, said)
    write_atomic(folder / "tables.tex", text)
    scores = next(table for table in tables if table.id == "scores")
    scores = chosen(scores, tex.metrics, None if tex.rows is None else named_cells(data, tex.rows))
    text = write_latex_table(data.manifest, scores, notes, marks, names)
    write_atomic(folder / "scores.tex", text)
    plotted = PlottedSuite(data, samples, compared, claims, paper, headline)
    page = Page(
        data.manifest,
        data.main_metric,
        headline,
        tuple(tables),
        notes,
        tuple(write_pictures(plotted, folder)),
        Gallery((), ""),
        provenance(data, paper.source),
        tuple(legend),
        related=tuple(related_suites(data)),
    )
    reference = compared.reference.entry.name if compared.reference is not None else ""
    found = suite_findings(data, answer, compared)
    return SuiteReport(data, page, regions, found, reference)


def write_reports(
    store: Store,
    suites: list[str] | None,
    out_dir: Path,
    limit_mb: float = DEFAULT_LIMIT_MB,
    *,
    pages: bool = True,
    faults: list[InputError] | None = None,
    tex: TexChoice | None = None,
    found: dict[str, SuiteFindings] | None = None,
) -> list[Path]:
    """Write the reports of some suites (all profiles of each), or of all that were run.

    Where more than one is written, the page of every suite in the runs folder is, too:
    `index.html` and `index.md` in `out_dir`.

    Args:
        store: The runs folder.
        suites: Names of suites, or of reports (`suite.profile`); all suites where None or empty.
        out_dir: Folder of the reports.
        limit_mb: Most megabytes of each page.
        pages: Whether to write the pages of single suites; the page of all suites links to their
            tables where there is none.
        faults: Takes what is wrong with files of single runs, whose part is left out.
        tex: What each `scores.tex` shows.
        found: Takes what each report says in few numbers, by its name.

    Raises:
        InputError: Nothing was run yet, or a name is unknown; or a suite's report cannot be written
            (see `write_report`), after those of all other suites; or, where nobody takes the
            faults and all else is written, a file of a run is damaged.
    """
    damaged: list[InputError] = []
    manifests = store.manifests(faults=damaged)
    if damaged and not manifests:
        raise damaged[0]
    if not manifests:
        problem = "no suite has been run into this folder"
        raise InputError(store.root, "", problem, "run one first: sca-bench run SUITE")
    chosen: list[SuiteManifest] = []
    for name in suites or []:
        matching = [
            m for m in manifests if name in (m.suite, m.report_name, f"{m.suite}.{m.profile}")
        ]
        of_name = [f for f in damaged if Path(f.where).name.startswith(f"{name}.")]
        if of_name:
            raise of_name[0]
        if not matching:
            hint = did_you_mean(name, {m.suite for m in manifests})
            raise InputError(store.root, "suites", f"{name!r} was not run into this folder", hint)
        chosen += [manifest for manifest in matching if manifest not in chosen]
    chosen, out_dir = chosen or manifests, Path(out_dir)
    written: dict[str, SuiteReport] = {}
    lost: dict[str, InputError] = {}
    for manifest in chosen:
        try:
            written[manifest.report_name] = write_suite(
                store, manifest, out_dir, limit_mb, pages=pages, tex=tex
            )
        except InputError as error:
            lost[manifest.report_name] = error
        except OSError as error:
            lost[manifest.report_name] = _not_written(error, out_dir / manifest.report_name)
    if found is not None:
        found |= {name: one.found for name, one in written.items()}
    if len(chosen) > 1:
        for manifest in manifests:
            if manifest.report_name not in written.keys() | lost.keys():
                try:
                    written[manifest.report_name] = _read(store, manifest, out_dir)
                except InputError as error:
                    lost[manifest.report_name] = error
        every = [written[m.report_name] for m in manifests if m.report_name in written]
        write_overview(every, out_dir, limit_mb, {n: str(e) for n, e in lost.items()})
    if not suites:  # all were asked for
        lost |= {Path(fault.where).name: fault for fault in damaged}
    if lost and faults is not None:
        faults += _of_runs(written.values())
    if lost:
        raise _all_of(lost)
    _hand_over(written.values(), faults)
    return [out_dir / manifest.report_name for manifest in chosen]


def _of_runs(suites: Iterable[SuiteReport]) -> list[InputError]:
    """Return what is wrong with files of single runs, each file once."""
    found = [fault for suite in suites for fault in suite.data.store.faults.values()]
    return list({fault.where or str(fault): fault for fault in reversed(found)}.values())[::-1]


def _hand_over(suites: Iterable[SuiteReport], faults: list[InputError] | None) -> None:
    found = _of_runs(suites)
    if faults is not None:
        faults += found
    elif found:
        found[0].others = found[1:]
        raise found[0]


def _not_written(error: OSError, folder: Path) -> InputError:
    problem = f"cannot be written ({error.strerror or error}); an older report there is unchanged"
    return InputError(folder, "", problem, "make room or name another --out, and run it again")


def _all_of(faults: Mapping[str, InputError]) -> InputError:
    """Return one error that names every suite whose report could not be written."""
    first, *others = faults.values()
    if not others:
        return first
    text = "; ".join(f"{name} ({error})" for name, error in faults.items())
    return InputError("report", "suites", f"{len(faults)} are not written, the others are: {text}")


def _tables(
    data: SuiteData,
    paper: Paper,
    answer: Answer,
    compared: Differences,
    notes: Footnotes,
    rankings: Rankings,
) -> list[Table]:
    claims = answer.results if data.manifest.claims else ()
    sentences = answer.headline.sentences
    # In the page's order, so that footnotes are numbered as they are met.
    tables = [
        claim_table(claims, notes, claim_entries(data, paper, claims, notes), sentences),
        sweep_table(data),
        interval_table(compared, notes),
        *paper_tables(data, paper, notes, rankings.samples),
        score_table(data, notes),
        parts_table(data, notes),
        slot_table(data, notes),
        slot_by_objects_table(data, notes),
    ]
    kept = [constants_in_caption(table) for table in tables if table is not None]
    return [mark_best(table, rankings.marked) for table in kept]
