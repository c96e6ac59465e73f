"""Claims of a suite: reading them, and the observed difference behind each (no verdict)."""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.report.collect import CellRuns, SuiteData
from sca_bench.report.intervals import Estimate, RegionMeans, difference_estimate, region_means
from sca_bench.study.claims import Side, cells_meant, parse_claim


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What was observed for one claim.

    Attributes:
        id: The claim's name in the suite.
        says: The claim as the suite states it.
        metric: The metric compared.
        estimate: Difference left minus right with its interval, or why there is none.
        sides: The cells of the left and the right side; None where this profile has none.
    """

    id: str
    says: str
    metric: str
    estimate: Estimate
    sides: tuple[CellRuns | None, ...] = (None, None)


def claim_results(data: SuiteData) -> list[ClaimResult]:
    """Return the observed difference of every claim in the suite's manifest.

    A claim on cells that this profile does not have stays in the list, with the reason.

    Raises:
        InputError: A claim cannot be read, or a file is damaged.
    """
    cache: dict[tuple[str, str], RegionMeans] = {}
    results = []
    for number, raw in enumerate(data.manifest.claims, start=1):
        name, says = raw.get("id", f"claim {number}"), raw.get("says", "")
        claim = parse_claim(says, data.manifest.file, f"claims.{name}")
        sides = [_cells_of(data, side) for side in (claim.left, claim.right)]
        problem = next((reason for _, reason in sides if reason), "")
        if problem:
            estimate = Estimate(None, hole=problem)
        else:
            means = [
                _cached(data, cell, claim.left.metric, cache)
                for cell, _ in sides
                if cell is not None
            ]
            estimate = difference_estimate(*means)
        cells = tuple(cell for cell, _ in sides)
        results.append(ClaimResult(name, says, claim.left.metric, estimate, cells))
    return results


def _cached(
    data: SuiteData, cell: CellRuns, metric: str, cache: dict[tuple[str, str], RegionMeans]
) -> RegionMeans:
    key = (cell.entry.cell_id, metric)
    if key not in cache:
        cache[key] = region_means(data, cell, metric)
    return cache[key]


def _cells_of(data: SuiteData, side: Side) -> tuple[CellRuns | None, str]:
    """Return the one cell a side means, or the reason why there is not exactly one."""
    meant = cells_meant(side, [cell.entry for cell in data.cells])
    found = [cell for cell in data.cells if cell.entry in meant]
    if len(found) == 1:
        return found[0], ""
    if not found:
        return None, f"profile {data.manifest.profile} has no cell for {side}"
    names = ", ".join(cell.entry.name for cell in found)
    return None, f"{side} means {len(found)} cells ({names})"
