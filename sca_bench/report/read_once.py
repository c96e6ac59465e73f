"""A runs folder whose large files are read once per report, however many tables need them."""

from __future__ import annotations

from typing import Any

from sca_bench.study.store import Store

_OF_REGION = ("region_id", "image_id", "references", "box_xyxy", "slots")


class ReadOnce(Store):
    """A store that remembers predictions and region scores; callers must not change them.

    What all runs say of a region in the same words (references, box, slots) is kept once, so that
    many runs over one test split fit into memory.

    Args:
        store: The runs folder, which must not change meanwhile.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self._predictions: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self._scores: dict[tuple[str, int], dict[str, Any]] = {}
        self._regions: dict[Any, dict[str, Any]] = {}

    def predictions(self, cell_id: str, seed: int) -> list[dict[str, Any]]:
        """Return the rows of one run, as `Store.predictions`."""
        key = (cell_id, seed)
        if key not in self._predictions:
            rows = super().predictions(cell_id, seed)
            for row in rows:
                self._share(row)
            self._predictions[key] = rows
        return self._predictions[key]

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return the region scores of one run, as `Store.region_scores`."""
        key = (cell_id, seed)
        if key not in self._scores:
            self._scores[key] = super().region_scores(cell_id, seed)
        return self._scores[key]

    def _share(self, row: dict[str, Any]) -> None:
        known = self._regions.setdefault(str(row.get("region_id")), row)
        if known is not row:
            for name in _OF_REGION:
                if name in row and row[name] == known.get(name):
                    row[name] = known[name]
