"""The gallery of test regions: image, box, predicted mask, and what each cell said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sca_bench.errors import at
from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.findings.headline import AnswerRegion
from sca_bench.report.names import higher_is_better, show_score
from sca_bench.report.page.caption_words import (
    Word,
    compare_words,
    grade_words,
    joined,
    slot_vocabulary,
)
from sca_bench.report.read.lineage import lineage_lines
from sca_bench.report.read.mask_layers import load_masks
from sca_bench.report.read.regions import Kind, RegionGroup, RunCaptions, SuiteRegions, choose
from sca_bench.report.read.split import region_words
from sca_bench.report.read.suite_data import SuiteData
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
        num_each: Regions of each other group, at most.
        side_px: Longer side of the images, at most.
        first_seed_only: Leave out what other seeds said.
    """

    num_disputed: int = 24
    num_each: int = 12
    side_px: int = KEPT_SIDE_PX
    first_seed_only: bool = False

    @property
    def most(self) -> int:
        """The number of regions, at most; one may be in several groups."""
        return self.num_disputed + 3 * self.num_each


@dataclass(frozen=True, slots=True)
class CellCaption:
    """What one cell said with some seeds.

    Attributes:
        cell: Its name.
        cell_index: Its place among the suite's cells.
        control: Whether it is a control.
        seeds: The seeds with this caption and score.
        words: The caption; neighbours that are marked alike are one.
        score: The region's score as displayed; empty where there is none.
        missing: Why there is no caption; empty where there is one.
    """

    cell: str
    cell_index: int
    control: bool
    seeds: tuple[int, ...]
    words: tuple[Word, ...]
    score: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class RegionCard:
    """One region of the gallery.

    Attributes:
        region_id: The region.
        name: What a reader calls it: its image, and its number there.
        image_id: Its image.
        kinds: Why it was chosen: the groups that it is in.
        disagreement: Range of the cells' scores as displayed; empty where there are none.
        shot: Image, box and masks, or None with the reason in `no_image`.
        references: Reference captions.
        captions: What every cell said, with every seed.
        pair: What two cells said with the seed that is shown, words marked that they differ in.
        seed: That seed: the first with which they differ where the region is disputed or of the
            answer, else the first one.
    """

    region_id: str
    name: str
    image_id: str
    kinds: tuple[Kind, ...]
    disagreement: str
    shot: Shot | None
    no_image: str
    references: tuple[str, ...]
    captions: tuple[CellCaption, ...]
    pair: tuple[CellCaption, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """The chosen regions and how they were chosen.

    Attributes:
        cards: The regions, the most disputed first.
        how: How many there are, in words; says why where there are none.
        groups: The groups of regions, each of which is a tab.
        top: The regions of the suite's answer, each with the two cells that differ there.
        has_slots: Whether words are marked as right and wrong.
        seeds: Seeds that have captions.
        lineage: What cells were fine-tuned from, one line each.
        cells: Names of the cells that are no controls, by their place among the suite's.
        pair: The places of the cells whose captions stand below a picture.
        images: The images of the cards, each once.
        mask_sources: Whose predicted masks there are; `ShownMask.source` counts them.
        about_masks: What the masks are, or that none were kept.
    """

    cards: tuple[RegionCard, ...]
    how: str
    groups: tuple[RegionGroup, ...] = ()
    top: tuple[RegionCard, ...] = ()
    has_slots: bool = False
    seeds: tuple[int, ...] = ()
    lineage: tuple[str, ...] = ()
    cells: Mapping[int, str] = field(default_factory=dict)
    pair: tuple[int, ...] = ()
    images: tuple[SharedImage, ...] = ()
    mask_sources: tuple[str, ...] = ()
    about_masks: str = ""

    @property
    def has_scores(self) -> bool:
        """Whether any caption of it has a score."""
        return any(caption.score for card in self.cards for caption in card.captions)


def build_gallery(
    regions: SuiteRegions,
    size: GallerySize | None = None,
    reference: str = "",
    answer: Sequence[AnswerRegion] = (),
) -> Gallery:
    """Choose regions and gather their images, masks and captions.

    Args:
        regions: All test regions.
        size: How much is shown.
        reference: Name of the cell that others are compared with; the first one where empty.
        answer: The regions that stand beside the suite's answer, whatever the size.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    size = size or GallerySize()
    if not regions.rows:
        return Gallery((), "No finished run has left captions, so there is nothing to show.")
    seeds = tuple(dict.fromkeys(run.seed for run in regions.runs if run.rows))
    if size.first_seed_only:
        seeds = seeds[:1]
    cells = regions.data.cells
    places = {cell.entry.name: place for place, cell in enumerate(cells)}
    groups = choose(regions, size.num_disputed, size.num_each)
    kinds: dict[str, list[Kind]] = {}
    for group in groups:
        for region_id in group.ids:
            kinds.setdefault(region_id, []).append(group.kind)
    make = _Cards(regions, size, seeds)
    pair = compared_cells(regions.data, reference)
    top = [
        make.card(one.region_id, (), (places[one.left], places[one.right]))
        for one in answer
        if one.region_id in regions.rows and {one.left, one.right} <= places.keys()
    ]
    cards = tuple(make.card(region_id, tuple(of), pair) for region_id, of in kinds.items())
    return Gallery(
        cards=cards,
        how=_how(regions, len(cards)),
        groups=groups,
        top=tuple(card for card in top if card.shot is not None),
        has_slots=bool(make.vocabulary),
        seeds=seeds,
        lineage=tuple(f"{c.entry.name}: {line}" for c in cells for line in lineage_lines(c)),
        cells={i: cell.entry.name for i, cell in enumerate(cells) if not cell.entry.control},
        pair=pair,
        images=tuple(make.thumbnails.images.values()),
        mask_sources=make.masks.names,
        about_masks=make.masks.about(card.shot for card in cards),
    )


def compared_cells(data: SuiteData, reference: str = "") -> tuple[int, ...]:
    """Return the places of the reference cell and of the best other one, as far as there are any.

    Controls count only where there is nothing else.
    """
    cells, metric = data.cells, data.main_metric
    own = [i for i, cell in enumerate(cells) if not cell.entry.control] or [*range(len(cells))]
    first = next((i for i in own if cells[i].entry.name == reference), own[0])
    others = [i for i in own if i != first]
    means = {}
    for place in others:
        summary = data.scores.over_seeds(cells[place].entry.cell_id, metric)
        if summary is not None:
            low_is_best = higher_is_better(metric) is False
            means[place] = -summary.mean if low_is_best else summary.mean
    best = max(means, key=lambda place: means[place]) if means else next(iter(others), None)
    return (first,) if best is None else (first, best)


class _Cards:
    """Makes the cards of a gallery; each image is read once."""

    def __init__(self, regions: SuiteRegions, size: GallerySize, seeds: tuple[int, ...]) -> None:
        self._regions = regions
        self._metric = regions.data.main_metric
        self._runs = [run for run in regions.runs if run.seed in seeds]
        self._seeds = seeds
        cells = regions.data.cells
        self._places = {cell.entry.cell_id: place for place, cell in enumerate(cells)}
        self._names = _region_names(regions.rows)
        self.vocabulary = slot_vocabulary(row.slots for row in regions.rows.values())
        self.thumbnails = Thumbnails(regions.data.store.root, size.side_px)
        self.masks = _Masks(regions)

    def card(self, region_id: str, kinds: tuple[Kind, ...], pair: Sequence[int]) -> RegionCard:
        """Return a region with its picture and captions."""
        row = self._regions.rows[region_id]
        shot, reason = self._shot(row)
        if shot is not None:
            shot = replace(shot, layers=self.masks.layers(region_id, shot.image))
        gap = self._regions.outcomes[region_id].gap
        captions, asked = self._captions(row), "disputed" in kinds or not kinds
        seed = self._telling_seed(captions, pair) if asked else self._seeds[0]
        shown = [one for one in captions if one.cell_index in pair and seed in one.seeds]
        return RegionCard(
            region_id,
            self._names[region_id],
            row.image_id,
            kinds,
            "" if gap is None else show_score(gap, metric=self._metric),
            shot,
            reason,
            row.references,
            tuple(replace(one, words=tuple(joined(one.words))) for one in captions),
            _compared(sorted(shown, key=lambda one: pair.index(one.cell_index))),
            seed,
        )

    def _telling_seed(self, captions: Sequence[CellCaption], pair: Sequence[int]) -> int:
        """Return the first seed with which two cells said different things; the first without."""
        said = [[one for one in captions if one.cell_index == place] for place in pair]
        for seed in self._seeds:
            texts = {one.words for of in said for one in of if seed in one.seeds}
            if len(texts) > 1:
                return seed
        return self._seeds[0]

    def _shot(self, row: CaptionRow) -> tuple[Shot | None, str]:
        """Return a region in its image, or None and the reason."""
        store, folder = self._regions.data.store, self._regions.folders.get(row.region_id, "")
        image = f"{folder}/{row.image_id}"
        nothing: tuple[Shot | None, str] = (None, "")

        def draw() -> tuple[Shot | None, str]:
            return self.thumbnails.shot(folder, row.image_id, row.box_xyxy)

        found = store.sound(draw, nothing, image)
        return found if found is not nothing else (None, store.lost(image))

    def _captions(self, region: CaptionRow) -> list[CellCaption]:
        """Return what the cells said; seeds of the same caption and score are one."""
        found: dict[tuple[int, str | None, str, str], CellCaption] = {}
        for run in self._runs:
            row, score = run.rows.get(region.region_id), run.scores.get(region.region_id)
            shown = "" if score is None or row is None else show_score(score, metric=self._metric)
            missing = (run.hole or "not in this cell's test set") if row is None else ""
            place, entry = self._places[run.cell.entry.cell_id], run.cell.entry
            key = (place, None if row is None else row.caption, shown, missing)
            if key in found:
                found[key] = replace(found[key], seeds=(*found[key].seeds, run.seed))
                continue
            words = () if row is None else self._words(row.caption, region)
            who = (entry.name, place, entry.control, (run.seed,))
            found[key] = CellCaption(*who, words, shown, missing)
        return sorted(found.values(), key=lambda one: one.cell_index)

    def _words(self, caption: str, region: CaptionRow) -> tuple[Word, ...]:
        if not region.slots:
            return tuple(Word(text) for text in caption.split())
        truth = _slot_reference(region.references, region.slots)
        return tuple(grade_words(caption, truth, self.vocabulary))


def _compared(pair: Sequence[CellCaption]) -> tuple[CellCaption, ...]:
    """Return captions with the words marked that they differ in, where there are two."""
    if len(pair) == 2 and not any(one.missing for one in pair):
        words: tuple[list[Word], ...] = compare_words(pair[0].words, pair[1].words)
    else:
        words = tuple([*one.words] for one in pair)
    return tuple(
        replace(one, words=tuple(joined(own))) for one, own in zip(pair, words, strict=True)
    )


def _region_names(rows: Mapping[str, CaptionRow]) -> dict[str, str]:
    """Return region id -> the region's image, and its number among the regions there."""
    counts: dict[str, int] = {}
    names = {}
    for region_id, row in rows.items():
        counts[row.image_id] = counts.get(row.image_id, 0) + 1
        image = f"image {row.image_id}" if row.image_id.isdigit() else row.image_id
        names[region_id] = f"{image}, region {counts[row.image_id]}"
    return names


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
            "Yellow: the region's box. Blue: the outline of the mask that SAM predicts for the "
            f"prompt, the candidate of highest predicted IoU.{others}"
        )


def _how(regions: SuiteRegions, num_shown: int) -> str:
    total, num_pictured = len(regions.rows), len(regions.candidates)
    source = ""
    if num_pictured < total:
        source = f", from the {num_pictured:,} whose image a copy was kept of"
    return f"{num_shown} of {total:,} {region_words(regions.data)}{source}."


def _slot_reference(references: tuple[str, ...], slots: Mapping[str, str]) -> str:
    """Return the reference that says all slots, else the first one."""
    for text in references:
        if all(value in text for value in slots.values()):
            return text
    return references[0]
