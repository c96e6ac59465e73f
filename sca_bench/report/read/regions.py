"""What the runs said about the test regions, and which regions a page shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.read.read_once import ReadOnce
from sca_bench.report.read.suite_data import CellRuns, SuiteData, sound_region_scores
from sca_bench.report.read.thumbnails import Thumbnails
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS

MAX_PER_IMAGE = 3


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
class Gap:
    """How much the cells disagree about a region; controls, which disagree always, left out.

    Attributes:
        scores: Range of the cells' seed means, natural units; None without scores.
        wordings: Number of different captions.
    """

    scores: float | None
    wordings: int


@dataclass(frozen=True, slots=True)
class SuiteRegions:
    """All test regions with what was said about them; read once for every page they stand on.

    Attributes:
        data: The suite.
        runs: What every run said.
        rows: Region id -> a row of the predictions, whoever wrote it.
        gaps: Region id -> disagreement.
        folders: Region id -> folder of its thumbnail.
        pictured: The regions whose image a copy was kept of.
    """

    data: SuiteData
    runs: tuple[RunCaptions, ...]
    rows: Mapping[str, CaptionRow]
    gaps: Mapping[str, Gap]
    folders: Mapping[str, str]
    pictured: frozenset[str]

    @property
    def candidates(self) -> list[str]:
        """The regions to choose from: those with an image, if any has one."""
        return [region_id for region_id in self.rows if region_id in self.pictured] or [*self.rows]


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
    gaps = {region_id: _gap(runs, region_id) for region_id in rows}
    return SuiteRegions(data, tuple(runs), rows, gaps, folders, frozenset(pictured))


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


def _gap(runs: list[RunCaptions], region_id: str) -> Gap:
    per_cell: dict[str, list[float]] = {}
    captions = set()
    for run in runs:
        if run.cell.entry.control or region_id not in run.rows:
            continue
        captions.add(run.rows[region_id].caption)
        if region_id in run.scores:
            per_cell.setdefault(run.cell.entry.cell_id, []).append(run.scores[region_id])
    means = [math.fsum(values) / len(values) for values in per_cell.values()]
    return Gap(max(means) - min(means) if len(means) > 1 else None, len(captions))


def choose(regions: SuiteRegions, num_disputed: int, num_even: int) -> list[tuple[str, str]]:
    """Return (region id, group): the most disputed ones, and others evenly over the test set.

    An image gives a second disputed region only when every image with a region has given one.
    """
    rows, gaps = regions.rows, regions.gaps
    candidates = regions.candidates
    ordered = sorted(candidates, key=lambda r: (-(gaps[r].scores or 0.0), -gaps[r].wordings, r))
    per_image: dict[str, int] = {}
    turns: dict[str, int] = {}
    for region_id in ordered:
        image_id = rows[region_id].image_id
        turns[region_id] = per_image.setdefault(image_id, 0)
        per_image[image_id] += 1
    by_turn = sorted((r for r in ordered if turns[r] < MAX_PER_IMAGE), key=lambda r: turns[r])
    disputed = set(by_turn[:num_disputed])
    rest = [region_id for region_id in candidates if region_id not in disputed]
    count = min(num_even, len(rest))
    even = {rest[(2 * i + 1) * len(rest) // (2 * count)] for i in range(count)}
    chosen = [(region_id, "disagreement") for region_id in ordered if region_id in disputed]
    return chosen + [(region_id, "even") for region_id in ordered if region_id in even]
