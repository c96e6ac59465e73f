"""The answer of a suite on a terminal: its sentences, wrapped to the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError
from sca_bench.output import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.study.runs.record import SuiteManifest
    from sca_bench.study.runs.store import Store

REPORTS = "reports"
"""Folder of the reports, where nobody names another."""
_INDENT = "  "


def print_answer(store: Store, manifest: SuiteManifest, console: Console) -> None:
    """Print what a suite asked and found; no figure is drawn for it, and torch is not imported."""
    from sca_bench.report.findings.answer import read_headline

    console.print(manifest.question, highlight=False, markup=False, soft_wrap=True)
    try:
        headline = read_headline(store, manifest, Path(REPORTS))
    except InputError as error:  # the runs are done, and `report` says the same
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
    from rich.text import Text

    width = max(20, console.width - len(_INDENT) - len("- "))
    mark, words = text[:2], one_line(text[2:])
    lines = [line.plain.rstrip() for line in Text(words).wrap(console, width)]
    return [f"{'  ' if number else mark}{line}" for number, line in enumerate(lines)]
