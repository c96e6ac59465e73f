"""A table as a page shows it: its chosen columns, the rest to unfold, and a figure beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sca_bench.report.figures.picture import Picture
from sca_bench.report.tables.parts import extra_part, main_part
from sca_bench.report.tables.tables import Table

_BESIDE = {"claims": "forest", "interval": "forest", "scores": "pareto"}
"""Table -> the figure that may stand beside it; each stands beside the first of its tables."""
_MOST_COLUMNS = 6
"""A wider table takes the width for itself."""
_DETAILS = frozenset({"slots-by-objects"})
"""Tables of many rows that a reader looks up."""


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

    @property
    def is_detail(self) -> bool:
        """Whether it is folded away as a whole."""
        return self.shown.id in _DETAILS


def table_views(tables: Sequence[Table], pictures: Sequence[Picture]) -> tuple[TableView, ...]:
    """Return the views of a page's tables, each figure beside one of them at most."""
    left = {picture.id: picture for picture in pictures if picture.uri}
    views = []
    for table in tables:
        shown = main_part(table)
        fits = len(shown.columns) <= _MOST_COLUMNS
        picture = left.pop(_BESIDE.get(table.id, ""), None) if fits else None
        views.append(TableView(shown, extra_part(table), picture))
    return tuple(views)
