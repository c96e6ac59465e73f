"""Every cell beside the suite's reference cell, and how far runs of one cell lie apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sca_bench.report.read.samples import LEVEL, Samples, unpaired
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.stats.compare import (
    Comparison,
    Estimate,
    compare_resampled,
    estimate_resampled,
)
from sca_bench.stats.holm import holm
from sca_bench.stats.power import SeedPairs, seed_pairs


@dataclass(frozen=True, slots=True)
class CellDifference:
    """One cell by one metric, alone and against the reference cell.

    Attributes:
        cell: The cell.
        estimate: Its score with an interval; None where there is a hole.
        comparison: Cell minus reference; None for the reference itself and where there is a hole.
        p_adjusted: p after Holm over all cells that are no controls, of which one without a p of
            its own counts with one; None for that one, and for controls.
        note: What a reader should know.
        hole: Why there is no score.
        unpaired: Why there is no difference, although there is a score.
    """

    cell: CellRuns
    estimate: Estimate | None
    comparison: Comparison | None = None
    p_adjusted: float | None = None
    note: str = ""
    hole: str = ""
    unpaired: str = ""


@dataclass(frozen=True, slots=True)
class Differences:
    """All cells by one metric.

    Attributes:
        metric: The metric.
        reference: The cell the others are compared with; None where this run of the suite has none.
        cells: One entry per cell, in the suite's order.
        pairs: Pairs of runs of one cell that differ in the seed alone (A/A).
    """

    metric: str
    reference: CellRuns | None
    cells: tuple[CellDifference, ...]
    pairs: SeedPairs


def differences(data: SuiteData, samples: Samples, metric: str) -> Differences:
    """Compare every cell with the suite's reference cell.

    Raises:
        InputError: A file is damaged.
    """
    reference = _reference(data)
    compared = [_difference(data, samples, cell, reference, metric) for cell in data.cells]
    family = [i for i, one in enumerate(compared) if _is_tested(one.cell, reference)]
    p_values = [_p(compared[i]) for i in family]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    for i, p, p_adjusted in zip(family, p_values, adjusted, strict=True):
        if p is not None:
            compared[i] = replace(compared[i], p_adjusted=float(p_adjusted))
    return Differences(metric, reference, tuple(compared), _pairs(data, samples, metric))


def _is_tested(cell: CellRuns, reference: CellRuns | None) -> bool:
    """Whether a cell counts in the correction: all but controls, whatever became of their runs."""
    return reference is not None and cell is not reference and not cell.entry.control


def _p(one: CellDifference) -> float | None:
    """Return a cell's own p where it has one that covers seeds."""
    comparison = one.comparison
    return comparison.p if comparison is not None and comparison.covers_seeds else None


def _reference(data: SuiteData) -> CellRuns | None:
    own = [cell for cell in data.cells if not cell.entry.control] or list(data.cells)
    named = data.manifest.reference
    if not named:
        return own[0] if own else None
    return next((cell for cell in own if named in (cell.entry.name, *cell.entry.also)), None)


def _difference(
    data: SuiteData,
    samples: Samples,
    cell: CellRuns,
    reference: CellRuns | None,
    metric: str,
) -> CellDifference:
    own = samples.of(cell, metric)
    if own.resampled is None:
        return CellDifference(cell, None, hole=own.hole)
    alone = estimate_resampled(own.resampled, LEVEL)
    if reference is None or cell is reference:
        return CellDifference(cell, alone, note=own.note)
    other = samples.of(reference, metric)
    problem = unpaired(own, other).replace("right side", "reference")
    problem = problem or data.scores.mixture(metric, [cell.entry.cell_id, reference.entry.cell_id])
    if problem or other.resampled is None:
        return CellDifference(cell, alone, note=own.note, unpaired=problem)
    comparison = compare_resampled(own.resampled, other.resampled, LEVEL)
    return CellDifference(cell, alone, comparison, note=own.note)


def _pairs(data: SuiteData, samples: Samples, metric: str) -> SeedPairs:
    own = [samples.of(cell, metric).resampled for cell in data.cells if not cell.entry.control]
    cells = [values.cell for values in own if values is not None]
    sizes = {cell.num_images for cell in cells}
    return seed_pairs(cells, samples.weights(sizes.pop()) if len(sizes) == 1 else None)
