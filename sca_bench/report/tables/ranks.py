"""Which cell of a column is best and which is second, so that every writer marks the same ones."""

from __future__ import annotations

from dataclasses import replace

from sca_bench.report.tables.tables import Rank, Row, Table

MIN_FOR_SECOND = 3
"""Different values a column needs for a second place; of two, the second is simply the last."""
_DECIMALS = 1
_SAYS = (
    "Bold: the best cell of the column; underlined (not in Markdown): the second of three or more; "
    "controls aside, and those of one displayed value alike."
)


def mark_best(table: Table) -> Table:
    """Return a table with the ranks of its entries filled in, and a caption that explains them.

    Controls are never marked, cells of the same displayed value share their rank, and a column
    whose values are all the same has no best.
    """
    ranks = [_ranks(table, index) for index in range(len(table.columns))]
    if not any(rank for column in ranks for rank in column):
        return table
    rows = []
    for number, row in enumerate(table.rows):
        entries = zip(row.entries, ranks, strict=True)
        ranked = tuple(replace(entry, rank=column[number]) for entry, column in entries)
        rows.append(Row(ranked, row.control))
    return replace(table, rows=tuple(rows), caption=f"{table.caption} {_SAYS}")


def _ranks(table: Table, index: int) -> list[Rank]:
    """Return the rank of every row in one column."""
    higher = table.columns[index].higher_is_better
    values = [None if row.control else row.entries[index].value for row in table.rows]
    shown = [None if value is None else round(value, _DECIMALS) for value in values]
    order = sorted({value for value in shown if value is not None}, reverse=bool(higher))
    if higher is None or len(order) < 2:
        return [""] * len(shown)
    second = order[1] if len(order) >= MIN_FOR_SECOND else None
    return [_rank(value, order[0], second) for value in shown]


def _rank(value: float | None, best: float, second: float | None) -> Rank:
    if value is None:
        return ""
    if value == best:
        return "best"
    return "second" if value == second else ""
