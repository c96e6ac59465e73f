"""What the forest plot shows: the claims, and every other cell against the reference.

Each difference stands in it once, and each metric has an axis of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.differences import CellDifference, Differences
from sca_bench.report.findings.headline import Headline
from sca_bench.report.findings.paper import COMPARABLE, Paper, paper_claim, verdict_of
from sca_bench.report.names import (
    difference_unit,
    metric_label,
    metric_scale,
    show_bearable,
)
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.read.sweeps import sweep_part
from sca_bench.report.tables.claim_table import APPROXIMATE, FLOOR, significance
from sca_bench.stats.compare import Comparison
from sca_bench.stats.power import noise_floor

SPEC = PlotSpec(
    "forest",
    "Differences",
    "Differences with their 95 % intervals around zero.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.forest_draw:draw_forest_plot",
    order=10,
)
CLAIMS = "Claims"
_IN_ALT = 8


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference.

    Attributes:
        label: What is compared.
        difference: Displayed units.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        group: Rows of one group stand together under its name, in the order given.
        filled: Whether the mark is filled: what is told apart from zero, or decided.
        note: Said at the right of the row.
        published: The paper's own difference, displayed units.
        images_only: Whether the interval knows nothing of other seeds.
        noise: Half width of the row's band around zero that seeds alone fill; None draws none.
        margin: Up to where (`<=`), or from where (`>=`), a claim of "no better" holds; None for
            other rows.
    """

    label: str
    difference: float
    low: float | None = None
    high: float | None = None
    group: str = ""
    filled: bool = True
    note: str = ""
    published: float | None = None
    images_only: bool = False
    noise: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Facet:
    """The differences by one metric.

    Attributes:
        axis: What the horizontal axis says, with the unit.
        rows: The differences, from top to bottom.
    """

    axis: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """The data of the plot: one facet for each metric, the suite's main one first."""

    facets: tuple[Facet, ...]

    @property
    def rows(self) -> list[ForestRow]:
        """The rows of all facets."""
        return [row for facet in self.facets for row in facet.rows]


def facts(suite: PlottedSuite) -> Shown | None:
    """Return the forest plot of a suite with its texts; None where nothing is compared."""
    if (part := sweep_part(suite.data)) is not None and part.is_search:
        return None  # trials are compared by their slices; the first one is no reference
    return forest(suite.data, suite.paper, suite.claims, suite.compared, suite.headline)


def forest(
    data: SuiteData,
    paper: Paper,
    claims: Sequence[ClaimResult],
    compared: Differences,
    headline: Headline | None = None,
) -> Shown | None:
    """Return the forest plot of a suite; None where nothing is compared.

    Args:
        data: The suite.
        paper: The paper's printed numbers.
        claims: Its claims with verdicts.
        compared: Its cells by the main metric.
        headline: Its answer in words, whose labels of verdicts are shown where it is given.
    """
    drawn = [claim for claim in claims if claim.comparison is not None]
    words = {s.claim_id: s.label for s in headline.sentences} if headline is not None else {}
    by_metric: dict[str, list[ForestRow]] = {}
    incomparable = False
    for claim in sorted(drawn, key=lambda claim: claim.metric != data.main_metric):  # stable
        published, other = _published(data, paper, claim)
        incomparable |= other
        row = _claim_row(claim, words.get(claim.id) or claim.verdict, published)
        by_metric.setdefault(claim.metric, []).append(row)
    others = _cell_rows(compared, drawn)
    if others:
        by_metric = {compared.metric: [], **by_metric}
        by_metric[compared.metric] += others
    if not by_metric:
        return None
    facets = tuple(Facet(_axis(metric), tuple(rows)) for metric, rows in by_metric.items())
    return Shown(
        Forest(facets), caption=_caption(facets, compared, incomparable), alt=_alt(by_metric)
    )


def _published(data: SuiteData, paper: Paper, claim: ClaimResult) -> tuple[float | None, bool]:
    """Return the paper's own difference, and whether it has one of another protocol."""
    printed = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
    if printed is None or printed.differences is None:
        return None, False
    if verdict_of(printed.differences) == COMPARABLE:
        return printed.difference * metric_scale(claim.metric), False
    return None, True  # it has no place on this axis; the table has it


