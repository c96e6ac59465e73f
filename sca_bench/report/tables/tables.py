"""The tables of a report as plain data; Markdown and HTML are two ways to write the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from sca_bench.metrics.value_names import SEEN, SLOT, SLOT_BY_OBJECTS, SLOTS, TRAIN, ValueName
from sca_bench.report.names import (
    ANY_VALUE,
    COSTS,
    NO_VALUE,
    difference_unit,
    expand_metrics,
    is_numeric,
    metric_label,
    metric_scale,
    metric_unit,
    show_number,
    show_score,
)
from sca_bench.report.read.cost_settings import cost_notes
from sca_bench.report.read.lineage import lineage_lines
from sca_bench.report.read.processors import processor_notes
from sca_bench.report.read.suite_data import COST, CellRuns, SuiteData
from sca_bench.stats.power import noise_floor
from sca_bench.stats.variance import SeedPart
from sca_bench.study.suite.yaml_values import show_value

MOST_METRICS = 8
"""Metrics that a table shows at once."""
Rank = Literal["", "best"]
Tone = Literal["", "reproduced", "contradicted", "scoped", "undecided", "incomparable"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its unit (empty for words) and whether it holds numbers.

    A `published` column holds printed numbers and nothing else. `metric` is the metric whose values
    it holds, in which cells that are not shown to be below the best are marked; empty for others.
    An `extra` column is one that a reader looks up: it can be folded away (`tables.parts`).
    """

    label: str
    unit: str = ""
    numeric: bool = True
    published: bool = False
    metric: str = ""
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a table.

    Attributes:
        text: What it says.
        notes: Numbers of its footnotes.
        value: The number of a score, as displayed; None where there is none.
        rank: `best` where it is not shown to be below the best of its column
            (`report.tables.ranks`); empty for the others.
        tone: Which of a claim's verdicts it is, for the page to colour; empty for the others. A
            contradiction is `scoped` where its protocol is not comparable with the paper's.
    """

    text: str
    notes: tuple[int, ...] = ()
    value: float | None = None
    rank: Rank = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `control` rows are set apart. `cell` is the name of the cell it is about, if any."""

    entries: tuple[Entry, ...]
    control: bool = False
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        id: Its name, unique in a report.
        short: Its name in a menu.
        title: Its heading.
        caption: What a reader must know to read it, one line.
        columns: Its columns.
        rows: Its rows.
        method: How its numbers were made, at length; can be folded away.
        warning: What must be read before its numbers, one line; empty where nothing must.
    """

    id: str
    short: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    method: str = ""
    warning: str = ""


@dataclass(slots=True)
class Footnotes:
    """Numbers footnotes in order of appearance; the same text keeps its number."""

    texts: list[str] = field(default_factory=list)

    def mark(self, texts: Iterable[str]) -> tuple[int, ...]:
        """Return the numbers of some footnotes, adding those that are new."""
        numbers = []
        for text in dict.fromkeys(text for text in texts if text):
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return tuple(numbers)


def score_table(data: SuiteData, notes: Footnotes) -> Table:
    """Return the main table: one row per cell with coordinates, metrics and costs."""
    axes = list(data.manifest.axes)
    params, costs = COSTS[:2], COSTS[2:]
    chosen = chosen_metrics(data)
    columns = [
        Column("Cell", numeric=False),
        *(
            Column(axis, numeric=is_numeric(v), extra=True)
            for axis, v in data.manifest.axes.items()
        ),
        Column("Seeds", "done of planned"),
        *(Column(cost.label, cost.unit, extra=True) for cost in params),
        *(_metric_column(metric, extra=metric not in chosen) for metric in data.metrics),
        *(Column(cost.label, cost.unit, extra=True) for cost in costs),
    ]
    remarks = (processor_notes(data.cells), cost_notes(data.cells))
    rows = []
    for cell in data.cells:
        entries = [
            name_entry(cell, notes),
            *(_coordinate(cell, axis) for axis in axes),
            seeds_entry(cell, notes, *(said.get(cell.entry.cell_id, "") for said in remarks)),
            *(_cost(data, cell, cost.key, notes) for cost in params),
            *(_score(data, cell, metric, notes) for metric in data.metrics),
            *(_cost(data, cell, cost.key, notes) for cost in costs),
        ]
        rows.append(Row(tuple(entries), cell.entry.control, cell.entry.name))
    floor = _floor_row(data, columns)
    if floor is not None:
        rows.append(floor)
    other = any(difference_unit(metric) != difference_unit("") for metric in data.metrics)
    counted = " unless the column names a unit" if other else ""
    caption = f"Mean ± standard deviation over seeds, times 100{counted}."
    method = (
        "Metrics: mean ± sample standard deviation over the finished seeds (no ± with one seed), "
        f"times 100{counted}. Costs: mean over the finished seeds; own compute: the cell's part of "
        "its training steps; shared compute: what its group does once for all of its cells (frozen "
        "features). Noise floor (A/A): what seeds alone make two cells differ by, at most, in 95 % "
        "of cases. Each pair of cells has its own; the smallest and the largest are given."
    )
    title = "Scores and costs"
    return Table("scores", "Scores", title, caption, tuple(columns), tuple(rows), method)


def chosen_metrics(data: SuiteData) -> list[str]:
    """Return the metrics that tables show at once: those the suite names, of a group the last."""
    groups = [expand_metrics([metric]) for metric in data.manifest.metrics]
    return list(dict.fromkeys(group[-1] for group in groups if group))[:MOST_METRICS]


def slot_table(data: SuiteData, notes: Footnotes) -> Table | None:
    """Return the accuracy per slot, or None where nobody asked for slots and there are none."""
    measured = data.scores.metrics()
    wanted = SLOTS in measured or (SLOTS in data.manifest.metrics and not data.scores.metrics(SLOT))
    metrics = [*([SLOTS] if wanted else []), *data.scores.metrics(SLOT)]
    if not metrics:
        return None
    columns = [Column("Cell", numeric=False)]
    columns += [_metric_column(metric) for metric in metrics]
    rows = []
    for cell in data.cells:
        entries = [name_entry(cell, notes), *(_score(data, cell, m, notes) for m in metrics)]
        rows.append(Row(tuple(entries), cell.entry.control, cell.entry.name))
    caption = "Share of regions whose caption fills the slot correctly; ± as for scores."
    return Table("slots", "Slots", "Slot accuracy", caption, tuple(columns), tuple(rows))


def parts_table(data: SuiteData, notes: Footnotes) -> Table | None:
    """Return scores over other regions than all test regions, or None where there are none."""
    subsets = data.manifest.subsets
    parts = (TRAIN, SEEN, *subsets)
    metrics = [m for part in parts for m in data.scores.metrics(f"{part}/")]
    if not metrics:
        return None
    columns = [Column("Cell", numeric=False)]
    columns += [_metric_column(metric) for metric in metrics]
    rows = []
    for cell in data.cells:
        entries = [name_entry(cell, notes), *(_score(data, cell, m, notes) for m in metrics)]
        rows.append(Row(tuple(entries), cell.entry.control, cell.entry.name))
    says = {
        TRAIN: "train: training regions against their own references (as dealt: against the "
        "captions that were dealt to them)",
        SEEN: "seen: test regions whose reference occurs in training",
    }
    says |= {name: f"{name.replace('_', ' ')}: {which}" for name, which in subsets.items()}
    there = {ValueName.parse(metric).part for metric in metrics}
    shown = [text for part, text in says.items() if part in there]
    method = f"{'; '.join(shown)}."
    title = "Training regions, and test regions with seen references"
    if subsets:
        title = "Other sets of regions"
        listed = "; ".join(f"{name}: {which}" for name, which in subsets.items())
        method += f" Parts of the test regions, scored by themselves: {listed}."
    caption = "Scored by themselves; ± as for scores."
    return Table("parts", "Parts", title, caption, tuple(columns), tuple(rows), method)


def slot_by_objects_table(data: SuiteData, notes: Footnotes) -> Table | None:
    """Return slot accuracy by the number of objects in the image, or None without such scores."""
    metrics = data.scores.metrics(SLOT_BY_OBJECTS)
    if not metrics:
        return None
    names = [ValueName.parse(metric) for metric in metrics]
    numbers = sorted({name.num_objects for name in names if name.num_objects is not None})
    slots = list(dict.fromkeys(name.slot for name in names))
    columns = [Column("Cell", numeric=False), Column("Objects")]
    columns += [Column(slot.replace("_", " "), metric_unit(SLOT + slot)) for slot in slots]
    rows = []
    for cell in data.cells:
        for number in numbers:
            wanted = [str(ValueName(SLOTS, slot, number)) for slot in slots]
            scores = (_score(data, cell, metric, notes) for metric in wanted)
            entries = (name_entry(cell, notes), Entry(str(number)), *scores)
            rows.append(Row(entries, cell.entry.control, cell.entry.name))
    caption = "Slot accuracy by the number of objects in the image; ± as for scores."
    method = "With two objects a neighbour is simply the other one."
    title = "Accuracy by number of objects"
    rows_of = tuple(rows)
    return Table("slots-by-objects", "By objects", title, caption, tuple(columns), rows_of, method)


def name_entry(cell: CellRuns, notes: Footnotes) -> Entry:
    """Return a cell's name, with footnotes.

    They say which names it has, what was adjusted, what it was fine-tuned from, and which older
    code made its runs.
    """
    entry = cell.entry
    joined = [f"{entry.name}: {entry.note}"] if entry.note else []
    adjusted = [f"{entry.name}: {k} adjusted to {show_value(v)}" for k, v in entry.adjusted.items()]
    remarks = [f"{entry.name}: {note}" for record in cell.done for note in record.notes]
    before = [f"{entry.name}: {line}" for line in lineage_lines(cell)]
    name = f"{entry.name} (control)" if entry.control else entry.name
    return Entry(name, notes.mark([*joined, *adjusted, *before, *remarks, *cell.ages]))


def _coordinate(cell: CellRuns, axis: str) -> Entry:
    coordinates = cell.entry.coordinates
    if axis in coordinates:
        return Entry(show_value(coordinates[axis]))
    return Entry(ANY_VALUE if axis in cell.entry.ignored else NO_VALUE)


def seeds_entry(cell: CellRuns, notes: Footnotes, *remarks: str) -> Entry:
    """Return how many seeds are done, the others with their reasons, and remarks on the runs."""
    holes = [f"{cell.entry.name}, seed {run.seed}: {run.hole}" for run in cell.runs if run.hole]
    said = [*holes, *remarks, cell.uncovered]
    return Entry(f"{len(cell.done)} of {len(cell.runs)}", notes.mark(said))


def _floor_row(data: SuiteData, columns: Sequence[Column]) -> Row | None:
    """Return the noise floor of every metric, from the least to the greatest of a pair of cells.

    None where no pair of cells has one.
    """
    cells = [cell for cell in data.cells if not cell.entry.control]
    entries = {}
    for metric in data.metrics:
        parts = [part for cell in cells if (part := _seed_part(data, cell, metric))]
        floors = [noise_floor(pair) for pair in combinations(parts, 2)]
        known = [floor for floor in floors if floor is not None]
        if known:
            ends = [show_score(end(known), metric=metric) for end in (min, max)]
            entries[metric_label(metric)] = "± " + " to ".join(dict.fromkeys(ends))
    if not entries:
        return None
    texts = [entries.get(column.label, NO_VALUE) for column in columns[1:]]
    return Row((Entry("noise floor (A/A)"), *map(Entry, texts)), control=True)


def _seed_part(data: SuiteData, cell: CellRuns, metric: str) -> SeedPart | None:
    """Return how far a cell's seeds lie apart by one metric; None where it has no numbers."""
    summary = data.scores.over_seeds(cell.entry.cell_id, metric)
    if summary is None:
        return None
    return SeedPart(summary.num_seeds, cell.is_trained, (summary.sd or 0.0) ** 2)


