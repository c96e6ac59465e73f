"""A comparison in words and rounded numbers: what terminal, Markdown and page all show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sca_bench.output import num_text
from sca_bench.report.compare.changed import ChangedRegion, Changes
from sca_bench.report.compare.compared import Compared, MetricRow
from sca_bench.report.compare.sides import Side, listed_names
from sca_bench.report.names import (
    NO_VALUE,
    difference_unit,
    metric_label,
    metric_maximum,
    metric_scale,
    show_bearable,
)
from sca_bench.report.page.caption_words import Word, compare_words, joined
from sca_bench.report.read.samples import LEVEL

MOST_WORDS = 60
"""Words of a caption that are shown."""
_MOST_SAID = 3
"""Different captions of one side that are shown."""
LEVEL_TEXT = f"{LEVEL:.0%}".replace("%", " %")
HEADS = ("metric", "A", "B", "B − A", f"{LEVEL_TEXT} interval", "verdict")  # noqa: RUF001
_FOUND = {
    "better": "B is better",
    "worse": "B is worse",
    "higher": "B is higher",
    "lower": "B is lower",
    "none": "no difference found",
    "same": "the same scores",
    "unknown": "cannot be told",
}


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row of the table.

    Attributes:
        cell: Name of the cells; empty where there is one pair.
        fields: What stands under `HEADS`.
        finding: What can be said of B (`compared.Finding`).
    """

    cell: str
    fields: tuple[str, ...]
    finding: str


@dataclass(frozen=True, slots=True)
class ShownCaption:
    """A caption of one side with its words marked; `seeds` says whose it is."""

    side: str
    seeds: str
    words: tuple[Word, ...]


def shown_rows(compared: Compared) -> list[ShownRow]:
    """Return the table: a row for each metric, of several cells for each of these."""
    several = len(compared.pairs) > 1
    return [
        ShownRow(one.pair.name if several else "", _fields(row), row.finding)
        for number in range(len(compared.metrics))
        for one in compared.pairs
        for row in (one.rows[number],)
    ]


def _fields(row: MetricRow) -> tuple[str, ...]:
    unit = "" if metric_maximum(row.metric) is not None else f" ({difference_unit(row.metric)})"
    label, half = metric_label(row.metric) + unit, _half(row)
    a, b = (_number(value, half, row.metric) for value in (row.a, row.b))
    comparison = row.comparison
    if comparison is None:
        reason = row.hole or "no region scores"
        return label, a, b, NO_VALUE, NO_VALUE, f"not compared: {reason}"
    difference = show_bearable(comparison.difference, half, metric=row.metric, signed=True)
    return label, a, b, difference, _interval(row), verdict(row)


def _number(value: float | None, half: float | None, metric: str) -> str:
    return NO_VALUE if value is None else show_bearable(value, half, metric=metric)


def _half(row: MetricRow) -> float | None:
    one = row.comparison
    return None if one is None or one.low is None or one.high is None else (one.high - one.low) / 2


def _interval(row: MetricRow) -> str:
    one, (low, high) = row.comparison, _ends(row)
    if one is None or not low:
        return NO_VALUE
    return f"{'≈ ' if one.approximate else ''}{low} to {high}"


def _ends(row: MetricRow) -> tuple[str, str]:
    """Return both ends of the interval, empty where there is none."""
    one, half = row.comparison, _half(row)
    if one is None or one.low is None or one.high is None:
        return "", ""
    low, high = (
        show_bearable(end, half, metric=row.metric, signed=True) for end in (one.low, one.high)
    )
    return low, high


def verdict(row: MetricRow) -> str:
    """Return what can be said of B by one metric, in a few words."""
    text = _FOUND[row.finding]
    found = row.finding not in ("none", "same", "unknown")
    unsure = row.comparison is not None and not row.comparison.covers_seeds
    return f"{text}, of these runs" if found and unsure else text


def answer(compared: Compared) -> str:
    """Return what comes out by the main metric, one or two sentences."""
    main = compared.metrics[0]
    by = f"by {metric_label(main)}"
    if len(compared.pairs) > 1:
        return _answer_of_many(compared, by)
    row = compared.pairs[0].main
    one = row.comparison
    if one is None or row.finding == "unknown":
        reason = row.hole or "there is no interval over one image"
        return f"Nothing can be said {by}: {reason}."
    text = verdict(row)
    difference = show_bearable(one.difference, _half(row), metric=main, signed=True)
    if row.finding == "same":
        return f"A and B have the same scores {by}."
    low, high = _ends(row)
    near = ", approximate" if one.approximate else ""
    said = f"{text[0].upper()}{text[1:]} {by}: {difference}, {LEVEL_TEXT} between {low} and "
    said += f"{high}{near}."
    if row.finding == "none" and row.detectable is not None:
        size = show_bearable(row.detectable, row.detectable, metric=main)
        said += f" Runs like these find a difference of {size} in four of five cases."
    return said


def _answer_of_many(compared: Compared, by: str) -> str:
    total = len(compared.pairs)
    parts = []
    for finding, words in _FOUND.items():
        names = [one.pair.name for one in compared.pairs if one.main.finding == finding]
        if names:
            which = f" ({listed_names(names)})" if len(names) < total else ""
            parts.append(f"{words} in {len(names)} of {total} cells{which}")
    text = "; ".join(parts)
    corrected = " p values are corrected for the number of cells; intervals are not."
    return f"{text[0].upper()}{text[1:]}, {by}.{corrected}"


