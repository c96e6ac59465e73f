"""The gallery of test regions: which are shown, and what each cell said about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sca_bench.report.collect import CellRuns, SuiteData, load_predictions, load_region_scores
from sca_bench.report.lineage import lineage_lines
from sca_bench.report.marks import Word, mark_words, slot_vocabulary
from sca_bench.report.names import metric_label, show_score
from sca_bench.report.thumbnails import Thumbnails

NUM_DISAGREEING = 12
NUM_EVEN = 12
MAX_PER_IMAGE = 1


@dataclass(frozen=True, slots=True)
class Said:
    """What one cell said with one seed."""

    cell: str
    control: bool
    seed: int
    words: tuple[Word, ...]
    score: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class RegionCard:
    """One region of the gallery.

    Attributes:
        region_id: The region.
        image_id: Its image.
        group: Why it was chosen: `disagreement` or `even`.
        disagreement: Range of the cells' scores as displayed; empty where there are none.
        image: Data URI, or empty with the reason in `no_image`.
        references: Reference captions.
        said: What every cell said, with every seed.
    """

    region_id: str
    image_id: str
    group: str
    disagreement: str
    image: str
    no_image: str
    references: tuple[str, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The chosen regions and how they were chosen.

    Attributes:
        cards: The regions, those of largest disagreement first.
        how: How they were chosen, in words; says why where there are none.
        has_slots: Whether words are marked.
        seeds: Seeds that have captions.
        lineage: What cells were fine-tuned from, one line each.
    """

    cards: tuple[RegionCard, ...]
    how: str
    has_slots: bool
    seeds: tuple[int, ...]
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Captions:
    cell: CellRuns
    seed: int
    images_dir: str
    rows: dict[str, dict[str, Any]]
    scores: dict[str, float]
    hole: str = ""