def _metric_column(metric: str, *, extra: bool = False) -> Column:
    return Column(metric_label(metric), metric_unit(metric), metric=metric, extra=extra)


def _score(data: SuiteData, cell: CellRuns, metric: str, notes: Footnotes) -> Entry:
    if not cell.done:
        return Entry(NO_VALUE, seeds_entry(cell, notes).notes)
    rows = data.scores.rows(cell.entry.cell_id, metric)
    missing = [row for row in rows if row.value is None]
    done = {record.seed for record in cell.done}
    reasons = [
        f"{metric_label(metric)}, {cell.entry.name}, seed {row.seed}: {row.reason}"
        for row in missing
        if row.seed in done
    ]
    if len(reasons) == len(done) and len({row.reason for row in missing}) == 1:
        who = "" if _nobody_has(data, metric, missing[0].reason) else f", {cell.entry.name}"
        reasons = [f"{metric_label(metric)}{who}: {missing[0].reason}"]
    if not rows:
        reasons = [f"{metric_label(metric)}, {cell.entry.name}: not computed"]
    sets = data.scores.region_sets(metric)
    if len(sets) > 1:
        own = [key for key, cells in sets.items() if cell.entry.name in cells]
        reasons += [f"scored on region set {key or 'not stated'}" for key in own]
    summary = data.scores.over_seeds(cell.entry.cell_id, metric)
    if summary is None:
        return Entry(NO_VALUE, notes.mark(reasons))
    text = show_score(summary.mean, summary.sd, metric=metric)
    return Entry(text, notes.mark(reasons), summary.mean * metric_scale(metric))


