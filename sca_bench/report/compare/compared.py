"""Two sides compared: each pair of cells by each metric, with what can be said of the difference.

The numbers are those of a report: the same samples, the same resamples, the same intervals. Where
several pairs are compared, p is corrected for their number, as in a report's table of differences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sca_bench.errors import InputError, did_you_mean
from sca_bench.metrics.registry import get_metric, values_of
from sca_bench.metrics.score import Scorer
from sca_bench.metrics.value_names import ValueName
from sca_bench.report.compare.changed import Changes, find_changes
from sca_bench.report.compare.scored import FILE_METRICS, score_file_side, score_shared
from sca_bench.report.compare.sides import CellPair, Paired, Side, listed_names, pair_cells
from sca_bench.report.compare.unlike import (
    Shared,
    first_run,
    has_value,
    shared_regions,
    unlike_metric,
)
from sca_bench.report.names import higher_is_better, metric_label
from sca_bench.report.read.samples import LEVEL, CellSamples, Sample, unpaired
from sca_bench.report.read.suite_data import CellRuns
from sca_bench.stats.compare import Comparison, compare_resampled
from sca_bench.stats.holm import holm
from sca_bench.stats.power import detectable

ALPHA = 0.05
"""`LEVEL` of the intervals leaves as much."""
Finding = Literal["better", "worse", "higher", "lower", "none", "same", "unknown"]
"""What can be said of B beside A. `none`: no difference was found, which does not mean that there
is none; `same`: the scores are equal, in every image and seed; `unknown`: there is no interval."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Two cells by one metric, natural units.

    Attributes:
        metric: The metric.
        a: Score of A's cell, mean over its seeds; None where it has none.
        b: That of B's.
        finding: What can be said.
        comparison: B - A; None where `hole` says why.
        p: Of no difference, corrected for the number of pairs; None without a comparison.
        detectable: The smallest difference that such a comparison finds in 80 % of cases; None
            where that is not known.
        hole: Why there is no comparison.
        notes: What a reader should know.
    """

    metric: str
    a: float | None
    b: float | None
    finding: Finding = "unknown"
    comparison: Comparison | None = None
    p: float | None = None
    detectable: float | None = None
    hole: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two cells by every metric, and the regions on which they differ."""

    pair: CellPair
    rows: tuple[MetricRow, ...]
    changes: Changes

    @property
    def main(self) -> MetricRow:
        """The row of the first metric."""
        return self.rows[0]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sides compared.

    Attributes:
        a: The first side.
        b: The second.
        metrics: The metrics, the main one first.
        pairs: The cells.
        paired: Which cells belong together, and which are left over.
        shared: Where only some regions were compared, which.
        notes: What a reader should know of all of it.
    """

    a: Side
    b: Side
    metrics: tuple[str, ...]
    pairs: tuple[ComparedPair, ...]
    paired: Paired
    shared: Shared | None = None
    notes: tuple[str, ...] = ()


def compare_sides(a: Side, b: Side, asked: Sequence[str] = (), *, shared: bool = False) -> Compared:
    """Compare two sides.

    Args:
        a: The first side.
        b: The second.
        asked: Metrics, or single values such as `bleu_4` and `slot/colour`; where nothing is named
            those that both sides have, of several cells the main one.
        shared: Compare the regions that both have, where each has others, too.

    Raises:
        InputError: They cannot be compared, with the reason; or a file is damaged.
    """
    names = _expanded(asked)
    with _Scoring() as scoring:
        a, b = scoring.files(a, b, names)
        paired, left_out = _finished(pair_cells(a, b))
        metrics = names or _common(a, b, paired)
        if not names and len(paired.pairs) > 1:
            metrics = metrics[:1]
        found = [shared_regions(a, b, pair, allowed=shared) for pair in paired.pairs]
        common = next(filter(None, found), None)
        if common is not None:
            if any(one != common for one in found):
                problem = "the cells of a suite do not all share the same regions"
                fix = "compare them one by one: SUITE/CELL"
                raise InputError("compare", f"{a.given}, {b.given}", problem, fix)
            a, b, paired = scoring.shared(a, b, paired, common, metrics)
    _check_values(names, paired)
    pairs = _compare_pairs(a, b, paired, metrics)
    _raise_faults(a, b)
    _check_comparable(a, b, pairs)
    return Compared(a, b, tuple(metrics), pairs, paired, common, (*_notes(a, b, paired), *left_out))


def _finished(paired: Paired) -> tuple[Paired, list[str]]:
    """Leave out pairs of which a cell has no finished run, where others have; and say so."""
    done = tuple(pair for pair in paired.pairs if pair.a.done and pair.b.done)
    if not done or len(done) == len(paired.pairs):
        return paired, []
    names = [pair.name for pair in paired.pairs if pair not in done]
    note = f"without a finished run on both sides, and left out: {listed_names(names)}"
    return replace(paired, pairs=done), [note]


class _Scoring:
    """Scores what has no scores yet, by one scorer that is begun where it is needed."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._scorer: Scorer | None = None

    def __enter__(self) -> _Scoring:
        return self

    def __exit__(self, *of_error: object) -> None:
        self._stack.close()

    @property
    def scorer(self) -> Scorer:
        """The scorer."""
        if self._scorer is None:
            self._scorer = self._stack.enter_context(Scorer())
        return self._scorer

    def files(self, a: Side, b: Side, names: Sequence[str]) -> tuple[Side, Side]:
        """Score files, by the metrics asked for, or else by those that the other side has."""
        if "file" not in (a.kind, b.kind):
            return a, b
        names = names or [name for side in (a, b) for name in _whole_values(side.cells)]
        names = names or _expanded(FILE_METRICS)
        sides = [score_file_side(s, names, self.scorer) if s.kind == "file" else s for s in (a, b)]
        return sides[0], sides[1]

    def shared(
        self, a: Side, b: Side, paired: Paired, shared: Shared, names: Sequence[str]
    ) -> tuple[Side, Side, Paired]:
        """Score both sides anew over the regions that they share."""
        ids = shared.region_ids
        a = score_shared(a, [pair.a for pair in paired.pairs], ids, names, self.scorer)
        b = score_shared(b, [pair.b for pair in paired.pairs], ids, names, self.scorer)
        cells = zip(paired.pairs, a.cells, b.cells, strict=True)
        pairs = tuple(CellPair(pair.name, one, other) for pair, one, other in cells)
        return a, b, replace(paired, pairs=pairs)


