"""Scores that are computed for a comparison: of a file, or over the regions that two sides share.

CIDEr-D counts words in the references that it scores, so scores over other regions are other
scores: what two sides share is scored anew instead of being picked from what there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from sca_bench.errors import at
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.metrics.value_names import ValueName
from sca_bench.report.compare.sides import RegionScores, Side, read_captions
from sca_bench.report.read.suite_data import CellRuns, Run
from sca_bench.study.runs.record import CellEntry, RunRecord, Score
from sca_bench.study.runs.store import Store

FILE_METRICS = ("cider_d", "bleu", "rouge_l", "meteor", "exact_match")
"""What two files are compared by where nobody says more; SPICE would take minutes."""


class ScoredNow(RegionScores):
    """What was scored just now, as a runs folder that lies on no disk.

    Args:
        store: Where the captions come from.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._rows: dict[tuple[str, int], Mapping[str, CaptionRow]] = {}
        self._results: dict[tuple[str, int], ScoreResult] = {}

    def add(
        self, key: tuple[str, int], rows: Mapping[str, CaptionRow], result: ScoreResult
    ) -> None:
        """Take the captions and the scores of one run."""
        self._rows[key], self._results[key] = rows, result

    def predictions(self, cell_id: str, seed: int) -> Mapping[str, CaptionRow]:
        """Return region id -> row of one run."""
        return self._rows[cell_id, seed]

    def some_predictions(
        self, cell_id: str, seed: int, region_ids: Collection[str]
    ) -> Mapping[str, CaptionRow]:
        """Return region id -> row of some regions of one run."""
        rows = self._rows[cell_id, seed]
        return {name: rows[name] for name in region_ids if name in rows}

    def region_scores(self, cell_id: str, seed: int) -> dict[str, Any]:
        """Return the region scores of one run, as `Store.region_scores`."""
        key = (cell_id, seed)
        rows, result = self._rows[key], self._results[key]
        images = [row.image_id for row in rows.values()]
        return {"region_ids": [*rows], "image_ids": images, "scores": result.per_region}

    def statistics(self, cell_id: str, seed: int) -> dict[str, NDArray[Any]]:
        """Return what regions add to the scores of a corpus, by the statistic's name."""
        return self._results[cell_id, seed].statistics


def scored_by(names: Iterable[str]) -> list[str]:
    """Return the metrics to compute for some values, such as `bleu_4` or `slot/colour`."""
    return list(dict.fromkeys(ValueName.parse(name).metric.split(".")[0] for name in names))


def score_file_side(side: Side, names: Sequence[str], scorer: Scorer) -> Side:
    """Return a file's side with scores; as one run of a cell of which nothing was trained.

    Raises:
        InputError: No such metric.
    """
    record = RunRecord(
        cell_id="file",
        seed=0,
        status="done",
        settings={},
        variant="",
        revision="",
        cost={"num_trainable_params": 0.0},
    )
    store = ScoredNow(side.store)
    with at(side.given):
        record = _scored(store, record, side.rows, names, scorer)
    entry = CellEntry(cell_id="file", name=side.given, coordinates={}, variant="")
    return replace(side, store=store, cells=(CellRuns(entry, (Run(0, record, ""),)),))


def score_shared(
    side: Side,
    cells: Collection[CellRuns],
    region_ids: Collection[str],
    names: Sequence[str],
    scorer: Scorer,
) -> Side:
    """Return a side with some of its cells, scored over some of their regions.

    Raises:
        InputError: A run's captions are not there, or there is no such metric.
    """
    store = ScoredNow(side.store)
    chosen, scored = set(region_ids), []
    for cell in cells:
        runs = []
        for run in cell.runs:
            record = run.record
            if record is not None and not run.hole:
                rows = read_captions(side, record)
                rows = {name: row for name, row in rows.items() if name in chosen}
                with at(f"{side.given}, seed {run.seed}"):
                    record = _scored(store, record, rows, names, scorer)
            runs.append(replace(run, record=record))
        scored.append(replace(cell, runs=tuple(runs)))
    return replace(side, store=store, cells=tuple(scored))


def _scored(
    store: ScoredNow,
    record: RunRecord,
    rows: Mapping[str, CaptionRow],
    names: Sequence[str],
    scorer: Scorer,
) -> RunRecord:
    """Score one run's captions; return its record with these scores and no others."""
    result = scorer.score(list(rows.values()), scored_by(names))
    store.add((record.cell_id, record.seed), rows, result)
    before = next((score.signature for score in record.scores.values() if score.signature), {})
    protocol = {key: before[key] for key in ("split", "decoding", "prompt") if key in before}
    scores = {}
    for name, value in result.values.items():
        signature = result.signatures.get(name)
        signed: dict[str, Any] = {**signature.to_dict(), **protocol} if signature else {}
        scores[name] = Score(
            value=value, signature=signed, reason=result.not_computed.get(name, "")
        )
    return record.model_copy(update={"scores": scores})
