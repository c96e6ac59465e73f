"""On which regions two cells differ: what went from right to wrong, and what changed most.

A cell is right in a region where more than half of its seeds are, by exact match. Regions of a
metric without right and wrong are better or worse. Seeds of one cell differ, too, so it is said on
how many regions two of them do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.compare.sides import CellPair, Side
from sca_bench.report.names import higher_is_better
from sca_bench.report.read.samples import CellSamples, Sample, unpaired
from sca_bench.report.read.suite_data import CellRuns

RIGHT = "exact_match"
"""The metric that says right or wrong of each region."""
MOST_REGIONS = 200
"""Regions of each pair that are kept for showing."""
_MOST_PER_IMAGE = 3
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """A caption of one side, and how many of its seeds said it."""

    caption: str
    num_seeds: int


@dataclass(frozen=True, slots=True)
class ChangedRegion:
    """A region on which two cells differ.

    Attributes:
        cell: Name of the pair of cells.
        region_id: The region.
        image_id: Its image.
        a: Its own score by the main metric in A, mean over seeds, natural units.
        b: The same in B.
        better: Whether that is better, rather than worse.
        was_right: Whether A is right; None where nothing says so.
        is_right: Whether B is.
        references: Its reference captions.
        box_xyxy: Its box in pixels of the original image; None where that is not known.
        said_a: What A's seeds said, the most frequent first.
        said_b: What B's did.
        images_dir: Folder of the image's copy in the runs folder; empty where there is none.
    """

    cell: str
    region_id: str
    image_id: str
    a: float
    b: float
    better: bool
    was_right: bool | None
    is_right: bool | None
    references: tuple[str, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None
    said_a: tuple[Said, ...] = ()
    said_b: tuple[Said, ...] = ()
    images_dir: str = ""

    @property
    def kind(self) -> str:
        """What became of it in words."""
        if self.was_right is None or self.was_right == self.is_right:
            return "better" if self.better else "worse"
        return "right to wrong" if self.was_right else "wrong to right"


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of all regions of two cells.

    Attributes:
        metric: The metric by which regions are better or worse; empty where none has their scores.
        num_regions: How many there are.
        better: Regions whose own score is higher in B (lower, where less is better).
        worse: Those where it is the other way.
        right_to_wrong: Regions that A has right and B has not; None where nothing says so.
        wrong_to_right: The other way.
        both_right: Regions that both have right.
        of_seeds: On how many regions two seeds of one cell differ in being right, the mean over
            all pairs of both cells; None with one seed each.
        regions: Those that changed most, the worse and the better ones by turns.
    """

    metric: str = ""
    num_regions: int = 0
    better: int = 0
    worse: int = 0
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    both_right: int | None = None
    of_seeds: float | None = None
    regions: tuple[ChangedRegion, ...] = ()


def find_changes(pair: CellPair, samples: tuple[CellSamples, CellSamples], metric: str) -> Changes:
    """Return what became of all regions of two cells, without their captions.

    Args:
        pair: The cells.
        samples: What A's and B's are read from.
        metric: The main metric.
    """
    one, other = samples[0].of(pair.a, metric), samples[1].of(pair.b, metric)
    right = samples[0].of(pair.a, RIGHT), samples[1].of(pair.b, RIGHT)
    has_right = not unpaired(*right)
    if unpaired(one, other):
        if not has_right:
            return Changes()
        (one, other), metric = right, RIGHT
    has_right = has_right and right[0].region_ids == one.region_ids
    sign = -1.0 if higher_is_better(metric) is False else 1.0
    moved = sign * (other.means - one.means)
    counts = Changes(
        metric=metric,
        num_regions=len(moved),
        better=int((moved > 0).sum()),
        worse=int((moved < 0).sum()),
    )
    was = now = None
    if has_right:
        was, now = (sample.means > _HALF for sample in right)
        counts = replace(
            counts,
            right_to_wrong=int((was & ~now).sum()),
            wrong_to_right=int((now & ~was).sum()),
            both_right=int((was & now).sum()),
            of_seeds=_between_seeds(right),
        )

    def region(i: int) -> ChangedRegion:
        return ChangedRegion(
            pair.name,
            one.region_ids[i],
            one.image_ids[i],
            float(one.means[i]),
            float(other.means[i]),
            bool(moved[i] > 0),
            None if was is None else bool(was[i]),
            None if now is None else bool(now[i]),
        )

    return replace(counts, regions=tuple(map(region, _most_changed(moved, one.image_ids))))