def _expanded(asked: Sequence[str]) -> list[str]:
    """Return the values that some names mean: four for `bleu`."""
    names: dict[str, None] = {}
    for name in asked:
        if ValueName.parse(name).metric == name and "." not in name:
            get_metric(name)
        names |= dict.fromkeys(values_of(name))
    return list(names)


def _whole_values(cells: Sequence[CellRuns]) -> list[str]:
    """Return what some cells were scored by over all regions, single slots left out."""
    records = [record for cell in cells for record in cell.done]
    names = dict.fromkeys(n for r in records for n, s in r.scores.items() if has_value(s))
    values = {name: ValueName.parse(name) for name in names}
    return [n for n, v in values.items() if not (v.part or v.slot or v.num_objects is not None)]


def _common(a: Side, b: Side, paired: Paired) -> list[str]:
    """Return the values that both sides have, in the order of a suite's metrics."""
    of_a = _whole_values([pair.a for pair in paired.pairs])
    of_b = _whole_values([pair.b for pair in paired.pairs])
    both = [name for name in of_a if name in of_b]
    order = {name: number for number, name in enumerate(a.metrics or b.metrics)}
    both.sort(key=lambda name: order.get(name, len(order)))
    if not both:
        lacking = [s for s, own in ((a, of_a), (b, of_b)) if not own]
        if lacking:
            for cell in lacking[0].cells:
                first_run(lacking[0], cell)
            fix = "run its suite, which scores it"
            raise InputError("compare", lacking[0].given, "has no scores", fix)
        where, problem = f"{a.given}, {b.given}", "have no metric in common: "
        problem += f"A has {', '.join(of_a)}; B has {', '.join(of_b)}"
        raise InputError("compare", where, problem, "run both with one list of metrics")
    return both


