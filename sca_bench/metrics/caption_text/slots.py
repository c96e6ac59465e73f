"""The slots of a grammar's captions: which of them a caption fills rightly.

Captions that share a grammar hide a chance word from CIDEr-D, so each slot is looked at by itself;
and where an image holds two objects, the neighbour is simply the other one, so accuracy is also
given by the number of regions in the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import import_module

from sca_bench.errors import NotComputed, did_you_mean
from sca_bench.metrics.caption_text.wholes import CASE, mean
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec
from sca_bench.metrics.value_names import MEAN_OF_SLOTS, SLOTS, ValueName

SPEC = MetricSpec(
    SLOTS,
    "Accuracy of each slot of a grammar's captions, also by number of regions; 0-1",
    SLOTS,
    "sca_bench grammar",
    package="",
    tokenizer=CASE,
    compute=f"{__name__}:slots",
    label="mean of slots",
    needs="rows that carry slots",
)


def slots(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Accuracy of every slot, see `slot_accuracy`.

    Raises:
        NotComputed: No row carries slots, or a row names a slot the grammar does not know.
    """
    return slot_accuracy(rows)


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
    return mean(str(name), [value for _, value in pairs], [row for row, _ in pairs])
