"""The tables as data: one value a row, and one cell a row; both in natural units."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sca_bench.report.collect import COST, SuiteData

_DIGITS = "%.10g"


def long_csv(data: SuiteData) -> str:
    """Return one value a row; a missing one has an empty value and its reason."""
    return _text(data.scores.frame)


def wide_csv(data: SuiteData) -> str:
    """Return one cell a row: coordinates, then mean, sample deviation and count of everything."""
    scores = data.scores
    costs = scores.metrics(COST)
    names = [*(name for name in scores.metrics() if name not in costs), *costs]
    rows = []
    for cell in data.cells:
        entry = cell.entry
        row: dict[str, Any] = {
            "suite": data.manifest.suite,
            "cell": entry.name,
            "cell_id": entry.cell_id,
            "variant": entry.variant,
            "control": entry.control,
        }
        row |= {axis: entry.coordinates.get(axis) for axis in data.manifest.axes}
        row |= {"seeds_done": len(cell.done), "seeds_planned": len(cell.runs)}
        for name in names:
            summary = scores.over_seeds(entry.cell_id, name)
            row[f"{name}_mean"] = None if summary is None else summary.mean
            row[f"{name}_sd"] = None if summary is None else summary.sd
            row[f"{name}_n"] = 0 if summary is None else summary.num_seeds
        rows.append(row)
    return _text(pd.DataFrame.from_records(rows))


def _text(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n", float_format=_DIGITS)
