"""What a suite that claims nothing found: its best cell, and how far others lie from the reference.

Each is a comparison like that of a claim, so that `claims.csv` holds its numbers, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sca_bench.report.findings.cell_words import cell_in_words
from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.differences import CellDifference, Differences
from sca_bench.report.findings.headline import Sentence
from sca_bench.report.findings.ranking import ALPHA, Ranking, Rival
from sca_bench.report.findings.sentences import best_sentence, reference_sentence
from sca_bench.report.names import metric_label
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.stats.compare import Comparison

BEST, REFERENCE = "best cell", "farthest from the reference"
"""What stands for a claim's id."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A comparison of a suite that claims nothing, and its sentence."""

    result: ClaimResult
    sentence: Sentence


def findings_without_claims(
    data: SuiteData, ranking: Ranking, compared: Differences
) -> list[Finding]:
    """Return the best cell with what ties, and what lies farthest from another reference.

    Where there are no numbers it is one finding, which says so.

    Args:
        data: The suite.
        ranking: Its cells by its main metric.
        compared: Its cells beside the reference, by the same.
    """
    found = []
    said: set[str] = set()
    if ranking.best is not None and ranking.rivals:
        found.append(_best(data, ranking.best, ranking))
        said = {cell.entry.name for side in found[0].result.sides for cell in side}
    reference, farthest = compared.reference, _farthest(compared)
    if reference is None or farthest is None or reference is ranking.best:
        return found or [_nothing(data, compared)]
    if {reference.entry.name, farthest.cell.entry.name} != said:
        found.append(_from_reference(data, reference, farthest, compared.metric))
    return found or [_nothing(data, compared)]


def _best(data: SuiteData, best: CellRuns, ranking: Ranking) -> Finding:
    tied = [rival for rival in ranking.rivals if not rival.is_below]

    def gap(rival: Rival) -> float:
        return abs(rival.comparison.difference)

    rival = max(tied, key=gap) if tied else min(ranking.rivals, key=gap)
    result = _result(BEST, ranking.metric, rival.comparison, best, rival.cell)
    names = [cell_in_words(one.cell, data).text for one in tied]
    sentence = best_sentence(
        result,
        cell_in_words(best, data),
        names,
        cell_in_words(rival.cell, data).text,
        len(ranking.rivals),
    )
    return Finding(result, sentence)


def _farthest(compared: Differences) -> CellDifference | None:
    known = [c for c in compared.cells if c.comparison is not None and not c.cell.entry.control]
    return max(known, key=_distance, default=None)


def _distance(one: CellDifference) -> float:
    return 0.0 if one.comparison is None else abs(one.comparison.difference)


def _from_reference(
    data: SuiteData, reference: CellRuns, one: CellDifference, metric: str
) -> Finding:
    assert one.comparison is not None
    result = _result(REFERENCE, metric, one.comparison, one.cell, reference)
    shown = one.p_adjusted is not None and one.p_adjusted < ALPHA
    cell, other = (cell_in_words(each, data).text for each in (one.cell, reference))
    return Finding(result, reference_sentence(result, cell, other, shown))


def _nothing(data: SuiteData, compared: Differences) -> Finding:
    """Return why there is no comparison."""
    scored = [one for one in compared.cells if one.estimate is not None]
    own = [one for one in scored if not one.cell.entry.control]
    lost = [
        f"{cell.entry.name}, seed {run.seed}: {run.hole}"
        for cell in data.cells
        for run in cell.runs
        if run.hole
    ]
    metric = metric_label(compared.metric)
    text = f"No cell has a score by {metric} yet."
    if own:
        text = f"There is nothing to compare: one cell has scores by {metric}."
    known = f"Without a result: {lost[0]}." if lost else ""
    result = ClaimResult("no comparison", "", compared.metric, ">", "")
    return Finding(result, Sentence(result.id, "", "", "", text, known, metric=compared.metric))


def _result(
    name: str, metric: str, comparison: Comparison, left: CellRuns, right: CellRuns
) -> ClaimResult:
    sides: tuple[tuple[CellRuns, ...], tuple[CellRuns, ...]] = ((left,), (right,))
    return ClaimResult(name, "", metric, ">", "", comparison, sides=sides)


def results_of(found: Sequence[Finding]) -> list[ClaimResult]:
    """Return the comparisons, as rows of `claims.csv`."""
    return [one.result for one in found]
