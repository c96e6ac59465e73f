"""The gallery of test regions: image, box, predicted mask, and what each cell said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sca_bench.errors import at
from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.names import metric_label, show_score
from sca_bench.report.page.caption_words import Word, grade_words, slot_vocabulary
from sca_bench.report.read.lineage import lineage_lines
from sca_bench.report.read.mask_layers import load_masks
from sca_bench.report.read.regions import MAX_PER_IMAGE, RunCaptions, SuiteRegions, choose
from sca_bench.report.read.thumbnails import (
    KEPT_SIDE_PX,
    SharedImage,
    Shot,
    ShownMask,
    Thumbnails,
    layer,
)

MAX_SOURCES = 8
_NAMED = 3


@dataclass(frozen=True, slots=True)
class GallerySize:
    """How much a gallery shows.

    Attributes:
        num_disputed: Regions on which the cells disagree most, at most.
        num_even: Regions at even steps through the rest, at most.
        side_px: Longer side of the images, at most.
        first_seed_only: Leave out what other seeds said.
    """

    num_disputed: int = 48
    num_even: int = 12
    side_px: int = KEPT_SIDE_PX
    first_seed_only: bool = False


@dataclass(frozen=True, slots=True)
class CellCaption:
    """What one cell said with one seed; `cell_index` is its place among the suite's cells."""

    cell: str
    cell_index: int
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
        shot: Image, box and masks, or None with the reason in `no_image`.
        references: Reference captions.
        captions: What every cell said, with every seed.
    """

    region_id: str
    image_id: str
    group: str
    disagreement: str
    shot: Shot | None
    no_image: str
    references: tuple[str, ...]
    captions: tuple[CellCaption, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The chosen regions and how they were chosen.

    Attributes:
        cards: The regions, those of largest disagreement first.
        how: How they were chosen, in words; says why where there are none.
        has_slots: Whether words are marked.
        seeds: Seeds that have captions.
        lineage: What cells were fine-tuned from, one line each.
        cells: Names of the cells.
        images: The images of the cards, each once.
        mask_sources: Whose predicted masks there are; `ShownMask.source` counts them.
        about_masks: What the masks are, or that none were kept.
    """

    cards: tuple[RegionCard, ...]
    how: str
    has_slots: bool = False
    seeds: tuple[int, ...] = ()
    lineage: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    images: tuple[SharedImage, ...] = ()
    mask_sources: tuple[str, ...] = ()
    about_masks: str = ""

    @property
    def has_scores(self) -> bool:
        """Whether any caption of it has a score."""
        return any(caption.score for card in self.cards for caption in card.captions)