def _nobody_has(data: SuiteData, metric: str, reason: str) -> bool:
    """Say whether a metric is missing from every finished run for one and the same reason."""
    done = [(cell.entry.cell_id, record.seed) for cell in data.cells for record in cell.done]
    rows = [row for cell in data.cells for row in data.scores.rows(cell.entry.cell_id, metric)]
    own = [row for row in rows if (row.cell_id, row.seed) in set(done)]
    return len(own) == len(done) and all(row.value is None and row.reason == reason for row in own)


def _cost(data: SuiteData, cell: CellRuns, key: str, notes: Footnotes) -> Entry:
    cost = next(column for column in COSTS if column.key == key)
    summary = data.scores.over_seeds(cell.entry.cell_id, COST + key)
    if summary is None:
        if not cell.done:
            return Entry(NO_VALUE, seeds_entry(cell, notes).notes)
        return Entry(NO_VALUE, notes.mark(["not in the run's cost ledger"]))
    return Entry(show_number(summary.mean * cost.factor, cost.decimals))


@dataclass(frozen=True, slots=True)
class SignificanceMarks:
    """Signs of significance after the values of one column, such as stars.

    Attributes:
        column: Label of the column; a table without it stays as it is.
        signs: Name of a cell -> plain sign, such as `*`.
        says: What the sign means, set under the table.
    """

    column: str = ""
    signs: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
