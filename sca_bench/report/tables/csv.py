"""The tables as data: one value a row, and one cell a row; both in natural units."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.headline import Sentence
from sca_bench.report.findings.paper import Paper, PaperCell
from sca_bench.report.names import ANY_VALUE, is_numeric
from sca_bench.report.read.suite_data import COST, SuiteData
from sca_bench.report.tables.csv_fields import field
from sca_bench.stats.power import noise_floor
from sca_bench.study.runs.record import CellEntry
from sca_bench.study.suite.yaml_values import show_value

_DIGITS = "%.10g"
_COUNTS = ("seeds_left", "seeds_right", "images", "regions", "seeds_needed", "regions_needed")


def long_csv(data: SuiteData, paper: Paper) -> str:
    """Return one value a row; a missing one has an empty value and its reason.

    The published number of the same cell and metric, its row and the verdict have columns of
    their own, the same in all rows of a cell and metric.
    """
    frame = data.scores.frame.copy()
    cells = {cell.entry.name: paper.cell(cell) for cell in data.cells}
    rows = [
        _published(cells[cell], metric)
        for cell, metric in zip(frame["cell"], frame["metric"], strict=True)
    ]
    for index, name in enumerate(("published", "published_row", "published_verdict")):
        frame[name] = pd.Series([item[index] for item in rows], dtype=object)
    return _text(frame)


def _published(cell: PaperCell | None, metric: str) -> tuple[float | None, str, str]:
    if cell is None or metric not in cell.values:
        return None, "", ""
    return cell.values[metric].natural, cell.row, cell.verdict(metric)


def wide_csv(
    data: SuiteData, paper: Paper, marked: Callable[[str], Collection[str]] | None = None
) -> str:
    """Return one cell a row: coordinates, then mean, sample deviation and count of everything.

    Published numbers have columns of their own after those of the metric. Where cells of a metric
    were compared with its best, its column `_best` says which are not shown to be below that.

    Args:
        data: The suite.
        paper: Its published numbers.
        marked: Gives the names of the cells that are not shown to be below the best by a metric.
    """
    scores = data.scores
    costs = scores.metrics(COST)
    names = [*(name for name in scores.metrics() if name not in costs), *costs]
    of_paper = [paper.cell(cell) for cell in data.cells]
    published = {metric for row in of_paper if row for metric in row.values}
    best = {name: marked(name) for name in names if marked and name not in costs}
    rows = []
    for cell in data.cells:
        entry, printed = cell.entry, paper.cell(cell)
        row: dict[str, Any] = {
            "suite": data.manifest.suite,
            "cell": entry.name,
            "cell_id": entry.cell_id,
            "variant": entry.variant,
            "control": entry.control,
        }
        row |= {axis: _coordinate(entry, axis) for axis in data.manifest.axes}
        row["published_row"] = "" if printed is None else f"{paper.table}: {printed.row}"
        row |= {"seeds_done": len(cell.done), "seeds_planned": len(cell.runs)}
        for name in names:
            summary = scores.over_seeds(entry.cell_id, name)
            row[f"{name}_mean"] = None if summary is None else summary.mean
            row[f"{name}_sd"] = None if summary is None else summary.sd
            row[f"{name}_n"] = 0 if summary is None else summary.num_seeds
            if best.get(name):
                row[f"{name}_best"] = None if summary is None else entry.name in best[name]
            if name in published:
                value, _, verdict = _published(printed, name)
                row[f"{name}_published"], row[f"{name}_published_verdict"] = value, verdict
        rows.append(row)
    return _text(pd.DataFrame.from_records(rows), values=data.manifest.axes)


def claims_csv(
    claims: Sequence[ClaimResult], sentences: Sequence[Sentence] = (), scope: str = ""
) -> str:
    """Return one claim a row: verdict, difference with its interval, p, and what it would take.

    Every number that a headline prints stands here in full, in natural units.

    Args:
        claims: The claims; of a suite without any, the comparisons of its headline.
        sentences: The same in words, in the same order; none where nobody needs them.
        scope: What the verdicts hold for, such as `at tiny scale`.
    """
    rows = []
    for number, claim in enumerate(claims):
        comparison, decision = claim.comparison, claim.decision
        said = sentences[number] if sentences else None
        needed = decision.needed if decision is not None else None
        names = (dict.fromkeys(cell.entry.name for cell in side) for side in claim.sides)
        left, right = ("; ".join(side) or None for side in names)
        ends = None if comparison is None else (comparison.low, comparison.high)
        rows.append(
            {
                "claim": claim.id,
                "says": claim.says,
                "metric": claim.metric,
                "left": left,
                "right": right,
                "verdict": claim.verdict,
                "scope": scope,
                "comparable": None if said is None else said.comparable,
                "difference": None if comparison is None else comparison.difference,
                "low": None if comparison is None else comparison.low,
                "high": None if comparison is None else comparison.high,
                "half_width": _half_width(ends),
                "se_images": None if comparison is None else comparison.se_images,
                "se_seeds": None if comparison is None else comparison.se_seeds,
                "degrees_of_freedom": None if comparison is None else comparison.df,
                "noise_floor": None if comparison is None else noise_floor(comparison.parts),
                "approximate": None if comparison is None else comparison.approximate,
                "p": None if decision is None else decision.p,
                "p_holm": None if decision is None else decision.p_adjusted,
                "margin": None if decision is None else decision.margin,
                "seeds_left": None if comparison is None else comparison.num_seeds[0],
                "seeds_right": None if comparison is None else comparison.num_seeds[1],
                "images": None if comparison is None else comparison.num_images,
                "regions": None if comparison is None else comparison.num_regions,
                "seeds_needed": None if needed is None else needed.seeds,
                "regions_needed": None if needed is None else needed.regions,
                "reason": claim.hole,
                "note": claim.note,
                "sentence": "" if said is None else said.whole,
            }
        )
    frame = pd.DataFrame.from_records(rows)
    for name in _COUNTS if rows else ():
        frame[name] = frame[name].astype("Int64")
    return _text(frame, digits=None)


def _half_width(ends: tuple[float | None, float | None] | None) -> float | None:
    if ends is None or ends[0] is None or ends[1] is None:
        return None
    return (ends[1] - ends[0]) / 2


def _coordinate(entry: CellEntry, axis: str) -> Any:
    """Return a number as it is and any other value as a suite file has it; None off the axis."""
    if axis not in entry.coordinates:
        return ANY_VALUE if axis in entry.ignored else None
    value = entry.coordinates[axis]
    return value if is_numeric([value]) else show_value(value)


def _text(frame: pd.DataFrame, values: Collection[str] = (), digits: str | None = _DIGITS) -> str:
    """Return a table as CSV; `values` are the columns whose texts may be numbers."""
    shown = frame.copy()
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            is_value = name in values
            shown[name] = frame[name].map(
                lambda one, is_value=is_value: (
                    field(one, value=is_value) if isinstance(one, str) else one
                )
            )
    shown.columns = pd.Index([field(str(name)) for name in frame.columns])
    return shown.to_csv(index=False, lineterminator="\n", float_format=digits)