def _check_values(names: Sequence[str], paired: Paired) -> None:
    """Refuse a metric that was asked for and that neither side has."""
    for name in names:
        for word, cells in (("A", [p.a for p in paired.pairs]), ("B", [p.b for p in paired.pairs])):
            scores = [r.scores.get(name) for cell in cells for r in cell.done]
            if not any(score is not None and has_value(score) for score in scores):
                reasons = [s.reason for s in scores if s is not None and s.reason]
                known = [n for cell in cells for r in cell.done for n in r.scores]
                problem = f"{word} has no such value" + (f": {reasons[0]}" if reasons else "")
                fix = "" if reasons else did_you_mean(name, known)
                raise InputError("compare", name, problem, fix)


def _compare_pairs(
    a: Side, b: Side, paired: Paired, metrics: Sequence[str]
) -> tuple[ComparedPair, ...]:
    samples = CellSamples(a), CellSamples(b)
    table = [[_row(p, samples, metric) for metric in metrics] for p in paired.pairs]
    for number in range(len(metrics)):
        ps = [_p(rows[number]) for rows in table]
        adjusted = holm([1.0 if p is None else p for p in ps])
        for rows, p, corrected in zip(table, ps, adjusted, strict=True):
            if p is not None:
                rows[number] = _decided(rows[number], float(corrected))
    return tuple(
        ComparedPair(p, tuple(rows), find_changes(p, samples, metrics[0]))
        for p, rows in zip(paired.pairs, table, strict=True)
    )


def _row(pair: CellPair, samples: tuple[CellSamples, CellSamples], metric: str) -> MetricRow:
    """Return two cells by one metric, before p is corrected."""
    one, other = samples[0].of(pair.a, metric), samples[1].of(pair.b, metric)
    a, b = _value(pair.a, one, metric), _value(pair.b, other, metric)
    notes = [f"{word}: {s.note}" for word, s in (("A", one), ("B", other)) if s.note]
    unlike, asked = unlike_metric(metric, pair.a, pair.b)
    problem = unlike or unpaired(one, other).replace("left side", "A").replace("right side", "B")
    if problem or one.resampled is None or other.resampled is None:
        return MetricRow(metric, a, b, hole=problem, notes=tuple(notes))
    comparison = compare_resampled(other.resampled, one.resampled, LEVEL)
    size = detectable(comparison, ALPHA)
    sums = one.resampled.cell.sums, other.resampled.cell.sums
    finding: Finding = "same" if np.array_equal(*sums) else "unknown"
    notes += asked + list(_of_comparison(comparison))
    return MetricRow(metric, a, b, finding, comparison, comparison.p, size, notes=tuple(notes))


def _of_comparison(comparison: Comparison) -> Iterator[str]:
    if comparison.low is None:
        yield "one image: no interval"
        return
    if not comparison.covers_seeds:
        yield "one seed of a trained cell: the interval is over images only"
    if comparison.approximate:
        yield f"approximate: {comparison.approximate}"


def _value(cell: CellRuns, sample: Sample, metric: str) -> float | None:
    """Return a cell's mean over seeds; that of its records where regions have no scores."""
    if sample.resampled is not None:
        return float(sample.resampled.scores.mean())
    scores = (record.scores.get(metric) for record in cell.done)
    values = [score.value or 0.0 for score in scores if score is not None and has_value(score)]
    return sum(values) / len(values) if values else None


def _p(row: MetricRow) -> float | None:
    return row.comparison.p if row.comparison is not None else None


def _decided(row: MetricRow, p: float) -> MetricRow:
    comparison = row.comparison
    assert comparison is not None
    if row.finding == "same":
        return replace(row, p=p)
    return replace(row, p=p, finding=finding_of(comparison, higher_is_better(row.metric), p))


