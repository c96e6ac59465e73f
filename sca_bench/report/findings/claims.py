"""Claims of a suite: reading them, the observed difference of each, and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sca_bench.errors import at
from sca_bench.report.read.samples import LEVEL, Samples, unpaired
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.stats.compare import Comparison, compare_resampled
from sca_bench.stats.verdict import Decision, decide
from sca_bench.study.suite.claims import Comparator, Side, known_as, meant_cells, parse_claim

MARGIN_SHARE = 0.01
"""Where a claim of `no better than` names no margin: this share of the right side's score."""
ClaimVerdict = Literal["reproduced", "contradicted", "undecided", "not comparable"]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What was observed for one claim.

    Attributes:
        id: The claim's name in the suite.
        says: The claim as the suite states it.
        metric: The metric compared.
        comparator: How the sides stand to each other, as claimed.
        verdict: What the numbers say about it.
        comparison: Difference left minus right; None where there is none.
        decision: p, margin, and what a decision would take; None where there is no comparison.
        hole: Why there is no comparison.
        note: What a reader should know.
        sides: The cells of the left and the right side; None where this profile has none.
    """

    id: str
    says: str
    metric: str
    comparator: Comparator
    verdict: ClaimVerdict
    comparison: Comparison | None = None
    decision: Decision | None = None
    hole: str = ""
    note: str = ""
    sides: tuple[CellRuns | None, ...] = (None, None)


@dataclass(frozen=True, slots=True)
class _Read:
    """A claim before it is decided."""

    id: str
    says: str
    metric: str
    comparator: Comparator
    margin: float | None
    family: str
    sides: tuple[CellRuns | None, ...]
    hole: str
    mixed: str


def claim_results(data: SuiteData, samples: Samples) -> list[ClaimResult]:
    """Return the observed difference and the verdict of every claim in the suite's manifest.

    A claim on cells that this profile does not have, or without numbers, stays in the list as
    undecided, with the reason; one whose sides have different signatures is not comparable. Both
    stay in their family, too, where they count with a p of one.

    Raises:
        InputError: A claim cannot be read, or a file is damaged.
    """
    claims = [_read(data, number, raw) for number, raw in enumerate(data.manifest.claims, 1)]
    compared: list[tuple[Comparison, float, str] | str] = []
    for claim in claims:
        compared.append(claim.hole or claim.mixed or _compare(claim, samples))
    decisions = decide(
        [None if isinstance(one, str) else one[0] for one in compared],
        [claim.comparator for claim in claims],
        [0.0 if isinstance(one, str) else one[1] for one in compared],
        [claim.family for claim in claims],
    )
    results = []
    for claim, one, decision in zip(claims, compared, decisions, strict=True):
        head = (claim.id, claim.says, claim.metric, claim.comparator)
        if isinstance(one, str):
            verdict: ClaimVerdict = "not comparable" if claim.mixed else "undecided"
            results.append(ClaimResult(*head, verdict, hole=one, sides=claim.sides))
            continue
        comparison, _, note = one
        assert decision is not None
        results.append(
            ClaimResult(*head, decision.verdict, comparison, decision, note=note, sides=claim.sides)
        )
    return results


def _compare(claim: _Read, samples: Samples) -> tuple[Comparison, float, str] | str:
    """Return the comparison with the claim's margin and notes, or why there is none."""
    left, right = (samples.of(cell, claim.metric) for cell in claim.sides if cell is not None)
    problem = unpaired(left, right)
    if problem:
        return problem
    assert left.resampled is not None
    assert right.resampled is not None
    comparison = compare_resampled(left.resampled, right.resampled, LEVEL)
    margin = claim.margin
    if margin is None:
        score = float(right.resampled.scores.mean())
        margin = MARGIN_SHARE * abs(score) if "=" in claim.comparator else 0.0
    notes = dict.fromkeys(note for note in (left.note, right.note) if note)
    return comparison, margin, "; ".join(notes)


def _read(data: SuiteData, number: int, raw: dict[str, Any]) -> _Read:
    name, says = str(raw.get("id", f"claim {number}")), str(raw.get("says", ""))
    with at(data.manifest.file):
        claim = parse_claim(says, f"claims.{name}")
    sides = [_cells_of(data, side) for side in (claim.left, claim.right)]
    cells = tuple(cell for cell, _ in sides)
    hole = next((reason for _, reason in sides if reason), "")
    if not hole and cells[0] is cells[1] and cells[0] is not None:
        hole = f"both sides are the cell {cells[0].entry.name}"
    metric = claim.left.metric
    mixed = "" if hole else data.scores.mixture(metric, [c.entry.cell_id for c in cells if c])
    return _Read(
        name,
        says,
        metric,
        claim.comparator,
        raw.get("margin"),
        str(raw.get("family") or ""),
        cells,
        hole,
        mixed,
    )


def _cells_of(data: SuiteData, side: Side) -> tuple[CellRuns | None, str]:
    """Return the one cell a side means, or the reason why there is not exactly one."""
    others = [cell for cell in data.cells if not cell.entry.control]
    cells = _meant(side, others) or _meant(side, data.cells)
    if len(cells) == 1:
        return cells[0], ""
    if not cells:
        return None, f"profile {data.manifest.profile} has no cell for {side}"
    names = ", ".join(cell.entry.name for cell in cells)
    return None, f"{side} means {len(cells)} cells ({names})"


def _meant(side: Side, cells: Iterable[CellRuns]) -> list[CellRuns]:
    return meant_cells(
        side.where, cells, _known, lambda cell: {*cell.entry.coordinates, *cell.entry.ignored}
    )


def _known(cell: CellRuns) -> dict[str, Any]:
    entry = cell.entry
    names = (entry.name, *entry.also)
    return known_as(names, entry.variant, entry.coordinates, entry.ignored)
