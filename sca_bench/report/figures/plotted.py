"""A suite as its plots see it: scores, cells and seeds, and what was found about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sca_bench.report.findings.answer import answer_of
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import Differences, differences
from sca_bench.report.findings.headline import Headline
from sca_bench.report.findings.paper import Paper, read_paper
from sca_bench.report.names import metric_label, show_difference, show_score
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import (
    CellRuns,
    SuiteData,
    collect,
    sound_region_scores,
)
from sca_bench.report.tables.claim_table import significance
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store


@dataclass(frozen=True, slots=True)
class PlottedSuite:
    """What the facts of a plot are computed from.

    The properties and methods are for plots of any package. The attributes are what the report
    computes for itself; their shape may change from release to release.

    Attributes:
        data: The suite's records.
        samples: Region scores, ready for statistics.
        compared: Every cell's main metric with its interval, and its difference to the reference.
        claims: What the suite claims, with verdicts.
        paper: The paper's printed numbers.
        headline: The suite's answer in words, where somebody has put it so.
    """

    data: SuiteData
    samples: Samples
    compared: Differences
    claims: Sequence[ClaimResult]
    paper: Paper
    headline: Headline | None = None

    @property
    def name(self) -> str:
        """The suite's name."""
        return self.data.manifest.suite

    @property
    def question(self) -> str:
        """What the suite asks."""
        return self.data.manifest.question

    @property
    def metrics(self) -> list[str]:
        """The values that the suite is scored by, in its order: `bleu` as its four, no slots."""
        return self.data.metrics

    @property
    def main_metric(self) -> str:
        """The first of them."""
        return self.data.main_metric

    @property
    def cells(self) -> list[str]:
        """Names of the cells in the suite's order, controls last."""
        return [cell.entry.name for cell in self.data.cells]

    @property
    def controls(self) -> list[str]:
        """Names of those cells that show what a score is worth."""
        return [cell.entry.name for cell in self.data.cells if cell.entry.control]

    @property
    def seeds(self) -> list[int]:
        """The suite's seeds."""
        return list(self.data.manifest.seeds)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Dotted name of a setting -> its values, as the suite lists them."""
        return {axis: list(values) for axis, values in self.data.manifest.axes.items()}

    @property
    def finding(self) -> str:
        """What the suite found, in one sentence; empty where nothing has a score."""
        if self.headline is not None and self.headline.in_short:
            return self.headline.in_short
        return _finding(self.compared)

    @property
    def all_zero(self) -> bool:
        """Whether every score of the main metric is zero, so that a plot of it shows nothing."""
        frame = self.data.scores.frame
        values = frame[(frame.metric == self.main_metric) & frame.value.notna()].value
        return len(values) > 0 and bool((values == 0).all())

    @property
    def nothing_but_zero(self) -> str:
        """What stands in place of a plot where `all_zero`; empty elsewhere."""
        return f"{metric_label(self.main_metric)} is 0 in every run." if self.all_zero else ""

    @property
    def frame(self) -> pd.DataFrame:
        """One value a row, a copy.

        Columns: suite, cell, cell_id, control, seed, metric, value (natural units: CIDEr-D ends at
        10, nearly all others at 1; NaN where there is none), signature, region_set, and reason
        (why there is none). What a run cost has metrics that begin with `cost/`.
        """
        return self.data.scores.frame.copy()

    def coordinates(self, cell: str) -> Mapping[str, Any]:
        """Return a cell's values on the axes; empty for one beside them.

        Raises:
            KeyError: The suite has no cell of that name.
        """
        return dict(self._runs(cell).entry.coordinates)

    def region_scores(self, cell: str, seed: int, metric: str) -> dict[str, float]:
        """Return region id -> value (natural units) of one run; empty where it has none.

        Raises:
            KeyError: The suite has no cell of that name.
        """
        cell_id = self._runs(cell).entry.cell_id
        return sound_region_scores(self.data.store, cell_id, seed, metric)[0]

    def _runs(self, name: str) -> CellRuns:
        return {cell.entry.name: cell for cell in self.data.cells}[name]


def read_plotted(store: Store, manifest: SuiteManifest, reports_dir: Path) -> PlottedSuite:
    """Return a suite as its plots see it, from its records.

    Args:
        store: The runs folder.
        manifest: The suite.
        reports_dir: Folder whose `published.csv` is read, else that beside the package.

    Raises:
        InputError: A claim cannot be read, or numbers of one metric have different signatures.
    """
    data = collect(store, manifest)
    samples = Samples(data)
    claims, paper = claim_results(data, samples), read_paper(data, Path(reports_dir))
    compared = differences(data, samples, data.main_metric)
    headline = answer_of(data, samples, claims, paper, compared).headline
    return PlottedSuite(data, samples, compared, claims, paper, headline)


def _finding(compared: Differences) -> str:
    """Return which cells differ from the reference, or how far apart the furthest lies."""
    metric, reference = compared.metric, compared.reference
    own = [one for one in compared.cells if not one.cell.entry.control]
    label = metric_label(metric)
    others = [(one, one.comparison) for one in own if one.comparison is not None]
    if reference is None or not others:
        scored = [(one.estimate.value, one.cell.entry.name) for one in own if one.estimate]
        if not scored:
            return ""
        value, best = max(scored)
        return f"Highest {label}: {best} with {show_score(value, metric=metric)}."
    name = reference.entry.name
    told = [(one.cell.entry.name, found.difference) for one, found in others if significance(one)]
    sides = {
        "higher": [cell for cell, difference in told if difference > 0],
        "lower": [cell for cell, difference in told if difference < 0],
    }
    if told:
        parts = [
            f"{_names(cells)} {'have' if len(cells) > 1 else 'has'} {word} {label} than {name}"
            for word, cells in sides.items()
            if cells
        ]
        return f"{'; '.join(parts)}."
    far, furthest = max(others, key=lambda both: abs(both[1].difference))
    where, difference = far.cell.entry.name, show_difference(furthest.difference, metric=metric)
    if len(others) == 1:
        return f"{where} is not told apart from {name}: {difference} {label}."
    return f"No cell is told apart from {name}; {where} lies furthest, {difference} {label}."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
