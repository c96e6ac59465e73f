"""Writing tables as Markdown that also reads well as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.output import markdown_code, markdown_text
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
) -> str:
    """Return `table.md`: the question, what the profile states, the tables, notes, signatures.

    Args:
        manifest: The suite.
        tables: Its tables.
        notes: Their footnotes.
        legend: What the numbers are.
        faults: Why plots of other packages are not there.
    """
    parts = [f"# {escape(manifest.question)}\n"]
    paper = f", after the paper's {escape(manifest.paper)}" if manifest.paper else ""
    parts.append(
        f"Suite **{escape(manifest.suite)}**, profile **{escape(manifest.profile)}**{paper}.\n"
    )
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


def write_table(table: Table) -> str:
    """Return one table under its heading, columns aligned for reading without a renderer."""
    header = [escape(_header(column)) for column in table.columns]
    body = [[_field(entry) for entry in row.entries] for row in table.rows]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    rule = [
        "-" * (width - 1) + ":" if column.numeric else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = [_line(header, widths, table.columns), _line(rule, widths, table.columns)]
    lines += [_line(line, widths, table.columns) for line in body]
    return f"## {escape(table.title)}\n\n{escape(table.caption)}\n\n" + "\n".join(lines) + "\n"


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
