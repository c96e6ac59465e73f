"""What statistics are made of: each cell's statistics per seed, image by image.

A score that is no mean over regions (BLEU, METEOR) is resampled as what it is: from the statistics
that each region adds to it. Runs from before these were kept fall back to the mean of their
regions' scores, which is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.registry import corpus_value, spec_of_value
from sca_bench.metrics.value_names import ValueName
from sca_bench.report.read.read_once import ReadOnce
from sca_bench.report.read.suite_data import (
    CellRuns,
    SuiteData,
    load_statistics,
    sound_region_scores,
)
from sca_bench.stats.bootstrap import (
    Resampled,
    cell_scores,
    image_weights,
    mean_combine,
    resample,
)
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS, STATISTICS

LEVEL = 0.95
NUM_RESAMPLES = 1000
RESAMPLING_SEED = 0
CORPUS_TOLERANCE = 1e-4
"""Largest gap (natural units) between a score and the mean of its regions' scores that is read as
rounding."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One cell's scores by one metric, ready for comparison.

    Attributes:
        region_ids: The regions scored, sorted.
        image_ids: The image of each.
        seeds: Seeds that have region scores.
        means: (R,) each region's own score, averaged over seeds, natural units.
        resampled: Scores per seed, of all images and of each resample; None where there is a hole.
        note: What a reader should know.
        hole: Why there are no scores; empty where there are.
    """

    region_ids: tuple[str, ...] = ()
    image_ids: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    means: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    resampled: Resampled | None = None
    note: str = ""
    hole: str = ""


class Stored(Protocol):
    """Whatever cells are of: a suite, or one side of a comparison."""

    @property
    def store(self) -> ReadOnce:
        """Where region scores and captions are read from."""
        ...


@dataclass
class CellSamples:
    """Reads the samples of some cells, each once."""

    data: Stored
    _found: dict[tuple[str, str], Sample] = field(default_factory=dict)
    _weights: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def of(self, cell: CellRuns, metric: str) -> Sample:
        """Return one cell's sample."""
        key = (cell.entry.cell_id, metric)
        if key not in self._found:
            self._found[key] = self._sample(cell, metric)
        return self._found[key]

    def weights(self, num_images: int) -> NDArray[np.float64] | None:
        """Return the resamples (n, images), the same for all cells of as many images."""
        if num_images < 2:
            return None
        if num_images not in self._weights:
            self._weights[num_images] = image_weights(num_images, NUM_RESAMPLES, RESAMPLING_SEED)
        return self._weights[num_images]

    def _sample(self, cell: CellRuns, metric: str) -> Sample:
        read = _read(self.data, cell, metric)
        if isinstance(read, str):
            return Sample(hole=read)
        images = _images(self.data, cell, read.ids)
        if images is None:
            store = self.data.store
            files = [store.place(r.cell_id, r.seed, PREDICTIONS) for r in cell.done]
            damaged = next(filter(None, map(store.lost, files)), "")
            return Sample(hole=damaged or "regions are scored that predictions.jsonl does not have")

        def combine(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
            return corpus_value(ValueName.parse(metric).metric, sums, counts)

        try:
            scores = cell_scores(
                read.values,
                images,
                combine if read.is_corpus else mean_combine,
                trained=cell.is_trained,
            )
            resampled = resample([scores], self.weights(scores.num_images))[0]
        except Exception as error:
            spec = spec_of_value(metric)
            if not read.is_corpus or spec is None or spec.is_own:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Sample(hole=f"{spec.statistics} raised {reason}")
        note = "; ".join(text for text in (read.note, cell.uncovered) if text)
        return Sample(
            tuple(read.ids), tuple(images), tuple(read.seeds), read.means, resampled, note
        )


@dataclass
class Samples(CellSamples):
    """Reads the samples of one suite, each once."""

    data: SuiteData


def unpaired(left: Sample, right: Sample) -> str:
    """Return why two samples cannot be compared region by region; empty where they can."""
    for side, sample in (("left", left), ("right", right)):
        if sample.hole:
            return f"{side} side: {sample.hole}"
    if left.region_ids != right.region_ids:
        return "the two sides were scored on different regions"
    if left.image_ids != right.image_ids:
        return "the two sides disagree on the image of a region"
    return ""


@dataclass(frozen=True, slots=True)
class _Read:
    """What one cell's files hold of a metric: values (S, R, K) and means (R,) in order of ids."""

    ids: list[str]
    seeds: list[int]
    values: NDArray[np.float64]
    means: NDArray[np.float64]
    is_corpus: bool
    note: str


def _read(data: Stored, cell: CellRuns, metric: str) -> _Read | str:
    """Return a cell's regions by one metric, or why there are none."""
    if not cell.done:
        return "no finished run"
    means: list[NDArray[np.float64]] = []
    sums: list[NDArray[np.float64]] = []
    seeds: list[int] = []
    notes: list[str] = []
    ids: list[str] = []
    for record in cell.done:
        scores, rows, lost = _sound(data, record, metric)
        if lost:
            notes.append(f"seed {record.seed} is left out ({lost})")
            continue
        if not scores:
            notes.append(f"seed {record.seed} has no region scores and is left out")
            continue
        ids = ids or sorted(scores)
        if scores.keys() != set(ids):
            return f"seed {record.seed} was scored on other regions than the first seed"
        means.append(np.array([[scores[name]] for name in ids]))
        if rows is not None:
            sums.append(np.array([rows[name] for name in ids]))
        elif _is_no_mean(record, metric, means[-1]):
            notes.append("the interval is of the mean over regions, which is not the corpus score")
        seeds.append(record.seed)
    if not means:
        damaged = [note for note in notes if "damaged" in note]
        return "; ".join(("no region scores of this metric", *damaged))
    is_corpus = len(sums) == len(means)
    values = np.array(sums if is_corpus else means)
    note = "; ".join(dict.fromkeys(notes))
    return _Read(ids, seeds, values, np.mean(means, axis=0)[:, 0], is_corpus, note)


def _sound(
    data: Stored, record: RunRecord, metric: str
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]] | None, str]:
    """Return a run's region scores and statistics, and why neither counts where one is damaged."""
    store, key = data.store, (record.cell_id, record.seed)
    scores, lost = sound_region_scores(store, *key, metric)
    if not scores:
        return scores, None, lost
    of_metric = f"{store.place(*key, STATISTICS)}: {metric}"
    rows = store.sound(lambda: load_statistics(store, *key, metric), None, of_metric)
    return scores, rows, store.lost(of_metric)


def _is_no_mean(record: RunRecord, metric: str, values: NDArray[np.float64]) -> bool:
    score = record.scores.get(metric)
    if score is None or score.value is None:
        return False
    return abs(score.value - math.fsum(values[:, 0]) / len(values)) > CORPUS_TOLERANCE


def _images(data: Stored, cell: CellRuns, ids: Sequence[str]) -> list[str] | None:
    """Return the image of each region, from the first run that knows them all."""
    for record in cell.done:
        images = data.store.images(record.cell_id, record.seed)
        if all(key in images for key in ids):
            return [images[key] for key in ids]
    return None