def _claim_row(claim: ClaimResult, verdict: str, published: float | None) -> ForestRow:
    comparison, scale = claim.comparison, metric_scale(claim.metric)
    assert comparison is not None
    margin = None
    if claim.decision is not None and claim.comparator in ("<=", ">="):
        sign = 1.0 if claim.comparator == "<=" else -1.0
        margin = sign * claim.decision.margin * scale
    return _row(
        comparison,
        claim.metric,
        _sides(claim),
        group=CLAIMS,
        filled=claim.verdict != "undecided",
        note=verdict,
        published=published,
        margin=margin,
    )


def _sides(claim: ClaimResult) -> str:
    """Return what is subtracted from what; of means of several cells the claim's name."""
    left, right = claim.sides
    if len(left) == len(right) == 1:
        return f"{left[0].entry.name} minus {right[0].entry.name}"
    return f"{claim.id}: left minus right"


def _cell_rows(compared: Differences, claims: Sequence[ClaimResult]) -> list[ForestRow]:
    """Return the cells less the reference, but those pairs that a claim shows already."""
    reference = compared.reference
    if reference is None:
        return []
    shown = {
        frozenset(cell.entry.cell_id for side in claim.sides for cell in side)
        for claim in claims
        if claim.metric == compared.metric and all(len(side) == 1 for side in claim.sides)
    }

    def is_new(one: CellDifference) -> bool:
        pair = frozenset((one.cell.entry.cell_id, reference.entry.cell_id))
        return not one.cell.entry.control and pair not in shown

    return [
        _row(
            one.comparison,
            compared.metric,
            one.cell.entry.name,
            group=f"Minus {reference.entry.name}",
            filled=bool(significance(one)),
        )
        for one in compared.cells
        if one.comparison is not None and is_new(one)
    ]


def _row(comparison: Comparison, metric: str, label: str, **more: object) -> ForestRow:
    scale = metric_scale(metric)
    floor = noise_floor(comparison.parts)
    return ForestRow(
        f"{label}, {APPROXIMATE}" if comparison.approximate else label,
        comparison.difference * scale,
        None if comparison.low is None else comparison.low * scale,
        None if comparison.high is None else comparison.high * scale,
        images_only=not comparison.covers_seeds,
        noise=None if floor is None else floor * scale,
        **more,  # type: ignore[arg-type]
    )


def _axis(metric: str) -> str:
    return f"Difference in {metric_label(metric)} ({difference_unit(metric)})"


def _caption(facets: Sequence[Facet], compared: Differences, incomparable: bool) -> str:
    rows = [row for facet in facets for row in facet.rows]
    parts = ["Each row: one difference with its 95 % interval. Filled dots: decided."]
    if compared.reference is not None and any(row.group != CLAIMS for row in rows):
        parts.append(f"Cells without a claim: minus {compared.reference.entry.name}.")
    if any(row.images_only for row in rows):
        parts.append("Dashed: over test images only, since there is one seed.")
    if any(row.margin is not None for row in rows):
        parts.append('Orange line: the margin up to which a claim of "no better" holds.')
    if incomparable:
        parts.append(
            "The paper's own differences stand in the table only: they were measured by another "
            "protocol, and share no axis with ours."
        )
    if any(row.noise is not None for row in rows):
        parts.append(FLOOR)
    return " ".join(parts)


def _in_words(row: ForestRow, metric: str) -> str:
    """Return a difference with its interval, rounded to what that lets it bear."""
    scale = metric_scale(metric)
    if row.low is None or row.high is None:
        return show_bearable(row.difference / scale, None, metric=metric, signed=True)
    half = (row.high - row.low) / 2 / scale
    difference, low, high = (
        show_bearable(value / scale, half, metric=metric, signed=True)
        for value in (row.difference, row.low, row.high)
    )
    return f"{difference} ({low} to {high})"


def _alt(by_metric: dict[str, list[ForestRow]]) -> str:
    """Return the differences in words."""
    said = []
    for metric, rows in by_metric.items():
        for row in rows:
            shown = _in_words(row, metric)
            reference = row.group.removeprefix("Minus ") if row.group != CLAIMS else ""
            label = f"{row.label} minus {reference}" if reference else row.label
            verdict = row.note or ("differs" if row.filled else "not told apart")
            said.append(f"{label}: {metric_label(metric)} {shown}, {verdict}")
    more = len(said) - _IN_ALT
    tail = f"; and {more} more" if more > 0 else ""
    return f"Differences around zero. {'; '.join(said[:_IN_ALT])}{tail}."