def size_text(compared: Compared) -> str:
    """Return what was compared: regions, images, seeds."""
    rows = (row for one in compared.pairs for row in one.rows)
    one = next(row.comparison for row in rows if row.comparison is not None)
    text = f"{num_text(one.num_regions, 'region')} in {num_text(one.num_images, 'image')}"
    if compared.shared is not None:
        of = compared.shared
        text += f", those that A ({of.num_a:,}) and B ({of.num_b:,}) share, scored anew"
    return text


def side_text(side: Side) -> str:
    """Return what one side is: its name, and how many cells or seeds it has."""
    if side.kind == "file":
        return f"{side.given} (a file)"
    if side.kind == "suite":
        return f"{side.given} (a suite, {num_text(len(side.cells), 'cell')})"
    seeds = [str(record.seed) for record in side.cells[0].done]
    name = side.cells[0].entry.name
    text = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}"
    return f"{side.given} ({'' if name in side.given else name + ', '}{text})"


def all_notes(compared: Compared) -> list[str]:
    """Return what a reader should know, each said once, with the metrics that it is about."""
    about: dict[str, list[str]] = {}
    rows = [(one.pair.name, row) for one in compared.pairs for row in one.rows]
    for _, row in rows:
        for note in row.notes:
            labels = about.setdefault(note, [])
            label = metric_label(row.metric)
            labels += [] if label in labels else [label]
    everything = {metric_label(row.metric) for _, row in rows if row.comparison is not None}
    notes = list(compared.notes)
    for note, labels in about.items():
        notes.append(note if everything <= set(labels) else f"{', '.join(labels)}: {note}")
    for word, names in (("A", compared.paired.only_a), ("B", compared.paired.only_b)):
        if names:
            notes.append(f"only {word} has {listed_names(names)}")
    return notes


def changes_text(changes: Changes) -> str:
    """Return what became of all regions of two cells, one sentence."""
    if not changes.metric:
        return "There are no scores of single regions, so none are listed."
    total = changes.num_regions
    if changes.right_to_wrong is None or changes.wrong_to_right is None:
        same = total - changes.better - changes.worse
        return (
            f"By {metric_label(changes.metric)}, {changes.better:,} of {num_text(total, 'region')} "
            f"are better in B, {changes.worse:,} worse, {same:,} alike."
        )
    both = changes.both_right or 0
    wrong = total - both - changes.right_to_wrong - changes.wrong_to_right
    text = (
        f"Of {num_text(total, 'region')}, {changes.right_to_wrong:,} went from right to wrong and "
        f"{changes.wrong_to_right:,} from wrong to right; both have {both:,} right and {wrong:,} "
        "wrong (exact match, in more than half of the seeds)."
    )
    if changes.of_seeds is not None:
        text += f" Two seeds of one cell differ on {changes.of_seeds:,.0f}."
    return text


CHANGE_HEADS = (
    *("cell", "regions", "right to wrong", "wrong to right", "both right", "two seeds differ"),
    *("better", "worse"),
)


def change_rows(compared: Compared) -> list[tuple[str, ...]]:
    """Return what became of all regions of several cells, under `CHANGE_HEADS`.

    Regions are right by exact match in more than half of the seeds, better and worse by the main
    metric.
    """
    rows = []
    for one in compared.pairs:
        found = one.changes
        counts = (found.right_to_wrong, found.wrong_to_right, found.both_right, found.of_seeds)
        shown = [NO_VALUE if count is None else f"{count:,.0f}" for count in counts]
        moved = [
            f"{count:,}" if found.metric else NO_VALUE for count in (found.better, found.worse)
        ]
        rows.append((one.pair.name, f"{found.num_regions:,}", *shown, *moved))
    return rows


def region_text(region: ChangedRegion, metric: str) -> str:
    """Return what became of a region, and its own score on both sides."""
    label = metric_label(metric)
    scale = metric_scale(metric)
    return f"{region.kind}, {label} {region.a * scale:,.0f} → {region.b * scale:,.0f}"


def shown_captions(region: ChangedRegion) -> list[ShownCaption]:
    """Return what both sides said of a region, with the words that the other side has not.

    Of each side the most frequent caption is compared with the other's; every further one with the
    other side's most frequent one, too.
    """
    shown = []
    sides = (("A", region.said_a, region.said_b), ("B", region.said_b, region.said_a))
    for side, own, others in sides:
        num = sum(said.num_seeds for said in own)
        for said in own[:_MOST_SAID]:
            words = _words(said.caption)
            if others:
                words, _ = compare_words(words, _words(others[0].caption))
            seeds = f"{said.num_seeds} of {num} seeds" if num > 1 else ""
            shown.append(ShownCaption(side, seeds, tuple(joined(words)) or (Word("(empty)"),)))
        if len(own) > _MOST_SAID:
            rest = sum(said.num_seeds for said in own[_MOST_SAID:])
            shown.append(ShownCaption(side, f"{rest} of {num} seeds", (Word("(others)"),)))
        if not own:
            shown.append(ShownCaption(side, "", (Word("(no caption was kept)"),)))
    return shown


def _words(caption: str) -> list[Word]:
    words = caption.split()
    more = ["…"] if len(words) > MOST_WORDS else []
    return [Word(text) for text in [*words[:MOST_WORDS], *more]]


def reference_text(region: ChangedRegion) -> str:
    """Return a region's references, the first few of many."""
    texts = [" ".join(_plain(text)) for text in region.references[:_MOST_SAID]]
    more = len(region.references) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def _plain(text: str) -> Iterator[str]:
    yield from (word.text for word in _words(text))
