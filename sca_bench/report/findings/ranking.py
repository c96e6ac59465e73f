"""Which cells of a suite are not shown to be below the best one, by one metric."""

from __future__ import annotations

from dataclasses import dataclass, field

from sca_bench.report.names import higher_is_better
from sca_bench.report.read.samples import LEVEL, Samples, unpaired
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.stats.compare import Comparison, compare_resampled
from sca_bench.stats.holm import holm

ALPHA = 1 - LEVEL


@dataclass(frozen=True, slots=True)
class Rival:
    """A cell beside the best one.

    Attributes:
        cell: The cell.
        comparison: The best cell minus this one.
        is_below: Whether it is shown to be below the best: after Holm's correction over all cells,
            with seeds covered.
    """

    cell: CellRuns
    comparison: Comparison
    is_below: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """All cells but controls by one metric.

    Attributes:
        metric: The metric.
        best: The cell with the best mean; None where there is none, the metric has no better end,
            or its cells were scored on different regions.
        rivals: The other cells with scores, in the suite's order.
    """

    metric: str
    best: CellRuns | None = None
    rivals: tuple[Rival, ...] = ()

    @property
    def marked(self) -> frozenset[str]:
        """Names of the best cell and of those not shown to be below it; none without rivals."""
        if self.best is None or not self.rivals:
            return frozenset()
        tied = (rival.cell.entry.name for rival in self.rivals if not rival.is_below)
        return frozenset([self.best.entry.name, *tied])


@dataclass(frozen=True, slots=True)
class Rankings:
    """The rankings of a suite, each made when it is asked for."""

    data: SuiteData
    samples: Samples
    _found: dict[str, Ranking] = field(default_factory=dict)

    def marked(self, metric: str) -> frozenset[str]:
        """Return the names of the cells that are not shown to be below the best."""
        return self.of(metric).marked

    def of(self, metric: str) -> Ranking:
        """Return the cells by one metric.

        Raises:
            InputError: A file cannot be read.
        """
        if metric not in self._found:
            self._found[metric] = self._ranking(metric)
        return self._found[metric]

    def _ranking(self, metric: str) -> Ranking:
        data, samples = self.data, self.samples
        higher = higher_is_better(metric)
        own = [cell for cell in data.cells if not cell.entry.control]
        if higher is None or len(data.scores.region_sets(metric)) != 1:
            return Ranking(metric)
        if data.scores.mixture(metric, [cell.entry.cell_id for cell in own]):
            return Ranking(metric)
        found = [(cell, samples.of(cell, metric)) for cell in own]
        scored = [(cell, one, one.resampled) for cell, one in found if one.resampled is not None]
        if not scored:
            return Ranking(metric)
        scores = [float(resampled.scores.mean()) for _, _, resampled in scored]
        best, first, top = scored[scores.index((max if higher else min)(scores))]
        others = [
            (cell, compare_resampled(top, resampled, LEVEL))
            for cell, one, resampled in scored
            if cell is not best and not unpaired(first, one)
        ]
        adjusted = holm([1.0 if c.p is None or not c.covers_seeds else c.p for _, c in others])
        rivals = (
            Rival(cell, comparison, bool(p < ALPHA))
            for (cell, comparison), p in zip(others, adjusted, strict=True)
        )
        return Ranking(metric, best, tuple(rivals))
