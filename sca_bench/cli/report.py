"""`report`: tables, plots and pages from the runs folder, their mirror, and the answer in words."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import REPORTS
from sca_bench.errors import InputError
from sca_bench.output import one_line, say

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.engine.mlflow_mirror.mirror import Mirror
    from sca_bench.report.findings.headline import Headline
    from sca_bench.study.runs.findings import SuiteFindings
    from sca_bench.study.runs.record import SuiteManifest
    from sca_bench.study.runs.store import Store

_INDENT = "  "
_GRACE_S = 20.0
"""What a slow tracking server gets for a report, in seconds."""


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `report` to the command line."""
    report = commands.add_parser(
        "report",
        parents=[common],
        help="write tables, plots, verdicts and a gallery of captions",
        examples=(
            "report                          # every suite that was run",
            "report mixer_layers --out reports --limit-mb 20",
            "report mixer_layers --tex cider_d,meteor --rows num_layers=1 num_layers=2",
        ),
    )
    report.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (all)")
    report.add_argument("--out", default=REPORTS, metavar="DIR", help="reports folder (reports)")
    report.add_argument("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    report.add_argument("--no-mlflow", action="store_true", help="no summary run in MLflow")
    report.add_argument(
        "--limit-mb",
        type=_megabytes,
        default=8.0,
        metavar="N",
        help="most megabytes of each page; images, then plots are left out before (8)",
    )
    report.add_argument(
        "--no-pages",
        action="store_true",
        help="write no page of single suites; the page of all suites links to their tables",
    )
    report.add_argument(
        "--tex",
        type=_metrics,
        metavar="METRICS",
        help="columns of scores.tex, such as cider_d,meteor (the suite's metrics)",
    )
    report.add_argument(
        "--rows",
        nargs="+",
        metavar="CELL",
        help="rows of scores.tex: names of cells, or coordinates (all)",
    )
    report.set_defaults(execute=command)


def _metrics(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between")
    return names


def _megabytes(text: str) -> float:
    import math

    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the reports and print where they are; return 1 where a run's file is damaged."""
    from sca_bench.output import text_console
    from sca_bench.report.tables.parts import TexChoice
    from sca_bench.report.write import write_reports
    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)
    names = [name for given in options.suites for name in _names(given, store)] or None
    out_dir, pages = Path(options.out), not options.no_pages
    faults: list[InputError] = []
    found: dict[str, SuiteFindings] = {}
    with contextlib.ExitStack() as stack:
        mirror = None if options.no_mlflow else _mirror(store, options.tracking_uri)
        if mirror is not None:
            stack.enter_context(mirror).begin()  # it imports while figures are drawn
        try:
            tex = TexChoice(options.tex, tuple(options.rows) if options.rows else None)
            folders = write_reports(
                store,
                names,
                out_dir,
                options.limit_mb,
                pages=pages,
                faults=faults,
                tex=tex,
                found=found,
            )
        except InputError:
            _say_left_out(faults)
            raise
        shown = [folder / ("index.html" if pages else "table.md") for folder in folders]
        if len(folders) > 1:
            shown.append(out_dir / "index.html")
        console = text_console()
        for path in shown:
            say(path, flush=True)
            print_sentences(_sentences(path.parent), console)
        if mirror is not None:
            manifests = {m.report_name: m for m in store.manifests(faults=[])}
            for folder in folders:
                mirror.summarise(manifests[folder.name], folder, found.get(folder.name))
            mirror.finish(grace_s=_GRACE_S)
    _say_left_out(faults)
    return 1 if faults else 0


def _say_left_out(faults: Sequence[InputError]) -> None:
    for fault in faults:
        say(f"left out: {fault}", error=True)


def _sentences(folder: Path) -> list[str]:
    """Return the answer of a report that was just written; none where there is no such file."""
    import csv
    import io

    from sca_bench.reading import RECORD_BYTES, read_text
    from sca_bench.report.tables.csv_fields import original

    file = folder / "claims.csv"
    if not file.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(read_text(file, RECORD_BYTES), newline="")))
    return [original(row.get("sentence", "")) for row in rows]


def _names(given: str, store: Store) -> list[str]:
    """Return the reports that a name means, or a suite's file: what that calls itself."""
    from sca_bench.study.plan.manifest import report_names

    if not given.endswith((".yaml", ".yml")):
        return [given]
    path = Path(given)
    if not path.exists():  # it may be gone since it was run
        return [path.stem]
    known = {manifest.suite for manifest in store.manifests(faults=[])}
    names = report_names(path)
    return [name for name in names if name in known] or names[:1]


def _mirror(store: Store, uri: str | None) -> Mirror | None:
    """Return what writes each report into its suite's summary run, where its runs are mirrored."""
    wanted = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not wanted and not (store.root / "mlflow.db").exists():
        return None  # the runs were not mirrored either
    from sca_bench.engine.mlflow_mirror.addresses import default_uri
    from sca_bench.engine.mlflow_mirror.mirror import Mirror

    again = "the same command tries again"
    return Mirror(store, wanted or default_uri(store), say, again, named=bool(wanted))


def print_answer(
    store: Store, manifest: SuiteManifest, console: Console, answers: Sequence[Headline] = ()
) -> None:
    """Print what a suite asked and found; no figure is drawn for it, and torch is not imported.

    Args:
        store: The runs folder.
        manifest: The suite.
        console: Where to.
        answers: The last one is printed; where there is none, it is found out.
    """
    from sca_bench.report.findings.answer import read_headline

    console.print(manifest.question, highlight=False, markup=False, soft_wrap=True)
    try:
        headline = answers[-1] if answers else read_headline(store, manifest, Path(REPORTS))
    except (InputError, OSError) as error:  # the runs are done, and `report` says the same
        print_sentences([f"No answer in words: {error}"], console)
        return
    sentences = [sentence.whole for sentence in headline.sentences]
    print_sentences([*sentences, f"{headline.sure} {headline.units}".strip()], console)


def page_of(manifest: SuiteManifest) -> Path:
    """Return where `report` writes the page of a suite."""
    from sca_bench.files import path_name

    return Path(REPORTS) / path_name(manifest.report_name, None, "suite") / "index.html"


def print_sentences(sentences: Iterable[str], console: Console) -> None:
    """Print sentences, indented; each is one line where nobody looks at a terminal.

    Args:
        sentences: Whole sentences, whose names may come from anybody; empty ones are left out.
        console: Where to.
    """
    for sentence in filter(None, sentences):
        for line in _lines(f"- {sentence}", console):
            console.print(f"{_INDENT}{line}", highlight=False, markup=False, soft_wrap=True)


def _lines(text: str, console: Console) -> list[str]:
    """Return a text in lines; those after the first stand under its words."""
    if not console.is_terminal:
        return [one_line(text)]
    from sca_bench.output import wrapped

    width = max(20, console.width - len(_INDENT) - len("- "))
    mark, words = text[:2], one_line(text[2:])
    lines = wrapped(words, console, width)
    return [f"{'  ' if number else mark}{line}" for number, line in enumerate(lines)]
