"""A comparison as plain JSON values, in natural units: CIDEr-D ends at 10, others at 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sca_bench.report.compare.changed import ChangedRegion, Changes, Said
from sca_bench.report.compare.compared import Compared, ComparedPair, MetricRow
from sca_bench.report.compare.sides import Side
from sca_bench.report.compare.words import all_notes, answer
from sca_bench.report.read.samples import LEVEL
from sca_bench.report.read.suite_data import CellRuns

_OF_COMPARISON = (
    *("difference", "low", "high", "se", "se_images", "se_seeds", "df", "p"),
    *("num_images", "num_regions", "covers_seeds", "approximate"),
)


def compared_json(compared: Compared, regions: Sequence[ChangedRegion]) -> dict[str, Any]:
    """Return a comparison as plain values; B less A.

    Args:
        compared: The comparison.
        regions: The regions to show, with captions.
    """
    shared = compared.shared
    return {
        "answer": answer(compared),
        "a": _side(compared.a),
        "b": _side(compared.b),
        "level": LEVEL,
        "metrics": list(compared.metrics),
        "pairs": [_pair(one) for one in compared.pairs],
        "only_a": list(compared.paired.only_a),
        "only_b": list(compared.paired.only_b),
        "shared_regions": None if shared is None else len(shared.region_ids),
        "regions": [_region(region) for region in regions],
        "notes": all_notes(compared),
    }


def _side(side: Side) -> dict[str, Any]:
    folder = None if side.pictures is None else str(side.pictures)
    return {"given": side.given, "kind": side.kind, "runs_dir": folder}


def _pair(one: ComparedPair) -> dict[str, Any]:
    return {
        "name": one.pair.name,
        "a": _cell(one.pair.a),
        "b": _cell(one.pair.b),
        "scores": {row.metric: _row(row) for row in one.rows},
        "changes": _changes(one.changes),
    }


def _cell(cell: CellRuns) -> dict[str, Any]:
    seeds = [record.seed for record in cell.done]
    return {"name": cell.entry.name, "cell_id": cell.entry.cell_id, "seeds": seeds}


def _row(row: MetricRow) -> dict[str, Any]:
    comparison = row.comparison
    found = {} if comparison is None else {k: getattr(comparison, k) for k in _OF_COMPARISON}
    return {
        "a": row.a,
        "b": row.b,
        "finding": row.finding,
        **found,
        "p_adjusted": row.p,
        "detectable": row.detectable,
        "not_compared": row.hole,
        "notes": list(row.notes),
    }


def _changes(changes: Changes) -> dict[str, Any]:
    names = ("metric", "num_regions", "better", "worse", "right_to_wrong", "wrong_to_right")
    return {name: getattr(changes, name) for name in (*names, "both_right", "of_seeds")}


def _region(region: ChangedRegion) -> dict[str, Any]:
    return {
        "cell": region.cell,
        "region_id": region.region_id,
        "image_id": region.image_id,
        "a": region.a,
        "b": region.b,
        "right_in_a": region.was_right,
        "right_in_b": region.is_right,
        "references": list(region.references),
        "said_in_a": [_said(said) for said in region.said_a],
        "said_in_b": [_said(said) for said in region.said_b],
    }


def _said(said: Said) -> dict[str, Any]:
    return {"caption": said.caption, "num_seeds": said.num_seeds}