def _between_seeds(right: Iterable[Sample]) -> float | None:
    """Return on how many regions two seeds of a cell differ in being right, on average.

    Of S seeds of which k have a region right, k (S - k) pairs differ.
    """
    found = []
    for sample in right:
        num = len(sample.seeds)
        if num > 1:
            k = np.rint(num * sample.means)
            found.append(float((k * (num - k)).sum()) / (num * (num - 1) / 2))
    return sum(found) / len(found) if found else None


def _most_changed(moved: NDArray[np.float64], images: Sequence[str]) -> list[int]:
    """Return the regions that changed most, the worse and the better ones by turns.

    An image gives a second one only when every image with a changed region has given one.
    """
    order = sorted(np.flatnonzero(moved).tolist(), key=lambda i: -abs(moved[i]))
    per_image: Counter[str] = Counter()
    turns = {}
    for i in order:
        turns[i] = per_image[images[i]]
        per_image[images[i]] += 1
    chosen = sorted((i for i in order if turns[i] < _MOST_PER_IMAGE), key=lambda i: turns[i])
    sides = [[i for i in chosen if (moved[i] < 0) == worse] for worse in (True, False)]
    by_turns = chain.from_iterable(zip_longest(*sides))
    return [i for i in by_turns if i is not None][:MOST_REGIONS]


def with_captions(
    a: Side,
    b: Side,
    pairs: Sequence[tuple[CellPair, Changes]],
    number: int,
) -> list[ChangedRegion]:
    """Return the regions that changed most, of all pairs by turns, with what was said about them.

    Args:
        a: The first side.
        b: The second.
        pairs: The cells with what became of their regions.
        number: How many regions, at most.

    Raises:
        InputError: A file of captions is damaged.
    """
    turns = chain.from_iterable(zip_longest(*(changes.regions for _, changes in pairs)))
    chosen = [region for region in turns if region is not None][:number]
    found: dict[tuple[str, str], ChangedRegion] = {}
    for pair, changes in pairs:
        own = [r for r in chosen if r.cell == pair.name and r in changes.regions]
        ids = [region.region_id for region in own]
        if not ids:
            continue
        rows_a, rows_b = list(_captions(a, pair.a, ids)), list(_captions(b, pair.b, ids))
        folder = _images_dir(a, pair.a) or _images_dir(b, pair.b)
        for region in own:
            name = region.region_id
            row = next((rows[name] for rows in (*rows_a, *rows_b) if name in rows), None)
            found[pair.name, name] = replace(
                region,
                references=row.references if row else (),
                box_xyxy=row.box_xyxy if row else None,
                said_a=_said(rows_a, name),
                said_b=_said(rows_b, name),
                images_dir=folder,
            )
    return [found[region.cell, region.region_id] for region in chosen]


def _captions(
    side: Side, cell: CellRuns, ids: Collection[str]
) -> Iterator[Mapping[str, CaptionRow]]:
    for record in cell.done:
        yield side.store.some_predictions(record.cell_id, record.seed, ids)


def _said(runs: Sequence[Mapping[str, CaptionRow]], region_id: str) -> tuple[Said, ...]:
    counts = Counter(rows[region_id].caption for rows in runs if region_id in rows)
    return tuple(Said(caption, number) for caption, number in counts.most_common())


def _images_dir(side: Side, cell: CellRuns) -> str:
    if side.pictures is None:
        return ""
    return next((record.images_dir for record in cell.done if record.images_dir), "")
