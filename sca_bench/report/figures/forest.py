"""What the forest plots show: the claims, and every cell against the reference."""

from __future__ import annotations

from sca_bench.report.figures.forest_draw import Forest, ForestRow
from sca_bench.report.figures.write_figures import ForestPicture
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
from sca_bench.report.tables.tables import SignificanceMarks
from sca_bench.stats.compare import Comparison
from sca_bench.stats.power import noise_floor


def forests(
    data: SuiteData, paper: Paper, claims: list[ClaimResult], compared: Differences
) -> list[ForestPicture]:
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


def significance_marks(compared: Differences) -> SignificanceMarks:
    """Return the signs of significance after the main metric of each cell."""
    if compared.reference is None:
        return SignificanceMarks()
    signs = {one.cell.entry.name: significance(one) for one in compared.cells}
    says = (
        f"* differs from {compared.reference.entry.name}, p < {ALPHA:.2f} after Holm over the cells"
    )
    named = {name: sign for name, sign in signs.items() if sign}
    return SignificanceMarks(metric_label(compared.metric), named, says if named else "")


def _claims(
    data: SuiteData,
    paper: Paper,
    claims: list[ClaimResult],
    compared: Differences,
    number: int,
) -> ForestPicture:
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
        return ForestPicture("forest_claims", "Claims, drawn", caption, forest)
    return ForestPicture(f"forest_claims_{number}", f"Claims, drawn ({unit})", caption, forest)


def _cells(compared: Differences) -> ForestPicture | None:
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
    return ForestPicture("forest_cells", title, caption, forest)


def _label(name: str, comparison: Comparison) -> str:
    return f"{name}, {APPROXIMATE}" if comparison.approximate else name


def _noise(comparison: Comparison, metric: str) -> float | None:
    floor = noise_floor(comparison.parts)
    return None if floor is None else floor * metric_scale(metric)
