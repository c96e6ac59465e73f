"""Every cell beside the suite's reference cell, and the noise floor under all differences."""

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
from sca_bench.stats.power import NoiseFloor, noise_floor


@dataclass(frozen=True, slots=True)
class CellDifference:
    """One cell by one metric, alone and against the reference cell.

    Attributes:
        cell: The cell.
        estimate: Its score with an interval; None where there is a hole.
        comparison: Cell minus reference; None for the reference itself and where there is a hole.
        p_adjusted: p after Holm over the cells that are no controls; None for others.
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
        floor: By how much runs of one cell differ that differ in the seed alone; None with one seed
            everywhere.
    """

    metric: str
    reference: CellRuns | None
    cells: tuple[CellDifference, ...]
    floor: NoiseFloor | None


def differences(data: SuiteData, samples: Samples, metric: str) -> Differences:
    """Compare every cell with the suite's reference cell.

    Raises:
        InputError: A file is damaged.
    """
    reference = _reference(data)
    compared = [_difference(data, samples, cell, reference, metric) for cell in data.cells]
    tested = [i for i, one in enumerate(compared) if _p(one) is not None]
    adjusted = holm([p for one in compared if (p := _p(one)) is not None])
    for i, p in zip(tested, adjusted, strict=True):
        compared[i] = replace(compared[i], p_adjusted=float(p))
    return Differences(metric, reference, tuple(compared), _floor(data, samples, metric))


def _p(one: CellDifference) -> float | None:
    """Return a cell's own p where it has one that counts: no control, and seeds covered."""
    comparison = one.comparison
    if comparison is None or one.cell.entry.control or not comparison.covers_seeds:
        return None
    return comparison.p


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


def _floor(data: SuiteData, samples: Samples, metric: str) -> NoiseFloor | None:
    own = [samples.of(cell, metric).resampled for cell in data.cells if not cell.entry.control]
    cells = [values.cell for values in own if values is not None]
    several = [cell for cell in cells if cell.trained and cell.num_seeds > 1]
    if not several:
        return None
    sizes = {cell.num_images for cell in several}
    weights = samples.weights(sizes.pop()) if len(sizes) == 1 else None
    return noise_floor(several, min(cell.num_seeds for cell in several), weights)
