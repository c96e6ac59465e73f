"""What the forest plots show: the claims, and every cell against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.differences import Differences
from sca_bench.report.findings.paper import COMPARABLE, Paper, paper_claim, verdict_of
from sca_bench.report.names import difference_unit, metric_label, metric_scale
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.tables.claim_table import (
    ALPHA,
    APPROXIMATE,
    floor_text,
    needs,
    significance,
)
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


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference.

    Attributes:
        label: What is compared.
        difference: Displayed units.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        group: Rows of one group stand together under its name, in the order given.
        filled: Whether the mark is filled, such as for what is told apart from zero.
        note: Said at the right of the row.
        published: The paper's own difference, displayed units.
        images_only: Whether the interval knows nothing of other seeds.
        noise: Half width of the row's band around zero that seeds alone fill; None draws none.
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


@dataclass(frozen=True, slots=True)
class Forest:
    """The data of the plot.

    Attributes:
        rows: The differences, from top to bottom.
        axis: What the horizontal axis says, with the unit.
        noise_says: What the legend says of the bands around zero.
        filled_says: What a filled mark means; empty leaves it out of the legend.
        hollow_says: What a hollow mark means.
        interval_says: What the line through a mark is.
    """

    rows: tuple[ForestRow, ...]
    axis: str
    noise_says: str = "noise floor"
    filled_says: str = ""
    hollow_says: str = ""
    interval_says: str = "95 % interval"


def facts(suite: PlottedSuite) -> list[Shown]:
    """Return the forest plots of a suite with their texts."""
    return forests(suite.data, suite.paper, suite.claims, suite.compared)


def forests(
    data: SuiteData, paper: Paper, claims: Sequence[ClaimResult], compared: Differences
) -> list[Shown]:
    """Return the forest plots of a suite, those with something to show; claims by their unit."""
    units: dict[str, list[ClaimResult]] = {}
    for claim in claims:
        if claim.comparison is not None:
            units.setdefault(difference_unit(claim.metric), []).append(claim)
    pictures = [
        _claims(data, paper, own, compared, number)
        for number, own in enumerate(units.values(), start=1)
    ]
    cells = _cells(compared)
    return pictures if cells is None else [*pictures, cells]


def _claims(
    data: SuiteData,
    paper: Paper,
    claims: list[ClaimResult],
    compared: Differences,
    number: int,
) -> Shown:
    rows, incomparable = [], False
    shown = sorted(claims, key=lambda claim: claim.metric != data.main_metric)  # stable
    metrics = list(dict.fromkeys(claim.metric for claim in shown))
    for claim in shown:
        comparison, scale = claim.comparison, metric_scale(claim.metric)
        assert comparison is not None
        published = None
        printed = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
        if printed is not None and printed.differences is not None:
            # Another protocol's difference has no place on this axis; the table has it.
            if verdict_of(printed.differences) == COMPARABLE:
                published = printed.difference * scale
            else:
                incomparable = True
        decided = claim.verdict != "undecided"
        rows.append(
            ForestRow(
                _label(f"{claim.id} ({claim.comparator})", comparison),
                comparison.difference * scale,
                None if comparison.low is None else comparison.low * scale,
                None if comparison.high is None else comparison.high * scale,
                metric_label(claim.metric) if len(metrics) > 1 else "",
                decided,
                claim.verdict if decided else f"undecided: {needs(claim)}",
                published,
                images_only=not comparison.covers_seeds,
                noise=_noise(comparison, claim.metric),
            )
        )
    label = metric_label(metrics[0]) if len(metrics) == 1 else "Metric"
    unit = difference_unit(metrics[0])
    forest = Forest(
        tuple(rows),
        f"{label}, left minus right ({unit})",
        filled_says="decided",
        hollow_says="undecided",
    )
    caption = (
        "The claims of the table above, each with the sign it claims between its sides: left side "
        "minus right side, with 95 % intervals."
    )
    if incomparable:
        caption += (
            " The paper's own differences are in the table only: they were measured by another "
            "protocol, and share no axis with ours."
        )
    if number == 1:
        return Shown(forest, "Claims, drawn", caption, _alt("Claims, drawn"), "forest_claims")
    title = f"Claims, drawn ({unit})"
    return Shown(forest, title, caption, _alt(title), f"forest_claims_{number}")


def _cells(compared: Differences) -> Shown | None:
    scale, reference = metric_scale(compared.metric), compared.reference
    rows = []
    for one in compared.cells:
        comparison = one.comparison
        if comparison is None or one.cell.entry.control:
            continue
        rows.append(
            ForestRow(
                _label(one.cell.entry.name, comparison),
                comparison.difference * scale,
                None if comparison.low is None else comparison.low * scale,
                None if comparison.high is None else comparison.high * scale,
                filled=bool(significance(one)),
                images_only=not comparison.covers_seeds,
                noise=_noise(comparison, compared.metric),
            )
        )
    if not rows or reference is None:
        return None
    label, name = metric_label(compared.metric), reference.entry.name
    forest = Forest(
        tuple(rows),
        f"{label}, minus {name} ({difference_unit(compared.metric)})",
        filled_says=f"p < {ALPHA:.2f} after Holm",
        hollow_says="not told apart",
    )
    title = f"Difference to {name}"
    caption = f"Every cell that is no control, minus {name}, with 95 % intervals over images and "
    caption += "seeds (dashed: over images only, since there is one seed). " + floor_text(compared)
    return Shown(forest, title, caption, _alt(title), "forest_cells")


def _label(name: str, comparison: Comparison) -> str:
    return f"{name}, {APPROXIMATE}" if comparison.approximate else name


def _noise(comparison: Comparison, metric: str) -> float | None:
    floor = noise_floor(comparison.parts)
    return None if floor is None else floor * metric_scale(metric)


def _alt(title: str) -> str:
    return f"{title}: differences with their intervals around zero"
