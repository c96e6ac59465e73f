"""The table that shows the paper's numbers beside ours, each in a column of its own."""

from __future__ import annotations

from collections.abc import Iterable

from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.paper import (
    Paper,
    PaperCell,
    PaperClaim,
    paper_claim,
    say_cell,
    say_differences,
    say_verdict,
)
from sca_bench.report.names import NO_VALUE, metric_label, metric_unit, show_difference, show_score
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.tables.tables import Column, Entry, Footnotes, Row, Table, name_entry
from sca_bench.study.suite.published import TIMES_100

_TITLE = "Beside the paper"


def paper_table(data: SuiteData, paper: Paper, notes: Footnotes) -> Table | None:
    """Return our numbers and the paper's, or None where the suite names no published row."""
    if not paper.table:
        return None
    if paper.missing:
        caption = (
            f"The suite names rows of the paper's {paper.table}, but there is {paper.missing}."
        )
        names = (Column("Cell", numeric=False), Column("Row", numeric=False))
        return Table("paper", "Paper", _TITLE, caption, names, ())
    cells = [(cell, of_paper) for cell in data.cells if (of_paper := paper.cell(cell)) is not None]
    if not cells:
        return None
    printed = dict.fromkeys(
        metric
        for _, row in cells
        for metric, value in row.values.items()
        if value.unit == TIMES_100
    )
    metrics = [metric for metric in data.metrics if metric in printed]
    counts = dict.fromkeys(
        (metric, value.unit)
        for _, row in cells
        for metric, value in row.values.items()
        if value.unit != TIMES_100
    )
    columns = [
        Column("Cell", numeric=False),
        Column("Row", f"of the paper's {paper.table}", numeric=False),
    ]
    for metric in metrics:
        columns.append(Column(f"{metric_label(metric)}, ours", metric_unit(metric)))
        columns.append(Column(f"{metric_label(metric)}, paper", "×100, as printed", True, True))  # noqa: RUF001
    columns += [Column(f"{metric_label(m)}, paper", unit, True, True) for m, unit in counts]
    columns.append(Column("Verdict", numeric=False))
    rows = []
    for cell, row in cells:
        remarks = dict.fromkeys(f"{v.source}: {v.note}" for v in row.values.values() if v.note)
        entries = [name_entry(cell, notes), Entry(row.row, notes.mark(remarks))]
        for metric in metrics:
            ours = data.scores.over_seeds(cell.entry.cell_id, metric)
            entries.append(
                Entry(NO_VALUE if ours is None else show_score(ours.mean, ours.sd, metric=metric))
            )
            entries.append(_printed(row, metric))
        entries += [_printed(row, metric) for metric, _ in counts]
        entries.append(_verdict(row, notes))
        rows.append(Row(tuple(entries), cell.entry.control))
    caption = (
        "The paper's numbers are printed values with signatures of their own: they stand beside "
        "ours, never among them, and the verdict's note says in what the two differ. Ours: mean ± "
        "sample standard deviation over seeds."
    )
    return Table("paper", "Paper", _TITLE, caption, tuple(columns), tuple(rows))


def claim_entries(
    data: SuiteData, paper: Paper, claims: Iterable[ClaimResult], notes: Footnotes
) -> dict[str, Entry]:
    """Return id -> the paper's own difference, for the claims whose two sides are published."""
    entries = {}
    for claim in claims:
        printed = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
        if printed is not None:
            remark = f"{claim.id}: {_made_of(printed)}"
            entries[claim.id] = Entry(
                show_difference(printed.difference, metric=claim.metric), notes.mark([remark])
            )
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
