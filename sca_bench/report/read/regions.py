"""What the runs said about the test regions, and which regions a page shows."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.read.read_once import ReadOnce
from sca_bench.report.read.suite_data import CellRuns, SuiteData, sound_region_scores
from sca_bench.report.read.thumbnails import Thumbnails
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS

MAX_PER_IMAGE = 3
DRAWN_WITH = 0
"""Seed of the regions that are drawn."""
Kind = Literal["disputed", "wrong", "right", "random"]


@dataclass(frozen=True, slots=True)
class RunCaptions:
    """The captions of one run.

    Attributes:
        cell: The cell.
        seed: The seed.
        images_dir: Folder of the thumbnails; empty where none were kept.
        masks_file: File of SAM's predicted masks; empty where none were kept.
        rows: Region id -> row of the predictions.
        scores: Region id -> main metric, natural units.
        hole: Why there are no rows; empty where there are.
    """

    cell: CellRuns
    seed: int
    images_dir: str
    masks_file: str
    rows: Mapping[str, CaptionRow]
    scores: Mapping[str, float]
    hole: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the cells did on a region; controls, which differ always, left out.

    Attributes:
        gap: Range of the cells' seed means, natural units; None without scores of two cells.
        mean: Mean of them; None without scores.
        wordings: Number of different captions.
        said: Number of captions.
        right: How many of them equal a reference, but for case and runs of space.
    """

    gap: float | None
    mean: float | None
    wordings: int
    said: int
    right: int


@dataclass(frozen=True, slots=True)
class SuiteRegions:
    """All test regions with what was said about them; read once for every page they stand on.

    Attributes:
        data: The suite.
        runs: What every run said.
        rows: Region id -> a row of the predictions, whoever wrote it.
        outcomes: Region id -> how the cells did.
        folders: Region id -> folder of its thumbnail.
        pictured: The regions whose image a copy was kept of.
    """

    data: SuiteData
    runs: tuple[RunCaptions, ...]
    rows: Mapping[str, CaptionRow]
    outcomes: Mapping[str, Outcome]
    folders: Mapping[str, str]
    pictured: frozenset[str]

    @property
    def candidates(self) -> list[str]:
        """The regions to choose from: those with an image, if any has one."""
        return [region_id for region_id in self.rows if region_id in self.pictured] or [*self.rows]


@dataclass(frozen=True, slots=True)
class RegionGroup:
    """Regions that a page shows together.

    Attributes:
        kind: Why they are shown.
        name: What they are called.
        about: How they were chosen, a sentence.
        total: How many regions of the kind there are to choose from.
        ids: The chosen ones, in order.
    """

    kind: Kind
    name: str
    about: str
    total: int
    ids: tuple[str, ...]


def read_regions(data: SuiteData) -> SuiteRegions:
    """Read the captions and region scores of all runs of a suite."""
    thumbnails = Thumbnails(data.store.root)
    runs = _runs(data, thumbnails)
    rows: dict[str, CaptionRow] = {}
    for run in runs:
        for region_id, row in run.rows.items():
            rows.setdefault(region_id, row)
    folders = {key: run.images_dir for run in reversed(runs) if run.images_dir for key in run.rows}
    pictured = {
        region_id
        for region_id, row in rows.items()
        if thumbnails.has(folders.get(region_id, ""), row.image_id)
    }
    own = [run for run in runs if not run.cell.entry.control]
    outcomes = {region_id: _outcome(own, row) for region_id, row in rows.items()}
    return SuiteRegions(data, tuple(runs), rows, outcomes, folders, frozenset(pictured))


def _runs(data: SuiteData, thumbnails: Thumbnails) -> list[RunCaptions]:
    runs, store = [], data.store
    for cell in data.cells:
        for run in cell.runs:
            if run.hole or run.record is None:
                runs.append(RunCaptions(cell, run.seed, "", "", {}, {}, run.hole))
                continue
            key = (cell.entry.cell_id, run.seed)
            rows = store.predictions(*key)
            scores, _ = sound_region_scores(store, *key, data.main_metric)
            lost = store.lost(store.place(*key, PREDICTIONS))
            hole = lost or ("" if rows else "left no captions")
            files = (_images_dir(store, thumbnails, run.record), run.record.masks_file)
            runs.append(RunCaptions(cell, run.seed, *files, rows, scores, hole))
    return runs


def _images_dir(store: ReadOnce, thumbnails: Thumbnails, record: RunRecord) -> str:
    """Return the folder of a run's thumbnails; empty where it may not be looked into."""
    named = record.images_dir
    if not store.lost(named):
        store.sound(lambda: thumbnails.has(named, ""), False, named)
    return "" if store.lost(named) else named


