"""A runs folder whose large files are read once per report, however many tables need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sca_bench.metrics.rows import CaptionRow, read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store


class ReadOnce(Store):
    """A store that remembers predictions and region scores; callers must not change them.

    What all runs say of a region in the same words (references, box, slots) is kept once, so that
    many runs over one test split fit into memory.

    Args:
        store: The runs folder, which must not change meanwhile.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self._predictions: dict[tuple[str, int], Mapping[str, CaptionRow]] = {}
        self._scores: dict[tuple[str, int], dict[str, Any]] = {}
        self._regions: dict[str, CaptionRow] = {}

    def predictions(self, cell_id: str, seed: int) -> Mapping[str, CaptionRow]:
        """Return region id -> row of one run, in the order of its file; empty if there is none.

        Raises:
            InputError: The file is damaged.
        """
        key = (cell_id, seed)
        if key not in self._predictions:
            path = self.run_dir(cell_id, seed) / PREDICTIONS
            rows = map(self._shared, read_rows(path) if path.exists() else [])
            self._predictions[key] = {row.region_id: row for row in rows}
        return self._predictions[key]

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return the region scores of one run, as `Store.region_scores`."""
        key = (cell_id, seed)
        if key not in self._scores:
            self._scores[key] = super().region_scores(cell_id, seed)
        return self._scores[key]

    def _shared(self, row: CaptionRow) -> CaptionRow:
        """Return an equal row that shares what another run says of the region alike."""
        known = self._regions.setdefault(row.region_id, row)
        alike = replace(known, caption=row.caption)
        return row if known is row or alike != row else alike
