"""What the paper printed, beside ours: numbers where the protocols compare, else directions."""

from __future__ import annotations

from collections.abc import Iterable

from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.paper import (
    COMPARABLE,
    NOT_COMPARABLE,
    Paper,
    PaperCell,
    PaperClaim,
    differing_fields,
    paper_claim,
    say_cell,
    say_differences,
    say_verdict,
    verdict_of,
)
from sca_bench.report.names import NO_VALUE, metric_label, metric_unit, show_difference, show_score
from sca_bench.report.read.samples import LEVEL, Samples, unpaired
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.report.tables.tables import (
    Column,
    Entry,
    Footnotes,
    Row,
    Table,
    chosen_metrics,
    name_entry,
)
from sca_bench.stats.compare import compare_resampled
from sca_bench.study.suite.published import TIMES_100

_TITLE = "Beside the paper"
_TITLE_DIRECTIONS = "Directions of effect, here and in the paper"
_Cells = list[tuple[CellRuns, PaperCell]]


def paper_tables(data: SuiteData, paper: Paper, notes: Footnotes, samples: Samples) -> list[Table]:
    """Return the paper's numbers beside ours; none where the suite names no published row.

    Scores stand side by side only for cells whose protocols are comparable. For the others there
    is a table of directions: whether a cell lies above or below the reference, here and there.

    Args:
        data: The suite.
        paper: Its published numbers.
        notes: Footnotes so far.
        samples: Region scores of the suite.
    """
    if not paper.table:
        return []
    if paper.missing:
        caption = f"The suite names rows of the paper's {_words(paper.table)}"
        caption += f", but there is {paper.missing}."
        names = (Column("Cell", numeric=False), Column("Row", numeric=False))
        return [Table("paper", "Paper", _TITLE, caption, names, ())]
    cells = [(cell, of_paper) for cell in data.cells if (of_paper := paper.cell(cell)) is not None]
    measured = [(cell, row) for cell, row in cells if row.differences]
    others = [(cell, row) for cell, row in measured if not _is_alike(data, row)]
    if len(others) == len(measured) > 0:
        others = cells  # those without runs, too
    apart = {cell.entry.name for cell, _ in others}
    alike = [(cell, row) for cell, row in cells if cell.entry.name not in apart]
    tables = []
    if alike:
        tables.append(_scores(data, paper, alike, notes))
    if others:
        tables.append(_directions(data, paper, others, notes, samples))
    return tables


def _is_alike(data: SuiteData, row: PaperCell) -> bool:
    """Whether the first metric that both have is comparable with the paper's."""
    first = next((metric for metric in data.metrics if metric in row.differences), "")
    return row.verdict(first) == COMPARABLE


def _metrics(data: SuiteData, cells: _Cells) -> list[str]:
    """Return the suite's metrics that the paper prints of some of the cells."""
    printed = {m for _, row in cells for m, value in row.values.items() if value.unit == TIMES_100}
    return [metric for metric in data.metrics if metric in printed]


def _scores(data: SuiteData, paper: Paper, cells: _Cells, notes: Footnotes) -> Table:
    """Return both numbers of cells whose protocols are comparable."""
    metrics = _metrics(data, cells)
    shown = chosen_metrics(data)
    counts = dict.fromkeys(
        (metric, value.unit)
        for _, row in cells
        for metric, value in row.values.items()
        if value.unit != TIMES_100
    )
    columns = [
        Column("Cell", numeric=False),
        Column("Row", f"of the paper's {_words(paper.table)}", numeric=False),
    ]
    for metric in metrics:
        extra = metric not in shown
        label = metric_label(metric)
        columns.append(Column(f"{label}, ours", metric_unit(metric), extra=extra))
        columns.append(Column(f"{label}, paper", "×100, as printed", True, True, extra=extra))  # noqa: RUF001
    columns += [Column(f"{metric_label(m)}, paper", unit, True, True) for m, unit in counts]
    columns.append(Column("Verdict", numeric=False))
    rows = []
    for cell, row in cells:
        entries = [name_entry(cell, notes), _row_entry(row, notes)]
        for metric in metrics:
            if row.verdict(metric) == NOT_COMPARABLE:
                entries += [Entry(NO_VALUE), Entry(NO_VALUE)]
                continue
            ours = data.scores.over_seeds(cell.entry.cell_id, metric)
            entries.append(
                Entry(NO_VALUE if ours is None else show_score(ours.mean, ours.sd, metric=metric))
            )
            entries.append(_printed(row, metric))
        entries += [_printed(row, metric) for metric, _ in counts]
        entries.append(_verdict(row, notes))
        rows.append(Row(tuple(entries), cell.entry.control, cell.entry.name))
    caption = "Ours: mean ± standard deviation over seeds. Paper: as printed."
    method = (
        "The paper's numbers are printed values with signatures of their own: they stand beside "
        "ours, never among them, and the verdict's note says in what the two differ."
    )
    return Table("paper", "Paper", _TITLE, caption, tuple(columns), tuple(rows), method)


