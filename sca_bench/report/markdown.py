"""Writing tables as Markdown that also reads well as plain text."""

from __future__ import annotations

from sca_bench.report.tables import Column, Entry, Footnotes, Table


def write_table(table: Table) -> str:
    """Return one table under its heading, columns aligned for reading without a renderer."""
    header = [_escape(_header(column)) for column in table.columns]
    body = [[_field(entry) for entry in row.entries] for row in table.rows]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    rule = [
        "-" * (width - 1) + ":" if column.numeric else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = [_line(header, widths, table.columns), _line(rule, widths, table.columns)]
    lines += [_line(line, widths, table.columns) for line in body]
    return f"## {table.title}\n\n{_escape(table.caption)}\n\n" + "\n".join(lines) + "\n"


def write_footnotes(notes: Footnotes) -> str:
    """Return the definitions of all footnotes, empty where there are none."""
    lines = [f"[^{n}]: {_escape(text)}" for n, text in enumerate(notes.texts, start=1)]
    return "\n".join(lines) + ("\n" if lines else "")


def _header(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _field(entry: Entry) -> str:
    return _escape(entry.text) + "".join(f"[^{number}]" for number in entry.notes)


def _escape(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def _line(fields: list[str], widths: list[int], columns: tuple[Column, ...]) -> str:
    padded = [
        field.rjust(width) if column.numeric else field.ljust(width)
        for field, width, column in zip(fields, widths, columns, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"
