"""Writing tables as Markdown that also reads well as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.output import markdown_code, markdown_text
from sca_bench.report.findings.headline import Headline
from sca_bench.report.tables.parts import above, extra_part, main_part
from sca_bench.report.tables.provenance import SignatureLine
from sca_bench.report.tables.tables import Column, Entry, Footnotes, Table
from sca_bench.study.runs.record import SuiteManifest

escape, code = markdown_text, markdown_code


def write_markdown(
    manifest: SuiteManifest,
    tables: Sequence[Table],
    notes: Footnotes,
    legend: Sequence[SignatureLine],
    faults: Sequence[str] = (),
    headline: Headline | None = None,
) -> str:
    """Return `table.md`: the question, the answer, the tables, notes, signatures.

    Args:
        manifest: The suite.
        tables: Its tables.
        notes: Their footnotes.
        legend: What the numbers are.
        faults: Why plots of other packages are not there.
        headline: The answer in words, right below the question.
    """
    parts = [f"# {escape(manifest.question)}\n"]
    paper = (
        f", after the paper's {escape(manifest.paper.replace('_', ' '))}" if manifest.paper else ""
    )
    parts.append(
        f"Suite **{escape(manifest.suite)}**, profile **{escape(manifest.profile)}**{paper}.\n"
    )
    if headline is not None:
        parts += write_headline(headline)
    if manifest.statement:
        parts.append(f"> {escape(manifest.statement)}\n")
    if manifest.overrides:
        shown = ", ".join(map(code, manifest.overrides))
        parts.append(f"Settings overridden on the command line: {shown}.\n")
    parts += [f"{escape(remark)}\n" for remark in manifest.remarks]
    parts += [write_table(table) for table in tables]
    if notes.texts:
        parts.append("## Notes\n\n" + write_footnotes(notes))
    lines = [
        f"- {escape(line.metrics)}: "
        + "; ".join(f"{escape(key)} {escape(value)}" for key, value in line.parts)
        + f" (hash {escape(line.hashes)})"
        for line in legend
    ]
    if lines:
        parts.append("## What the numbers are\n\n" + "\n".join(lines) + "\n")
    if faults:
        lines = [f"- {escape(fault)}" for fault in faults]
        parts.append("## Plots that are not drawn\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def write_headline(headline: Headline) -> list[str]:
    """Return the answer of a suite, each part a paragraph; its sentences are a list."""
    lines = [
        f"- **{escape(one.text)}**" + (f" {escape(one.known)}" if one.known else "")
        for one in headline.sentences
    ]
    rest = " ".join(filter(None, (headline.sure, headline.units, headline.cost)))
    return ["\n".join(lines) + "\n", f"{escape(rest)}\n"]


def write_table(table: Table) -> str:
    """Return one table under its heading, columns aligned for reading without a renderer.

    Columns that can be folded away follow in a table of their own, and how the numbers were made
    stands below.
    """
    head = f"## {escape(table.title)}\n\n{escape(above(table))}\n"
    parts = [head, _grid(main_part(table))]
    more = extra_part(table)
    if more is not None:
        parts += [f"{escape(more.caption)}\n", _grid(more)]
    if table.method:
        parts.append(f"{escape(table.method)}\n")
    return "\n".join(parts)


def _grid(table: Table) -> str:
    header = [escape(_header(column)) for column in table.columns]
    body = [[_field(entry) for entry in row.entries] for row in table.rows]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    rule = [
        "-" * (width - 1) + ":" if column.numeric else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = [_line(header, widths, table.columns), _line(rule, widths, table.columns)]
    lines += [_line(line, widths, table.columns) for line in body]
    return "\n".join(lines) + "\n"


def write_footnotes(notes: Footnotes) -> str:
    """Return the definitions of all footnotes, empty where there are none."""
    lines = [f"[^{n}]: {escape(text)}" for n, text in enumerate(notes.texts, start=1)]
    return "\n".join(lines) + ("\n" if lines else "")


def _header(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _field(entry: Entry) -> str:
    text = escape(entry.text)
    shown = f"**{text}**" if entry.rank == "best" else text
    return shown + "".join(f"[^{number}]" for number in entry.notes)


def _line(fields: list[str], widths: list[int], columns: tuple[Column, ...]) -> str:
    padded = [
        field.rjust(width) if column.numeric else field.ljust(width)
        for field, width, column in zip(fields, widths, columns, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"
