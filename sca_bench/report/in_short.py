"""What a report says of a suite, in the few numbers that a mirror of its runs shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sca_bench.metrics.value_names import ValueName
from sca_bench.report.findings.answer import Answer, answer_of
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import CellDifference, Differences, differences
from sca_bench.report.findings.headline import Headline, Sentence
from sca_bench.report.findings.paper import read_paper
from sca_bench.report.names import higher_is_better
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import COST, CellRuns, SuiteData, collect
from sca_bench.report.tables.claim_table import significance, within_scale
from sca_bench.study.runs.findings import CellFinding, ClaimFinding, SuiteFindings
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store


def read_findings(store: Store, manifest: SuiteManifest, reports_dir: Path) -> SuiteFindings:
    """Return what is found of a suite, from its runs' files, as `read_answer`."""
    return read_answer(store, manifest, reports_dir)[0]


def read_answer(
    store: Store, manifest: SuiteManifest, reports_dir: Path
) -> tuple[SuiteFindings, Headline]:
    """Return what is found of a suite, from its runs' files, and that in words.

    Args:
        store: The runs folder.
        manifest: The suite.
        reports_dir: Folder whose `published.csv` is read, else that beside the package.

    Raises:
        InputError: A claim cannot be read, numbers of one metric have different signatures, or a
            file of the paper's numbers is malformed.
    """
    data = collect(store, manifest)
    samples = Samples(data)
    compared = differences(data, samples, data.main_metric)
    paper = read_paper(data, reports_dir)
    answer = answer_of(data, samples, claim_results(data, samples), paper, compared)
    return suite_findings(data, answer, compared), answer.headline


def suite_findings(data: SuiteData, answer: Answer, compared: Differences) -> SuiteFindings:
    """Return what a report found of a suite.

    Args:
        data: The suite's runs.
        answer: The answer in words, with the comparisons behind it.
        compared: The suite's cells by its main metric.
    """
    names = [
        name
        for name in data.scores.metrics()
        if not name.startswith(COST) and not ValueName.parse(name).slot
    ]
    headline = answer.headline
    claims = answer.results if data.manifest.claims else ()
    said = zip(headline.sentences, answer.results, strict=True)
    return SuiteFindings(
        metric=compared.metric,
        cells=[_cell(data, names, one, claims, compared) for one in compared.cells],
        claims=[_claim(sentence, result) for sentence, result in said],
        sure=" ".join(filter(None, (headline.sure, headline.units, headline.cost))),
    )


def _cell(
    data: SuiteData,
    names: list[str],
    one: CellDifference,
    claims: Sequence[ClaimResult],
    compared: Differences,
) -> CellFinding:
    cell_id = one.cell.entry.cell_id
    over_seeds = {name: data.scores.over_seeds(cell_id, name) for name in names}
    found = CellFinding(
        cell_id=cell_id,
        num_seeds=len(one.cell.done),
        means={name: summary.mean for name, summary in over_seeds.items() if summary is not None},
        standing=_standing(one, compared),
        verdicts={claim.id: claim.verdict for claim in claims if _is_side(one.cell, claim)},
    )
    alone, comparison = one.estimate, one.comparison
    if alone is not None and alone.low is not None and alone.high is not None:
        low, high = within_scale(alone.low, alone.high, compared.metric)
        found.low, found.high = _finite(low), _finite(high)
    if comparison is not None:
        found.difference = _finite(comparison.difference)
        found.difference_low = _finite(comparison.low)
        found.difference_high = _finite(comparison.high)
    return found


def _is_side(cell: CellRuns, claim: ClaimResult) -> bool:
    return any(cell is other for side in claim.sides for other in side)


def _standing(one: CellDifference, compared: Differences) -> str:
    """Return how a cell stands to the reference cell by the main metric."""
    if one.cell is compared.reference:
        return "reference"
    if one.comparison is None:
        return "not compared"
    if one.p_adjusted is None:
        return "a control" if one.cell.entry.control else "not tested"
    if not significance(one):
        return "not told apart"
    better = higher_is_better(compared.metric)
    if better is None:
        return "different"
    return "better" if (one.comparison.difference > 0) == better else "worse"


def _claim(sentence: Sentence, result: ClaimResult) -> ClaimFinding:
    comparison = result.comparison
    return ClaimFinding(
        id=sentence.claim_id,
        verdict=sentence.verdict,
        answer=sentence.whole,
        difference=None if comparison is None else _finite(comparison.difference),
        low=None if comparison is None else _finite(comparison.low),
        high=None if comparison is None else _finite(comparison.high),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
