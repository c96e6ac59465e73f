"""Scores without a tokenizer: exact match, macro recall, and the slots of a grammar's captions.

Captions that share a grammar hide a chance word from CIDEr-D, so each slot is looked at by itself;
and where an image holds two objects, the neighbour is simply the other one, so accuracy is also
given by the number of regions in the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from sca_bench.errors import NotComputed, did_you_mean, near_name
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.value_names import MEAN_OF_SLOTS, SLOTS, ValueName

WITHOUT = "exact_match_without_"


def exact_match(rows: Sequence[CaptionRow], key: str = "exact_match") -> Scored:
    """Share of captions equal to one of their references, but for case and runs of space.

    Raises:
        NotComputed: No rows.
    """
    return _mean(key, [float(_is_right(row)) for row in rows], rows)


def exact_match_without(rows: Sequence[CaptionRow], phrase: str, key: str = "") -> Scored:
    """Exact match over the regions that have no reference equal to `phrase`.

    A phrase that names half the regions (such as `person`) makes exact match easy. Where no region
    has it, a note says so and names the nearest phrase.

    Raises:
        NotComputed: Every region has that reference.
    """
    left_out = canonical(phrase)
    others = [row for row in rows if left_out not in map(canonical, row.references)]
    if not others:
        raise NotComputed(f"every region has the reference {phrase!r}")
    key = key or _without(left_out)
    scored = exact_match(others, key)
    if len(others) < len(rows):
        return scored
    known = {canonical(reference) for row in rows for reference in row.references}
    near = near_name(left_out, known)
    note = f"{key}: no region has the reference {phrase!r}, so it is exact_match of all regions"
    return replace(scored, notes=(note + (f"; did you mean {_without(near)}?" if near else ""),))


def _without(phrase: str) -> str:
    return WITHOUT + phrase.replace(" ", "_")


def macro_recall(rows: Sequence[CaptionRow]) -> Scored:
    """Mean over distinct reference phrases of the share of their regions that are right.

    A region with several references counts for each of its phrases, and is right if its caption
    equals any of them. The regions' values are the weighted hits whose mean is the macro recall
    (a region weighs more the rarer its phrase), so a bootstrap over them keeps the weights fixed.

    Raises:
        NotComputed: No rows.
    """
    phrases = [sorted({canonical(reference) for reference in row.references}) for row in rows]
    regions_of = Counter(phrase for group in phrases for phrase in group)
    scale = len(rows) / max(1, len(regions_of))
    values = [
        scale * _is_right(row) * sum(1 / regions_of[phrase] for phrase in group)
        for row, group in zip(rows, phrases, strict=True)
    ]
    return _mean("macro_recall", values, rows)


def slot_accuracy(rows: Sequence[CaptionRow]) -> list[Scored]:
    """Accuracy of every slot, and of all simple slots together, whole and by number of regions.

    Keys (`value_names`): `slots` (mean over a region's simple slots, then over regions),
    `slot/NAME`, and both as `slot_by_objects/N/...` for the images with N regions. Rows without
    slots do not count.

    Raises:
        NotComputed: No row carries slots, or a row names a slot the grammar does not know.
    """
    carrying = [row for row in rows if row.slots]
    if not carrying:
        raise NotComputed("no row carries slots")
    # Only rows that carry slots need the grammar.
    grammar = import_module("sca_bench.scene_grammar")
    num_regions = Counter(row.image_id for row in rows)
    hits: list[dict[str, float]] = []
    for row in carrying:
        for name in row.slots:
            if name not in grammar.SLOTS:
                hint = did_you_mean(name, grammar.SLOTS)
                raise NotComputed(f"region {row.region_id}: unknown slot {name!r}; {hint}")
        right = grammar.with_composite(row.slots) | dict(row.slots)
        parsed = grammar.parse(row.caption)
        hits.append({s: float(canonical(parsed.get(s, "")) == canonical(right[s])) for s in right})

    columns: dict[str, list[tuple[CaptionRow, float]]] = defaultdict(list)
    for row, hit in zip(carrying, hits, strict=True):
        simple = [hit[slot] for slot in grammar.SIMPLE_SLOTS if slot in hit]
        if simple:
            columns[MEAN_OF_SLOTS].append((row, sum(simple) / len(simple)))
        for slot in grammar.SLOTS:
            if slot in hit:
                columns[slot].append((row, hit[slot]))
    scored = []
    for slot in (slot for slot in (MEAN_OF_SLOTS, *grammar.SLOTS) if slot in columns):
        whole = ValueName(SLOTS, "" if slot == MEAN_OF_SLOTS else slot)
        scored.append(_column(whole, columns[slot]))
        for size in sorted({num_regions[row.image_id] for row, _ in columns[slot]}):
            part = [pair for pair in columns[slot] if num_regions[pair[0].image_id] == size]
            scored.append(_column(ValueName(SLOTS, slot, size), part))
    return scored


def _column(name: ValueName, pairs: Sequence[tuple[CaptionRow, float]]) -> Scored:
    return _mean(str(name), [value for _, value in pairs], [row for row, _ in pairs])


def _mean(key: str, values: list[float], rows: Sequence[CaptionRow]) -> Scored:
    if not values:
        raise NotComputed(f"{key}: there are no regions")
    return Scored(key, sum(values) / len(values), values, rows)


def _is_right(row: CaptionRow) -> bool:
    caption = canonical(row.caption)
    return any(caption == canonical(reference) for reference in row.references)