def _directions(
    data: SuiteData, paper: Paper, cells: _Cells, notes: Footnotes, samples: Samples
) -> Table:
    """Return whether cells lie above or below the reference, here and in the paper."""
    metrics = _metrics(data, cells)
    named = data.manifest.reference
    against = next((c for c in cells if named in (c[0].entry.name, *c[0].entry.also)), cells[0])
    columns = [
        Column("Cell", numeric=False),
        Column("Row", f"of the paper's {_words(paper.table)}", numeric=False),
    ]
    for metric in metrics:
        extra = metric != metrics[0]
        label = metric_label(metric)
        columns.append(Column(f"{label}, here", numeric=False, extra=extra))
        columns.append(Column(f"{label}, paper", numeric=False, extra=extra))
    columns.append(Column("Verdict", numeric=False))
    rows = []
    for cell, row in cells:
        entries = [name_entry(cell, notes), _row_entry(row, notes)]
        for metric in metrics:
            if cell is against[0]:
                entries += [Entry("reference"), Entry("reference")]
                continue
            entries.append(Entry(_direction_here(samples, cell, against[0], metric)))
            theirs = [one.values.get(metric) for one in (row, against[1])]
            both = [value.natural for value in theirs if value is not None]
            entries.append(Entry(_direction(both[0] - both[1]) if len(both) == 2 else NO_VALUE))
        entries.append(_verdict(row, notes))
        rows.append(Row(tuple(entries), cell.entry.control, cell.entry.name))
    fields = differing_fields(row for _, row in cells)
    warning = "Not comparable with the paper, which differs in "
    warning += f"{', '.join(fields)}. Scores are therefore not shown side by side."
    caption = f"Whether a cell lies above or below {against[0].entry.name}."
    method = (
        f"Significant: the {LEVEL:.0%} interval of the difference excludes zero. The paper prints "
        "no interval. The verdict's note names everything in which the two measurements differ."
    ).replace("%", " %")
    table = (_TITLE_DIRECTIONS, caption, tuple(columns), tuple(rows), method, warning)
    return Table("paper-directions", "Paper", *table)


def _direction_here(samples: Samples, cell: CellRuns, other: CellRuns, metric: str) -> str:
    """Return whether a cell lies above another, and whether significantly."""
    one, two = samples.of(cell, metric), samples.of(other, metric)
    mixed = samples.data.scores.mixture(metric, [cell.entry.cell_id, other.entry.cell_id])
    if one.resampled is None or two.resampled is None or unpaired(one, two) or mixed:
        return NO_VALUE
    found = compare_resampled(one.resampled, two.resampled, LEVEL)
    if found.low is None or found.high is None:
        return _direction(found.difference)
    shown = found.covers_seeds and found.low * found.high > 0
    return f"{_direction(found.difference)}, {'significant' if shown else 'not significant'}"


def _words(table: str) -> str:
    """Return the name of one of the paper's tables as the paper has it: `table 4`."""
    return table.replace("_", " ")


def _direction(difference: float) -> str:
    difference = round(difference, 9)
    return "equal" if difference == 0 else "higher" if difference > 0 else "lower"


def _row_entry(row: PaperCell, notes: Footnotes) -> Entry:
    remarks = dict.fromkeys(f"{v.source}: {v.note}" for v in row.values.values() if v.note)
    return Entry(row.row, notes.mark(remarks))


def claim_entries(
    data: SuiteData, paper: Paper, claims: Iterable[ClaimResult], notes: Footnotes
) -> dict[str, Entry]:
    """Return id -> the paper's own difference, for the claims whose two sides are published.

    Where the protocols are not comparable it is the direction alone.
    """
    entries = {}
    for claim in claims:
        printed = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
        if printed is not None:
            alike = printed.differences is not None
            alike = alike and verdict_of(printed.differences or ()) == COMPARABLE
            shown = show_difference(printed.difference, metric=claim.metric)
            text = shown if alike else _direction(printed.difference)
            entries[claim.id] = Entry(text, notes.mark([f"{claim.id}: {_made_of(printed)}"]))
    return entries


def _made_of(printed: PaperClaim) -> str:
    left, right = printed.left, printed.right
    seeds = left.protocol["num_seeds"]
    compared = "this profile has no finished run to compare with"
    if printed.differences is not None:
        compared = say_differences(printed.differences)
    return (
        f"the paper's {left.row} ({left.printed}) minus {right.row} ({right.printed}), "
        f"{left.source}, seeds: {seeds or 'not stated'}, no interval; stands for {printed.says}; "
        f"{compared}"
    )


def _printed(row: PaperCell, metric: str) -> Entry:
    value = row.values.get(metric)
    return Entry(NO_VALUE if value is None else value.printed)


def _verdict(row: PaperCell, notes: Footnotes) -> Entry:
    if not row.differences:
        return Entry("nothing to compare yet")
    return Entry(say_verdict(row), notes.mark([say_cell(row)]))
