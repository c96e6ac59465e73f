"""A comparison in a terminal: the answer, a table, and the captions that changed most."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from sca_bench.output import one_line, text_table
from sca_bench.report.compare.changed import ChangedRegion
from sca_bench.report.compare.compared import Compared
from sca_bench.report.compare.words import (
    HEADS,
    all_notes,
    answer,
    change_table,
    changes_text,
    reference_text,
    region_text,
    shown_captions,
    shown_rows,
    side_text,
    size_text,
)
from sca_bench.report.page.caption_words import Word

_NUMBERS = HEADS[1:5]


def print_compared(console: Console, compared: Compared, regions: Sequence[ChangedRegion]) -> None:
    """Print a comparison.

    Args:
        console: Where to.
        compared: The comparison.
        regions: The regions to show, with captions.
    """

    def line(text: str | Text = "") -> None:
        console.print(text, soft_wrap=not console.is_terminal)  # a file has whole lines

    line(f"A  {side_text(compared.a)}")
    line(f"B  {side_text(compared.b)}")
    line(size_text(compared))
    line()
    line(answer(compared))
    line()
    rows = shown_rows(compared)
    several = len(compared.pairs) > 1
    table = text_table(*(["cell"] if several else []), *HEADS, right=_NUMBERS)
    for row in rows:
        table.add_row(*([row.cell] if several else []), *row.fields)
    console.print(table)
    line("Scores times 100. The interval covers other images and, where there are some, seeds.")
    for note in all_notes(compared):
        line(f"note: {note}")
    line()
    if several:
        heads, counts = change_table(compared)
        changes = text_table(*heads, right=heads[1:])
        for fields in counts:
            changes.add_row(*fields)
        console.print(changes)
    else:
        line(changes_text(compared.pairs[0].changes))
    if regions:
        line("Words between *stars* are not in the caption of the other side.")
    for region in regions:
        line()
        where = f"{region.cell}, " if several else ""
        metric = next(p.changes.metric for p in compared.pairs if p.pair.name == region.cell)
        line(Text(one_line(f"{where}{region.region_id}: {region_text(region, metric)}"), "bold"))
        _print_captions(console, region)


def _print_captions(console: Console, region: ChangedRegion) -> None:
    table = text_table("", "", "")
    table.show_header = False
    table.add_row("  reference", "", reference_text(region))
    before = ""
    for said in shown_captions(region):
        side = said.side if said.side != before else ""
        table.add_row(f"  {side}", said.seeds, _marked(said.words))
        before = said.side
    console.print(table)


def _marked(words: Sequence[Word]) -> Text:
    """Return a caption in which *words* that the other side has not stand between stars."""
    text = Text()
    for number, word in enumerate(words):
        shown = one_line(word.text)
        text.append(" " if number else "")
        text.append(f"*{shown}*" if word.differs else shown, "bold" if word.differs else "")
    return text
