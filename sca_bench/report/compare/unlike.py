"""Why two sides cannot be compared: another split, other regions or references, other metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sca_bench.errors import InputError
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.signature import comparable
from sca_bench.metrics.value_names import ValueName
from sca_bench.report.compare.sides import CellPair, Side, read_captions
from sca_bench.report.read.score_frame import REGION_SET
from sca_bench.report.read.suite_data import CellRuns
from sca_bench.study.runs.record import RunRecord, Score

_OF_REGIONS = frozenset({REGION_SET, "num_regions", "references_min", "references_max", "split"})
"""Fields of a signature that say what was scored, which is looked at first, for all metrics."""
_ASKED = ("decoding", "prompt")
"""Fields in which two cells may differ because that is what is asked."""
SHARED = "--shared-regions"


@dataclass(frozen=True, slots=True)
class Shared:
    """Regions that both sides have, where each has others, too.

    Attributes:
        region_ids: The regions.
        num_a: Regions of A.
        num_b: Regions of B.
    """

    region_ids: tuple[str, ...]
    num_a: int
    num_b: int


def shared_regions(a: Side, b: Side, pair: CellPair, *, allowed: bool) -> Shared | None:
    """Return the regions to compare two cells on; None where both were scored on the same ones.

    Args:
        a: The first side.
        b: The second.
        pair: A cell of each.
        allowed: Whether a part of the regions may be compared.

    Raises:
        InputError: They were scored on other regions or references, in one line with the reason.
    """
    one, other = first_run(a, pair.a), first_run(b, pair.b)
    sets = {str(_signature(record).get(REGION_SET, "")) for record in (one, other)}
    if len(sets) == 1 and "" not in sets:
        return None
    rows_a, rows_b = read_captions(a, one), read_captions(b, other)
    both = [name for name in rows_a if name in rows_b]
    where = f"{a.given}, {b.given}"
    same_regions = len(both) == len(rows_a) == len(rows_b)
    if not same_regions and not (allowed and both):
        counts = f"{len(rows_a):,} regions of A and {len(rows_b):,} of B, {len(both):,} in both"
        fix = f"{SHARED} compares those" if both else "caption the same split with both"
        raise InputError("compare", where, f"{_what_is_other(one, other)}: {counts}", fix)
    _check_references(where, {name: (rows_a[name], rows_b[name]) for name in both})
    return None if same_regions else Shared(tuple(both), len(rows_a), len(rows_b))


def _check_references(where: str, rows: Mapping[str, tuple[CaptionRow, CaptionRow]]) -> None:
    """Refuse regions whose references, or images, the sides do not agree on."""
    unlike = [name for name, (a, b) in rows.items() if a.references != b.references]
    if unlike:
        counts = f"{len(unlike):,} of {len(rows):,} regions, the first is {unlike[0]}"
        problem = f"other references: A and B do not have the same for {counts}"
        raise InputError("compare", where, problem, "score both against the same references")


def _what_is_other(a: RunRecord, b: RunRecord) -> str:
    """Say whether it is another split, by name or content, or only other regions of one."""
    splits = [str(_signature(record).get("split", "")) for record in (a, b)]
    if all(splits) and splits[0] != splits[1]:
        return f"other split: A is of {splits[0]}, B of {splits[1]}"
    texts = [_split_text(record, split) for record, split in zip((a, b), splits, strict=True)]
    if all(texts) and texts[0] != texts[1]:
        return f"other split: A is of {texts[0]}, B of {texts[1]}"
    return "other regions"


def _split_text(record: RunRecord, split: str) -> str:
    """Return what a run says of the split that it captioned: `scenes 0-9: 30 regions ...`."""
    splits = record.provenance.get("splits")
    text = splits.get(split, "") if isinstance(splits, dict) else ""
    return str(text).partition(":")[0]


def unlike_metric(metric: str, a: CellRuns, b: CellRuns) -> tuple[str, list[str]]:
    """Return why one metric's numbers of two cells are not comparable, and what else to know.

    Returns:
        In what their signatures differ, empty if in nothing; and in what the captions were asked
        for otherwise (decoding, prompt), which is part of what is compared.
    """
    signatures = [s for cell in (a, b) for s in _signatures(metric, cell)]
    for other in signatures[1:]:
        first = signatures[0]
        beside = {"short", *_ASKED, *_left(first, other)}
        fields = [field for field in comparable(first, other) if field not in beside]
        if fields:
            each = (f"{key} {_shown(first, key)} against {_shown(other, key)}" for key in fields)
            return f"signatures differ: {', '.join(each)}", []
    notes = []
    for key in _ASKED:
        found = [
            next((str(signed[key]) for signed in _signatures(metric, cell) if key in signed), "")
            for cell in (a, b)
        ]
        if all(found) and found[0] != found[1]:
            notes.append(f"{key}: A {found[0]}, B {found[1]}")
    return "", notes


def _left(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    """Return the fields that say what was scored, which need no second look here.

    A file says nothing of its split; of a part (`seen/...`) the regions have not been looked at.
    """
    if ValueName.parse(str(first.get("metric", ""))).part:
        return ("split",) if "split" not in first or "split" not in other else ()
    return _OF_REGIONS


def _signatures(metric: str, cell: CellRuns) -> list[dict[str, Any]]:
    scores = (record.scores.get(metric) for record in cell.done)
    return [s.signature for s in scores if s is not None and has_value(s) and s.signature]


def has_value(score: Score) -> bool:
    """Say whether a score is a number."""
    return score.value is not None and math.isfinite(score.value)


def first_run(side: Side, cell: CellRuns) -> RunRecord:
    """Return the first finished run of a cell.

    Raises:
        InputError: There is none, with what became of them.
    """
    if not cell.done:
        holes = ", ".join(dict.fromkeys(f"seed {run.seed} {run.hole}" for run in cell.runs))
        name = cell.entry.name
        problem = f"{name}: no finished run: {holes}"
        raise InputError("compare", side.given, problem, "run its suite")
    return cell.done[0]


def _signature(record: RunRecord) -> dict[str, Any]:
    """Return the signature of a value over all regions that were captioned; empty without one."""
    found: dict[str, Any] = {}
    for name, score in record.scores.items():
        signed = score.signature if not ValueName.parse(name).part else {}
        if signed.get("num_regions", 0) > found.get("num_regions", 0):
            found = signed
    return found


def _shown(signature: Mapping[str, Any], key: str) -> str:
    return repr(signature[key]) if key in signature else "not stated"
