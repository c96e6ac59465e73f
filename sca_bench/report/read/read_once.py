"""A runs folder whose large files are read once per report, however many tables need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sca_bench.errors import InputError
from sca_bench.metrics.rows import CaptionRow, read_rows
from sca_bench.study.runs.record import WRITTEN_BY_NEWER, RunRecord
from sca_bench.study.runs.store import PREDICTIONS, Store

_T = TypeVar("_T")
_DAMAGED = "damaged file ("


class ReadOnce(Store):
    """A store that remembers predictions and region scores; callers must not change them.

    What all runs say of a region in the same words (references, box, slots) is kept once, so that
    many runs over one test split fit into memory. A damaged file costs what it held, not the
    report: it reads like one that is not there, and is noted.

    Args:
        store: The runs folder, which must not change meanwhile.

    Attributes:
        faults: What is damaged -> what is wrong with it, in the order of reading.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self.faults: dict[str, InputError] = {}
        self._predictions: dict[tuple[str, int], Mapping[str, CaptionRow]] = {}
        self._scores: dict[tuple[str, int], dict[str, Any]] = {}
        self._regions: dict[str, CaptionRow] = {}

    def sound(self, read: Callable[[], _T], nothing: _T, path: object) -> _T:
        """Return what a file holds; nothing, and a note, where it is damaged.

        Args:
            read: Reads it.
            nothing: What there is without it.
            path: What is read, for `lost`.

        Raises:
            InputError: It cannot be read now, which says nothing of what it holds.
        """
        try:
            return read()
        except InputError as fault:
            if _is_of_the_disk(fault):
                raise
            self.faults.setdefault(str(path), fault)
            return nothing

    def lost(self, path: object) -> str:
        """Return why what a file holds is not in the report; empty where that is not so."""
        fault = self.faults.get(str(path))
        if fault is None:
            return ""
        problem = fault.problem
        if problem.startswith(WRITTEN_BY_NEWER):
            return f"{problem}: {fault.fix}"
        if problem.startswith(_DAMAGED):
            problem = problem.removeprefix(_DAMAGED).removesuffix(")")
        place = ": ".join(part for part in (Path(fault.where).name, fault.key) if part)
        return f"damaged: {place}: {problem}"

    def place(self, cell_id: str, seed: int, name: str) -> Path:
        """Return the file of a run as `lost` knows it; it is not to be opened."""
        return self.root / "cells" / cell_id / f"seed-{seed:d}" / name

    def record(self, cell_id: str, seed: int) -> RunRecord | None:
        """Return the record of one run, or None if it was never started, or is damaged."""
        path = self.place(cell_id, seed, "record.json")
        return self.sound(lambda: Store.record(self, cell_id, seed), None, path)

    def log(self, cell_id: str, seed: int) -> list[dict[str, Any]]:
        """Return the rows of a run's log; none where it is damaged."""
        path = self.place(cell_id, seed, "log.jsonl")
        return self.sound(lambda: Store.log(self, cell_id, seed), [], path)

    def predictions(self, cell_id: str, seed: int) -> Mapping[str, CaptionRow]:
        """Return region id -> row of one run, in the order of its file.

        Empty where there is none, or it is damaged.
        """
        key = (cell_id, seed)
        if key not in self._predictions:
            place = self.place(cell_id, seed, PREDICTIONS)
            self._predictions[key] = self.sound(lambda: self._read_rows(*key), {}, place)
        return self._predictions[key]

    def images(self, cell_id: str, seed: int) -> Mapping[str, str]:
        """Return region id -> image id of one run; empty as for `predictions`."""
        return {name: row.image_id for name, row in self.predictions(cell_id, seed).items()}

    def _read_rows(self, cell_id: str, seed: int) -> Mapping[str, CaptionRow]:
        path = self.run_dir(cell_id, seed) / PREDICTIONS
        rows = map(self._shared, read_rows(path) if path.exists() else [])
        return {row.region_id: row for row in rows}

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return the region scores of one run, as `Store.region_scores`."""
        key = (cell_id, seed)
        if key not in self._scores:
            place = self.place(cell_id, seed, "region_scores.json")
            self._scores[key] = self.sound(lambda: Store.region_scores(self, *key), {}, place)
        return self._scores[key]

    def _shared(self, row: CaptionRow) -> CaptionRow:
        """Return an equal row that shares what another run says of the region alike."""
        known = self._regions.setdefault(row.region_id, row)
        alike = replace(known, caption=row.caption)
        return row if known is row or alike != row else alike


def _is_of_the_disk(fault: BaseException | None) -> bool:
    """Say whether the system could not read a file; Pillow's own `OSError`s have no number."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno is not None:
            return True
        fault = fault.__context__
    return False