def _outcome(runs: Sequence[RunCaptions], row: CaptionRow) -> Outcome:
    """Return how the runs of cells that are no controls did on a row's region."""
    region_id, per_cell = row.region_id, dict[str, list[float]]()
    captions: dict[str, int] = {}
    for run in runs:
        own = run.rows.get(region_id)
        if own is None:
            continue
        captions[own.caption] = captions.get(own.caption, 0) + 1
        if region_id in run.scores:
            per_cell.setdefault(run.cell.entry.cell_id, []).append(run.scores[region_id])
    means = [math.fsum(values) / len(values) for values in per_cell.values()]
    references = set(map(canonical, row.references))
    return Outcome(
        gap=max(means) - min(means) if len(means) > 1 else None,
        mean=math.fsum(means) / len(means) if means else None,
        wordings=len(captions),
        said=sum(captions.values()),
        right=sum(n for text, n in captions.items() if canonical(text) in references),
    )


def choose(regions: SuiteRegions, num_disputed: int, num_each: int) -> tuple[RegionGroup, ...]:
    """Return the regions that a page shows, group by group.

    Args:
        regions: All regions.
        num_disputed: Regions on which the cells disagree most, at most.
        num_each: Regions of each other group, at most.
    """
    outcomes, candidates = regions.outcomes, regions.candidates
    disputed = [r for r in candidates if outcomes[r].gap or outcomes[r].wordings > 1]
    shown = _over_images(regions, disputed, num_disputed)
    drawn = random.Random(DRAWN_WITH).sample(candidates, min(num_each, len(candidates)))
    at_random = f"Drawn from all regions with seed {DRAWN_WITH}."
    return (
        RegionGroup("disputed", "Most disputed", _DISPUTED, len(disputed), shown),
        *_ends(regions, candidates, num_each),
        RegionGroup("random", "Random", at_random, len(candidates), tuple(drawn)),
    )


_DISPUTED = (
    "Those on which the cells disagree most: the largest range of the means over seeds, then "
    "the number of different captions. Each image gives one before any gives a second, at most "
    f"{MAX_PER_IMAGE}."
)


def _over_images(regions: SuiteRegions, disputed: list[str], count: int) -> tuple[str, ...]:
    """Return the most disputed regions, most disputed first, not too many of one image."""
    known = regions.outcomes
    ordered = sorted(disputed, key=lambda r: (-(known[r].gap or 0.0), -known[r].wordings, r))
    per_image: dict[str, int] = {}
    turns: dict[str, int] = {}
    for region_id in ordered:
        image_id = regions.rows[region_id].image_id
        turns[region_id] = per_image.setdefault(image_id, 0)
        per_image[image_id] += 1
    by_turn = sorted((r for r in ordered if turns[r] < MAX_PER_IMAGE), key=lambda r: turns[r])
    taken = set(by_turn[:count])
    return tuple(region_id for region_id in ordered if region_id in taken)


def _ends(regions: SuiteRegions, candidates: list[str], count: int) -> tuple[RegionGroup, ...]:
    """Return the regions that all captions have wrong, and those that all have right.

    Where no region is described by all in the words of a reference, as in free text, they are
    those of the lowest and highest scores.
    """
    known = regions.outcomes
    asked = [region_id for region_id in candidates if known[region_id].said]
    right = [region_id for region_id in asked if known[region_id].right == known[region_id].said]
    if right:
        wrong = [region_id for region_id in asked if not known[region_id].right]
        how = "An even sample of those where {} caption of a cell equals a reference."
        return (
            RegionGroup("wrong", "All wrong", how.format("no"), len(wrong), _even(wrong, count)),
            RegionGroup("right", "All right", how.format("every"), len(right), _even(right, count)),
        )
    scored = sorted((mean, r) for r in asked if (mean := known[r].mean) is not None)
    low, high = ([r for _, r in ends[:count]] for ends in (scored, scored[::-1]))
    how = "Those of the {} mean over cells and seeds."
    return (
        RegionGroup("wrong", "Lowest scores", how.format("lowest"), len(scored), tuple(low)),
        RegionGroup("right", "Highest scores", how.format("highest"), len(scored), tuple(high)),
    )


def _even(ids: list[str], count: int) -> tuple[str, ...]:
    """Return some ids at even steps."""
    count = min(count, len(ids))
    return tuple(ids[(2 * i + 1) * len(ids) // (2 * count)] for i in range(count))