def finding_of(
    comparison: Comparison, higher_better: bool | None, p: float | None = None
) -> Finding:
    """Say what a comparison tells of its first cell beside its second.

    Args:
        comparison: The comparison.
        higher_better: Whether more of the metric is better; None where it is neither.
        p: Its p, corrected for a family; its own where None.
    """
    p = comparison.p if p is None else p
    if p is None:
        return "unknown"
    if comparison.se == 0 and comparison.difference == 0:
        return "same"
    if p >= ALPHA:
        return "none"
    more = comparison.difference > 0
    if higher_better is None:
        return "higher" if more else "lower"
    return "better" if more == higher_better else "worse"


def worse_pairs(compared: Compared, metric: str, margin: float = 0.0) -> list[str]:
    """Return the cells in which B is significantly worse by one metric, by name.

    B is worse where the whole interval lies on the worse side of zero, or beyond the margin; of
    several pairs with p corrected for their number.

    Args:
        compared: The comparison.
        metric: One of its metrics.
        margin: How much worse does not count yet, natural units.

    Raises:
        InputError: The metric has no worse side, or nothing can be said by it.
    """
    number = compared.metrics.index(metric)
    rows = [pair.rows[number] for pair in compared.pairs]
    if higher_is_better(metric) is None:
        fix = "name another metric"
        problem = f"neither more nor less {metric_label(metric)} is worse"
        raise InputError("--fail-if-worse", metric, problem, fix)
    ps = []
    for pair, row in zip(compared.pairs, rows, strict=True):
        comparison = row.comparison
        if comparison is None or comparison.p is None:
            reason = row.hole or "; ".join(row.notes) or "no interval"
            raise InputError("--fail-if-worse", metric, f"{pair.pair.name}: {reason}")
        higher = higher_is_better(metric)
        one_sided = (
            comparison.p_value_above(-margin) if higher else comparison.p_value_below(margin)
        )
        assert one_sided is not None
        ps.append(min(1.0, 2 * one_sided))
    named = zip(compared.pairs, holm(ps), strict=True)
    return [pair.pair.name for pair, p in named if p < ALPHA]


def _check_comparable(a: Side, b: Side, pairs: Sequence[ComparedPair]) -> None:
    """Refuse sides of which no metric can be compared, with the first reason."""
    rows = [row for pair in pairs for row in pair.rows]
    if all(row.comparison is None for row in rows):
        first = next((row for row in rows if row.hole), rows[0])
        where = f"{a.given}, {b.given}"
        raise InputError("compare", where, f"{first.metric}: {first.hole or 'no region scores'}")


def _raise_faults(a: Side, b: Side) -> None:
    """Refuse damage: a comparison without what a file held is another comparison."""
    faults = [*a.store.faults.values(), *b.store.faults.values()]
    if faults:
        first, *others = {str(fault): fault for fault in faults}.values()
        first.others = others
        raise first


def _notes(a: Side, b: Side, paired: Paired) -> tuple[str, ...]:
    """Return what a reader should know of all of it, each said once."""
    notes: dict[str, None] = {}
    for word, cells in (
        ("A", [pair.a for pair in paired.pairs]),
        ("B", [pair.b for pair in paired.pairs]),
    ):
        several = len(cells) > 1
        for cell in cells:
            name = f"{word}, {cell.entry.name}" if several else word
            for run in cell.runs:
                if run.hole:
                    notes[f"{name}: seed {run.seed} is left out: {run.hole}"] = None
            notes |= dict.fromkeys(f"{word}: {age}" for age in cell.ages)
    files = [word for word, side in (("A", a), ("B", b)) if side.kind == "file"]
    if files:
        are = "A and B are files" if len(files) > 1 else f"{files[0]} is a file"
        notes[f"{are}: nothing is known of other seeds"] = None
    twice = [p.name for p in paired.pairs if _same_runs(a, b, p)]
    if twice:
        notes[f"A and B share runs ({listed_names(twice)}): they are not independent"] = None
    return tuple(notes)


def _same_runs(a: Side, b: Side, pair: CellPair) -> bool:
    if a.kind == "file" or b.kind == "file" or pair.a.entry.cell_id != pair.b.entry.cell_id:
        return False
    seeds = {r.seed for r in pair.a.done} & {r.seed for r in pair.b.done}
    return a.pictures == b.pictures and bool(seeds)
