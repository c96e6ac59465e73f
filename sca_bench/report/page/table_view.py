"""A table as a page shows it: one line above it, its chosen columns, and the rest to unfold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sca_bench.report.figures.picture import Picture
from sca_bench.report.names import COSTS, NO_VALUE
from sca_bench.report.tables.tables import Column, Row, Table

MOST_METRICS = 5
"""Scores of a wide table that are shown at once."""
_COSTS = {cost.label for cost in COSTS} - {"Trainable", "Own compute"}
_SHORTER = re.compile(r"BLEU-[123]\b")
"""What the longest n-grams say better."""
_BESIDE = {"claims": ("forest-claims",), "interval": ("forest-cells",), "scores": ("pareto",)}
"""Table -> the figures that may stand beside it."""


@dataclass(frozen=True, slots=True)
class TableView:
    """A table with what stands around it.

    Attributes:
        shown: The table with its chosen columns.
        whole: All of it; None where nothing is left out.
        says: What it shows, in a line.
        how: How to read it; empty where the line says all.
        picture: The figure that shows the same; None where there is none.
    """

    shown: Table
    whole: Table | None
    says: str
    how: str
    picture: Picture | None = None


def table_views(tables: Sequence[Table], pictures: Sequence[Picture]) -> tuple[TableView, ...]:
    """Return the views of a page's tables, each figure beside one of them at most."""
    left = [picture for picture in pictures if picture.uri]
    views = []
    for table in tables:
        beside = _BESIDE.get(table.id, ())
        picture = next((one for one in left if one.id in beside), None)
        views.append(_view(table, picture))
    return tuple(views)


def _view(table: Table, picture: Picture | None) -> TableView:
    alike = _alike(table)
    left_out = {*alike, *_left_out(table)}
    kept = [place for place in range(len(table.columns)) if place not in left_out]
    says, _, how = table.caption.partition(". ")
    said = f"{says.rstrip('.')}." if says else ""
    if alike:
        listed = "; ".join(f"{_name(table.columns[i])} {text}" for i, text in alike.items())
        said = f"{said} In all rows: {listed}.".strip()
    return TableView(
        replace(table, columns=_picked(table.columns, kept), rows=_rows(table.rows, kept)),
        table if left_out else None,
        said,
        how,
        picture,
    )


def _alike(table: Table) -> dict[int, str]:
    """Return the columns that say the same in every row, with what they say."""
    found = {}
    for place, column in enumerate(table.columns):
        entries = [row.entries[place] for row in table.rows]
        texts = {entry.text for entry in entries}
        is_plain = not any(entry.notes or entry.tone for entry in entries)
        if column.numeric and place and len(entries) > 1 and len(texts) == 1 and is_plain:
            if texts != {NO_VALUE}:
                found[place] = texts.pop()
    return found


def _left_out(table: Table) -> list[int]:
    """Return the columns that are unfolded only: costs, and scores beyond the first ones."""
    columns = list(enumerate(table.columns))
    costs = [place for place, column in columns if column.label in _COSTS and table.id == "scores"]
    metrics = [place for place, column in columns if column.unit.startswith("×")]  # noqa: RUF001
    if table.id not in {"scores", "slots", "parts"} or len(metrics) <= MOST_METRICS:
        return costs
    empty = {p for p in metrics if all(row.entries[p].text == NO_VALUE for row in table.rows)}
    longest = any(column.label.startswith("BLEU-4") for _, column in columns)
    shorter = {p for p in metrics if longest and _SHORTER.match(table.columns[p].label)}
    wanted = [place for place in metrics if place not in empty | shorter][:MOST_METRICS]
    return [*costs, *(place for place in metrics if place not in wanted)]


def _name(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _picked(columns: Sequence[Column], kept: Sequence[int]) -> tuple[Column, ...]:
    return tuple(columns[place] for place in kept)


def _rows(rows: Sequence[Row], kept: Sequence[int]) -> tuple[Row, ...]:
    return tuple(replace(row, entries=tuple(row.entries[place] for place in kept)) for row in rows)
