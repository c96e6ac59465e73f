"""Which cells of a column are marked as best, so that every writer marks the same ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from sca_bench.report.tables.tables import Column, Entry, Row, Table

SAYS = "Bold: not shown to be below the best of the column."


def mark_best(table: Table, marked: Callable[[str], Collection[str]]) -> Table:
    """Return a table with the ranks of its entries filled in, and a caption that explains them.

    Args:
        table: The table.
        marked: Gives the names of the cells that are not shown to be below the best by a metric;
            controls are not among them.
    """
    best = {c.metric: marked(c.metric) for c in table.columns if c.metric}
    if not any(best.values()):
        return table

    def ranked(row: Row, column: Column, entry: Entry) -> Entry:
        wins = entry.value is not None and row.cell in best.get(column.metric, ())
        return replace(entry, rank="best") if wins else entry

    rows = tuple(
        replace(
            row,
            entries=tuple(
                ranked(row, column, entry)
                for column, entry in zip(table.columns, row.entries, strict=True)
            ),
        )
        for row in table.rows
    )
    return replace(table, rows=rows, caption=f"{table.caption} {SAYS}")
