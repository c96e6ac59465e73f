"""A table as a page shows it: its chosen columns, the rest to unfold, and a figure beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sca_bench.report.figures.picture import Picture
from sca_bench.report.tables.parts import extra_part, main_part
from sca_bench.report.tables.tables import Table

_BESIDE = {"claims": "forest", "scores": "pareto"}
"""Table -> the figure that stands beside it."""


@dataclass(frozen=True, slots=True)
class TableView:
    """A table with what stands around it.

    Attributes:
        shown: The table with its chosen columns.
        more: Its other columns; None where there are none.
        picture: The figure that shows the same; None where there is none.
    """

    shown: Table
    more: Table | None
    picture: Picture | None = None


def table_views(tables: Sequence[Table], pictures: Sequence[Picture]) -> tuple[TableView, ...]:
    """Return the views of a page's tables, each figure beside one of them at most."""
    drawn = {picture.id: picture for picture in pictures if picture.uri}
    beside = dict(_BESIDE)
    if "claims" not in {table.id for table in tables}:  # its figure shows all cells then
        beside = {"interval": "forest", "scores": "pareto"}
    return tuple(
        TableView(main_part(table), extra_part(table), drawn.get(beside.get(table.id, "")))
        for table in tables
    )