def build_gallery(regions: SuiteRegions, size: GallerySize | None = None) -> Gallery:
    """Choose regions and gather their images, masks and captions.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    size = size or GallerySize()
    if not regions.rows:
        return Gallery((), "No finished run has left captions, so there is nothing to show.")
    seeds = tuple(dict.fromkeys(run.seed for run in regions.runs if run.rows))
    if size.first_seed_only:
        seeds = seeds[:1]
    runs = [run for run in regions.runs if run.seed in seeds]
    cells = regions.data.cells
    order = {cell.entry.cell_id: index for index, cell in enumerate(cells)}
    chosen = choose(regions, size.num_disputed, size.num_even)
    known = slot_vocabulary(row.slots for row in regions.rows.values())
    metric = regions.data.main_metric
    thumbnails = Thumbnails(regions.data.store.root, size.side_px)
    masks = _Masks(regions)
    cards = []
    for region_id, group in chosen:
        row = regions.rows[region_id]
        image_id, references, slots = row.image_id, row.references, row.slots
        folder = regions.folders.get(region_id, "")
        shot, reason = _shot(regions, thumbnails, folder, row)
        if shot is not None:
            shot = replace(shot, layers=masks.layers(region_id, shot.image))
        own = tuple(
            _cell_caption(
                run, order[run.cell.entry.cell_id], region_id, references, slots, known, metric
            )
            for run in runs
        )
        gap = regions.gaps[region_id].scores
        shown = "" if gap is None else show_score(gap, metric=metric)
        cards.append(RegionCard(region_id, image_id, group, shown, shot, reason, references, own))
    return Gallery(
        cards=tuple(cards),
        how=_how(regions, chosen),
        has_slots=bool(known),
        seeds=seeds,
        lineage=tuple(f"{c.entry.name}: {line}" for c in cells for line in lineage_lines(c)),
        cells=tuple(cell.entry.name for cell in cells),
        images=tuple(thumbnails.images.values()),
        mask_sources=masks.names,
        about_masks=masks.about(card.shot for card in cards),
    )


def _shot(
    regions: SuiteRegions, thumbnails: Thumbnails, folder: str, row: CaptionRow
) -> tuple[Shot | None, str]:
    """Return a region in its image, or None and the reason."""
    store, image = regions.data.store, f"{folder}/{row.image_id}"
    nothing: tuple[Shot | None, str] = (None, "")
    found = store.sound(lambda: thumbnails.shot(folder, row.image_id, row.box_xyxy), nothing, image)
    return found if found is not nothing else (None, store.lost(image))


class _Masks:
    """The masks of a suite's runs: one kind for each SAM with its prompt."""

    def __init__(self, regions: SuiteRegions) -> None:
        self._store, self._root = regions.data.store, regions.data.store.root
        self._folders = regions.folders
        users: dict[str, list[RunCaptions]] = {}
        for run in regions.runs:
            if run.masks_file and (self._root / run.masks_file).is_file():
                users.setdefault(run.masks_file, []).append(run)
        files = list(users)[:MAX_SOURCES]
        self._left_out = len(users) - len(files)
        self._rows = [self._load(file) for file in files]
        self._users = [users[file] for file in files]
        self._files = files

    def _layer(self, row: dict[str, Any], source: int, image: SharedImage) -> ShownMask | None:
        file = self._files[source]

        def draw() -> ShownMask | None:
            with at(self._root / file):
                return layer(row, source, image)

        return self._store.sound(draw, None, f"{file}: {row['region_id']}")

    def _load(self, file: str) -> dict[str, dict[str, Any]]:
        return self._store.sound(lambda: load_masks(self._root, file), {}, file)

    @property
    def names(self) -> tuple[str, ...]:
        """Whose masks there are."""
        if len(self._users) == 1:
            return ("SAM's mask",)
        names = []
        for runs in self._users:
            cells = list(dict.fromkeys(run.cell.entry.name for run in runs))
            more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
            names.append(f"SAM's mask of {', '.join(cells[:_NAMED])}{more}")
        return tuple(names)

    def layers(self, region_id: str, image: SharedImage) -> tuple[ShownMask, ...]:
        """Return a region's masks of each kind over its image."""
        layers = []
        for source, (rows, runs) in enumerate(zip(self._rows, self._users, strict=True)):
            shown = any(run.images_dir == self._folders.get(region_id) for run in runs)
            if region_id in rows and shown:
                layers.append(self._layer(rows[region_id], source, image))
        return tuple(one for one in layers if one is not None)

    def about(self, shots: Iterable[Shot | None]) -> str:
        """Say what the masks of a gallery are."""
        shown = [shot for shot in shots if shot is not None]
        if not shown:
            return ""
        if not any(shot.layers for shot in shown):
            return (
                "Yellow: the region's box. No predicted mask was kept: the runs are older, have no "
                "SAM, or kept no image embeddings."
            )
        others = f" {self._left_out} more kinds are not shown." if self._left_out else ""
        return (
            "Yellow: the region's box. Blue: the mask that SAM predicts for the prompt, the "
            f"candidate of highest predicted IoU.{others}"
        )


def _how(regions: SuiteRegions, chosen: list[tuple[str, str]]) -> str:
    total, num_pictured = len(regions.rows), len(regions.candidates)
    source = ""
    if num_pictured < total:
        source = f", from the {num_pictured:,} whose image a copy was kept of"
    disputed = sum(group == "disagreement" for _, group in chosen)
    label = metric_label(regions.data.main_metric)
    others = len(chosen) - disputed
    even = (
        f" {others} are taken at even steps from the rest of the test set, whatever was said about "
        "them. Each part is sorted by disagreement."
    )
    return (
        f"{len(chosen)} of {total:,} test regions{source}. {disputed} are those on which the cells "
        f"disagree most: largest range of {label} over the cells (seeds averaged, controls left "
        f"out, then the number of different captions, then the region id; one per image before "
        f"any gives a second, at most {MAX_PER_IMAGE}).{even if others else ''}"
    )


def _cell_caption(
    run: RunCaptions,
    cell_index: int,
    region_id: str,
    references: tuple[str, ...],
    slots: Mapping[str, str],
    vocabulary: frozenset[str],
    metric: str,
) -> CellCaption:
    entry = run.cell.entry
    who = (entry.name, cell_index, entry.control, run.seed)
    row = run.rows.get(region_id)
    if row is None:
        return CellCaption(*who, (), "", run.hole or "not in this cell's test set")
    caption = row.caption
    if slots:
        words = tuple(grade_words(caption, _slot_reference(references, slots), vocabulary))
    else:
        words = tuple(Word(text) for text in caption.split())
    score = run.scores.get(region_id)
    return CellCaption(*who, words, "" if score is None else show_score(score, metric=metric))


def _slot_reference(references: tuple[str, ...], slots: Mapping[str, str]) -> str:
    """Return the reference that says all slots, else the first one."""
    for text in references:
        if all(value in text for value in slots.values()):
            return text
    return references[0]
