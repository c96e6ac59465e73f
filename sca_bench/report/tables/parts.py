"""Tables made narrower: columns that fold away, that are constant, or that nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sca_bench.errors import InputError, did_you_mean
from sca_bench.report.names import NO_VALUE
from sca_bench.report.tables.tables import Column, Row, Table

_TIMES = "×100"  # noqa: RUF001 - how tables write it
CONTROL = " (control)"
"""After the name of a control."""
_CONSTANTS = {"Regions": "{} regions", "Images": "{} images", "Seeds": "{} seeds a cell"}
"""Label of a column -> what a caption says where it is the same in all rows."""


@dataclass(frozen=True, slots=True)
class TexChoice:
    """What the table of scores in LaTeX shows.

    Attributes:
        metrics: Its metrics, in order; those that the suite names where None.
        rows: Its cells, by name or coordinates; all where None.
    """

    metrics: tuple[str, ...] | None = None
    rows: tuple[str, ...] | None = None


def above(table: Table) -> str:
    """Return what stands above a table: its warning, where it has one, then its caption."""
    return f"{table.warning} {table.caption}".strip()


def main_part(table: Table) -> Table:
    """Return a table without the columns that can be folded away."""
    return _with(table, [i for i, column in enumerate(table.columns) if not column.extra])


def extra_part(table: Table) -> Table | None:
    """Return the first column with those that can be folded away; None where there are none."""
    extra = [i for i, column in enumerate(table.columns) if column.extra and i > 0]
    if not extra:
        return None
    part = _with(table, [0, *extra])
    title, caption = (
        f"{table.title}: more columns",
        f"More columns of the table above. {_bold(part)}",
    )
    columns = tuple(replace(column, extra=False) for column in part.columns)
    return replace(
        part,
        id=f"{table.id}-more",
        title=title,
        caption=caption.strip(),
        columns=columns,
        method="",
        warning="",
    )


def _bold(part: Table) -> str:
    ranks = (entry.rank for row in part.rows for entry in row.entries)
    return "Bold as there." if any(ranks) else ""


def constants_in_caption(table: Table) -> Table:
    """Return a table whose caption says what columns of counts say alike in every row.

    Notes of such a column move to the first column of their rows.
    """
    told: list[str] = []
    dropped: list[int] = []
    for index, column in enumerate(table.columns):
        if column.label in _CONSTANTS and (value := _constant(table, index)):
            told.append(_CONSTANTS[column.label].format(value))
            dropped.append(index)
    if not dropped:
        return table
    rows = []
    for row in table.rows:
        notes = [*row.entries[0].notes, *(n for i in dropped for n in row.entries[i].notes)]
        first = replace(row.entries[0], notes=tuple(dict.fromkeys(notes)))
        rows.append(replace(row, entries=(first, *row.entries[1:])))
    kept = [index for index in range(len(table.columns)) if index not in dropped]
    caption = f"{', '.join(told)}. {table.caption}"
    return _with(replace(table, rows=tuple(rows), caption=caption), kept)


def _constant(table: Table, index: int) -> str:
    """Return what a column says in all rows that say something; empty where they differ."""
    texts = {row.entries[index].text for row in table.rows if row.cell}
    one = texts - {NO_VALUE}
    if len(one) != 1:
        return ""
    value = one.pop()
    done, _, planned = value.partition(" of ")
    return done if done == planned or not planned else ""


def with_names(table: Table, names: Mapping[str, str]) -> Table:
    """Return a table whose rows name their cells in words.

    Args:
        table: The table.
        names: Name of a cell -> what the table calls it.
    """
    rows = []
    for row in table.rows:
        first = row.entries[0]
        if row.cell in names and first.text.removesuffix(CONTROL) == row.cell:
            text = names[row.cell] + (CONTROL if first.text.endswith(CONTROL) else "")
            first = replace(first, text=text)
        rows.append(replace(row, entries=(first, *row.entries[1:])))
    return replace(table, rows=tuple(rows))


def chosen(
    table: Table, metrics: Sequence[str] | None = None, cells: Sequence[str] | None = None
) -> Table:
    """Return a table of scores with the metrics and cells that somebody asked for, in their order.

    Args:
        table: The table.
        metrics: Metrics to show; those that it shows at once where None.
        cells: Names of the cells to show; all, and the noise floor, where None.

    Raises:
        InputError: It has no such metric.
    """
    part = main_part(table)
    if metrics is not None:
        places = {column.metric: i for i, column in enumerate(table.columns) if column.metric}
        for name in metrics:
            if name not in places:
                fix = did_you_mean(name, places)
                raise InputError("--tex", name, "the suite has no such metric", fix)
        part = _with(table, [0, *(places[name] for name in metrics)])
        part = replace(part, columns=tuple(replace(c, extra=False) for c in part.columns))
    columns = (
        replace(c, unit="") if c.metric and c.unit.startswith(_TIMES) else c for c in part.columns
    )  # the caption says it once
    part = replace(part, columns=tuple(columns))
    if cells is not None:
        rows = {row.cell: row for row in part.rows}
        part = replace(part, rows=tuple(rows[name] for name in cells if name in rows))
    return part


def _with(table: Table, indices: Sequence[int]) -> Table:
    columns: tuple[Column, ...] = tuple(table.columns[i] for i in indices)
    rows: tuple[Row, ...] = tuple(
        replace(row, entries=tuple(row.entries[i] for i in indices)) for row in table.rows
    )
    return replace(table, columns=columns, rows=rows)