def build_gallery(data: SuiteData) -> Gallery:
    """Choose regions and gather their images and captions.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    runs = _captions(data)
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        for region_id, row in run.rows.items():
            rows.setdefault(region_id, row)
    if not rows:
        return Gallery(
            (), "No finished run has left captions, so there is nothing to show.", False, ()
        )
    gaps = {region_id: _disagreement(runs, region_id) for region_id in rows}
    thumbnails = Thumbnails(data.store.root)
    folders = {key: run.images_dir for run in reversed(runs) if run.images_dir for key in run.rows}
    pictured = {
        region_id: row
        for region_id, row in rows.items()
        if thumbnails.has(folders.get(region_id, ""), str(row["image_id"]))
    }
    candidates = pictured or rows
    chosen = _choose(candidates, gaps)
    vocabulary = slot_vocabulary(row.get("slots") or {} for row in rows.values())
    cards = []
    for region_id, group in chosen:
        row = rows[region_id]
        box = row.get("box_xyxy")
        image, reason = thumbnails.data_uri(
            folders.get(region_id, ""), str(row["image_id"]), tuple(box) if box else None
        )
        references = tuple(str(text) for text in row.get("references") or ())
        slots = row.get("slots") or {}
        said = tuple(
            _said(run, region_id, references, slots, vocabulary, data.main_metric) for run in runs
        )
        gap, _ = gaps[region_id]
        shown = "" if gap is None else show_score(gap, metric=data.main_metric)
        image_id = str(row["image_id"])
        cards.append(RegionCard(region_id, image_id, group, shown, image, reason, references, said))
    seeds = tuple(dict.fromkeys(run.seed for run in runs if run.rows))
    how = _how(data, len(rows), len(candidates), chosen)
    lineage = tuple(f"{c.entry.name}: {line}" for c in data.cells for line in lineage_lines(c))
    return Gallery(tuple(cards), how, bool(vocabulary), seeds, lineage)


def _captions(data: SuiteData) -> list[_Captions]:
    found = []
    for cell in data.cells:
        for run in cell.runs:
            if run.hole or run.record is None:
                found.append(_Captions(cell, run.seed, "", {}, {}, run.hole))
                continue
            key = (cell.entry.cell_id, run.seed)
            rows = load_predictions(data.store, *key)
            scores = load_region_scores(data.store, *key, data.main_metric)
            hole = "" if rows else "left no captions"
            found.append(_Captions(cell, run.seed, run.record.images_dir, rows, scores, hole))
    return found


def _disagreement(runs: list[_Captions], region_id: str) -> tuple[float | None, int]:
    """Return the range of the cells' seed means (None without scores) and of their wordings.

    Controls are left out: they disagree with everything.
    """
    per_cell: dict[str, list[float]] = {}
    captions = set()
    for run in runs:
        if run.cell.entry.control or region_id not in run.rows:
            continue
        captions.add(str(run.rows[region_id]["caption"]))
        if region_id in run.scores:
            per_cell.setdefault(run.cell.entry.cell_id, []).append(run.scores[region_id])
    means = [math.fsum(values) / len(values) for values in per_cell.values()]
    return (max(means) - min(means) if len(means) > 1 else None), len(captions)


def _choose(
    rows: dict[str, dict[str, Any]], gaps: dict[str, tuple[float | None, int]]
) -> list[tuple[str, str]]:
    """Return (region id, group): the most disputed ones, and others evenly over the test set."""
    ordered = sorted(rows, key=lambda r: (-(gaps[r][0] or 0.0), -gaps[r][1], r))
    per_image: dict[str, int] = {}
    disputed: list[str] = []
    for region_id in ordered:
        image_id = str(rows[region_id]["image_id"])
        if len(disputed) < NUM_DISAGREEING and per_image.get(image_id, 0) < MAX_PER_IMAGE:
            per_image[image_id] = per_image.get(image_id, 0) + 1
            disputed.append(region_id)
    rest = [region_id for region_id in rows if region_id not in set(disputed)]
    count = min(NUM_EVEN, len(rest))
    even = {rest[(2 * i + 1) * len(rest) // (2 * count)] for i in range(count)}
    chosen = [(region_id, "disagreement") for region_id in disputed]
    return chosen + [(region_id, "even") for region_id in ordered if region_id in even]


def _how(data: SuiteData, total: int, num_pictured: int, chosen: list[tuple[str, str]]) -> str:
    kept = ""
    if num_pictured < total:
        kept = f", from the {num_pictured:,} whose image a copy was kept of"
    disputed = sum(group == "disagreement" for _, group in chosen)
    label = metric_label(data.main_metric)
    return (
        f"{len(chosen)} of {total:,} test regions{kept}. {disputed} are those on which the cells "
        f"disagree most: largest range of {label} over the cells (seeds averaged, controls left "
        f"out, then the number of different captions, then the region id; at most "
        f"{MAX_PER_IMAGE} per image). {len(chosen) - disputed} are taken at even steps from the "
        "rest of the test set, whatever was said about them. Each part is sorted by "
        "disagreement. Captions are of the seed selected, the first one unless another is chosen."
    )


def _said(
    run: _Captions,
    region_id: str,
    references: tuple[str, ...],
    slots: dict[str, str],
    vocabulary: frozenset[str],
    metric: str,
) -> Said:
    entry = run.cell.entry
    row = run.rows.get(region_id)
    if row is None:
        missing = run.hole or "not in this cell's test set"
        return Said(entry.name, entry.control, run.seed, (), "", missing)
    caption = str(row["caption"])
    if slots and references:
        words = tuple(mark_words(caption, _slot_reference(references, slots), vocabulary))
    else:
        words = tuple(Word(text) for text in caption.split())
    score = run.scores.get(region_id)
    shown = "" if score is None else show_score(score, metric=metric)
    return Said(entry.name, entry.control, run.seed, words, shown)


def _slot_reference(references: tuple[str, ...], slots: dict[str, str]) -> str:
    """Return the reference that says all slots, else the first one."""
    for text in references:
        if all(value in text for value in slots.values()):
            return text
    return references[0]
