"""Scoring finished runs from their files; no model, no GPU, one METEOR process for all runs."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from sca_bench.data.load import load_split
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError, at, fault_line
from sca_bench.files import delete, drop_unfinished, write_atomic
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.protocol import ImageSource
from sca_bench.metrics.registry import get_metric, is_outdated, values_of
from sca_bench.metrics.rows import CaptionRow, read_rows
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.metrics.subsets import subset_digest, subset_rows
from sca_bench.metrics.value_names import SEEN, TRAIN, ValueName
from sca_bench.output import num_text
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.plan.plan import Job
from sca_bench.study.runs.record import RunRecord, Score
from sca_bench.study.runs.store import (
    PREDICTIONS,
    STATISTICS,
    TRAIN_PREDICTIONS,
    Store,
    read_region_scores,
    read_statistics,
)
from sca_bench.variants import get_variant

READ_AHEAD, _AHEAD_BYTES = 16, 1 << 26
"""Runs whose captions are read and cut into words together, and the most bytes of their files: in
memory they take several times as much, and large ones gain nothing."""
_T = TypeVar("_T")


def is_scored(
    record: RunRecord,
    metrics: Sequence[str],
    subsets: Mapping[str, str] | None = None,
    *,
    again: bool = False,
) -> bool:
    """Say whether every metric has a value or a reason in the record, of every subset, too.

    A value that an older revision of a metric of ours gave is none: it would stand in no column.

    Args:
        record: The run.
        metrics: Names.
        subsets: Name -> regions; another file under a name that was scored does not count.
        again: Whether a reason is not enough.
    """
    subsets = subsets or {}
    keys = [key for metric in metrics for key in values_of(metric)]
    names = [str(ValueName(key, part=part)) for part in ("", *subsets) for key in keys]
    scores = [(name, record.scores.get(name)) for name in names]
    whole = all(
        score is not None
        and not (again and score.value is None)
        and not is_outdated(name, score.signature)
        for name, score in scores
    )
    return whole and all(
        record.subsets.get(name) == subset_digest(which) for name, which in subsets.items()
    )


def score_runs(
    store: Store,
    jobs: Iterable[Job],
    metrics: Sequence[str],
    say: Callable[[str], None],
    subsets: Mapping[str, str] | None = None,
    *,
    again: bool = False,
    failed: dict[str, str] | None = None,
    done: ScoredBefore | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> int:
    """Score every finished run that lacks one of the metrics; return how many there were.

    Args:
        store: Where the runs lie.
        jobs: The runs meant.
        metrics: What they are scored by.
        say: Prints a line.
        subsets: Name -> regions scored by themselves as well, see `metrics.subsets.subset_rows`;
            their scores are called `name/metric`.
        again: Try anew what could not be computed before.
        failed: Gets job name -> reason of runs whose scores cannot be written; the others go on.
        done: What was scored while other runs went on; it is counted and its notes are said here.
        tell: Called before each run is scored, with how many are, and how many there are.

    Raises:
        OSError: Scores cannot be written, and there is no `failed`.
        InputError: A predictions file is damaged, or a subset names regions that a run has not
            captioned; what was scored before is kept.
    """
    waiting: list[tuple[str, RunRecord]] = []
    device = "auto"  # a suite has one
    for job in jobs:
        record = unscored(store, job.cell.cell_id, job.seed, metrics, subsets, again=again)
        if record is not None:
            waiting.append((job.name, record))
            device = job.cell.settings.runtime.device
            with contextlib.suppress(OSError):  # of a killed scorer
                drop_unfinished(store.run_dir(record.cell_id, record.seed), others_write=True)
    before = done or ScoredBefore()
    if count := before.count + len(waiting):
        say(f"  scoring {num_text(count, 'run')}: {', '.join((*metrics, *(subsets or {})))}")
    notes = list(before.notes)
    with RunScorer(store, metrics, subsets, again=again, device=device) as scorer:
        for part in batched(waiting, READ_AHEAD):
            scorer.read_ahead([record for _, record in part])
            for name, record in part:
                if tell is not None:
                    tell(len(notes), count)
                try:
                    notes.append(scorer.score(record))
                except OSError as error:  # a full disk; what is scored, also by others, stays
                    if failed is None:
                        raise
                    failed[name] = f"could not be scored: {fault_line(error)}"
                    say(f"  FAILED {name}: {failed[name]}")
    for note in common(notes):  # of the data, not of what one run said
        say(f"  note: {note}")
    return count


def unscored(
    store: Store,
    cell_id: str,
    seed: int,
    metrics: Sequence[str],
    subsets: Mapping[str, str] | None = None,
    *,
    again: bool = False,
) -> RunRecord | None:
    """Return the record of a run that is finished and not scored; None for any other."""
    record = store.record(cell_id, seed)
    if record is None or record.status != "done":
        return None
    return None if is_scored(record, metrics, subsets, again=again) else record


def batched(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield items in their order, some at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def common(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return what all of several runs had to note, in the order of the first."""
    first, *others = notes or [[]]
    return [note for note in first if all(note in other for other in others)]


@dataclass
class ScoredBefore:
    """What another process has scored already.

    Attributes:
        count: How many runs.
        notes: What was new in the notes of each.
    """

    notes: list[list[str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many runs."""
        return len(self.notes)


class RunScorer:
    """Scores one run after another from their files. A context manager, for one thread.

    Args:
        store: Where the runs lie.
        metrics: What they are scored by.
        subsets: As for `score_runs`.
        again: As for `score_runs`.
        device: Where metrics with a model compute, as `runtime.device` names it.
        scorer: What scores; one of its own where None. It is closed with this.
    """

    def __init__(
        self,
        store: Store,
        metrics: Sequence[str],
        subsets: Mapping[str, str] | None = None,
        *,
        again: bool = False,
        device: str = "auto",
        scorer: Scorer | None = None,
    ) -> None:
        self._store, self._metrics, self._subsets = store, tuple(metrics), dict(subsets or {})
        self._again, self._scorer = again, scorer or Scorer(device=device)
        self._opened: dict[str, RegionSet] = {}
        self._rows: dict[Path, list[CaptionRow]] = {}

    def __enter__(self) -> RunScorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End METEOR's process, if there is one."""
        self._scorer.close()

    def prepare(self) -> None:
        """Begin in the background what takes metrics long to begin."""
        self._scorer.prepare(self._metrics)

    def unscored(self, cell_id: str, seed: int) -> RunRecord | None:
        """Return the record of a run that is finished and not scored; None for any other."""
        wanted = self._metrics, self._subsets
        return unscored(self._store, cell_id, seed, *wanted, again=self._again)

    def read_ahead(self, records: Sequence[RunRecord]) -> None:
        """Read the captions of some runs, and cut them into words by one start of the tokenizer.

        A file that cannot be read is left to `score`, which says so.
        """
        self._rows.clear()
        size = 0
        for record in records if len(records) > 1 else ():
            with contextlib.suppress(InputError, OSError):
                folder = self._store.run_dir(record.cell_id, record.seed)
                size += (folder / PREDICTIONS).stat().st_size
                if size > _AHEAD_BYTES:
                    break
                self._rows[folder] = read_rows(folder / PREDICTIONS)
        if self._rows:
            self._scorer.read_ahead(self._rows.values(), self._metrics)

    def score(self, record: RunRecord) -> list[str]:
        """Score one run by what it lacks, and write its record; return what is new in its notes.

        Raises:
            OSError: Something cannot be written.
            InputError: As for `score_runs`.
        """
        folder = self._store.run_dir(record.cell_id, record.seed)
        rows = self._rows.pop(folder, None) or read_rows(folder / PREDICTIONS)
        after = _score_run(
            self._scorer,
            self._store,
            record,
            rows,
            self._metrics,
            self._subsets,
            self._opened,
            again=self._again,
        )
        return [note for note in after.notes if note not in record.notes]


def _score_run(
    scorer: Scorer,
    store: Store,
    record: RunRecord,
    rows: list[CaptionRow],
    metrics: Sequence[str],
    subsets: Mapping[str, str],
    opened: dict[str, RegionSet],
    *,
    again: bool,
) -> RunRecord:
    """Score one run by what it lacks; return its record, as it is written by then."""
    folder = store.run_dir(record.cell_id, record.seed)
    images = _images_of(record, opened)
    if not is_scored(record, metrics, again=again):
        with at(folder):
            result = scorer.score(rows, metrics, images)
        record = _score_whole(scorer, store, record, rows, result, metrics)
    for name, which in subsets.items():
        if not is_scored(record, metrics, {name: which}, again=again):
            part = subset_rows(rows, which)
            with at(f"{folder}: {name}"):
                result = scorer.score(part, metrics, images)
            _write_part(folder, name, part, result)
            digest = subset_digest(which)
            if record.subsets.get(name) != digest:
                record = _without_part(record, name)
            update = _of_part(record, name, result)
            update["subsets"] = record.subsets | {name: digest}
            record = _save(store, record, update)
    return record


def _write_part(folder: Path, name: str, rows: list[CaptionRow], result: ScoreResult) -> None:
    """Add a subset's region scores and statistics to the files of the whole."""
    path = folder / "region_scores.json"
    stored = read_region_scores(path)
    stored.setdefault("parts", {})[name] = _regions(rows, result)
    write_atomic(path, json.dumps(stored))
    if result.statistics:
        path = folder / STATISTICS
        statistics = read_statistics(path) if path.exists() else {}
        statistics |= {f"{name}/{k}": np.ascontiguousarray(v) for k, v in result.statistics.items()}
        write_atomic(path, save(statistics))


def _write_whole(
    store: Store, record: RunRecord, rows: list[CaptionRow], result: ScoreResult
) -> None:
    """Write region scores and statistics; those of metrics that the record has already stay."""
    folder = store.run_dir(record.cell_id, record.seed)
    now = _regions(rows, result)
    before = store.region_scores(record.cell_id, record.seed)
    statistics: dict[str, Any] = {}
    if record.scores and before.get("region_ids") == now["region_ids"]:
        older = {k: v for k, v in before.get("scores", {}).items() if k in record.scores}
        now["scores"] = older | now["scores"]
        now |= {"parts": before["parts"]} if "parts" in before else {}
        if (folder / STATISTICS).exists():
            statistics = read_statistics(folder / STATISTICS)
    write_atomic(folder / "region_scores.json", json.dumps(now))
    statistics |= {k: np.ascontiguousarray(v) for k, v in result.statistics.items()}
    if statistics:
        write_atomic(folder / STATISTICS, save(statistics))
    else:  # what a run of other captions left
        delete(folder / STATISTICS)


def _regions(rows: list[CaptionRow], result: ScoreResult) -> dict[str, Any]:
    return {
        "region_ids": [row.region_id for row in rows],
        "image_ids": [row.image_id for row in rows],
        "scores": dict(result.per_region),
    }


def _score_whole(
    scorer: Scorer,
    store: Store,
    record: RunRecord,
    rows: list[CaptionRow],
    result: ScoreResult,
    metrics: Sequence[str],
) -> RunRecord:
    """Write the scores of all captioned regions, and of the training regions if there are any."""
    folder = store.run_dir(record.cell_id, record.seed)
    _write_whole(store, record, rows, result)
    update = _update(record, result)
    if (folder / TRAIN_PREDICTIONS).exists():
        update["scores"] |= _train_scores(scorer, record, folder, rows, metrics)
    return _save(store, record, update)


def _save(store: Store, record: RunRecord, update: dict[str, Any]) -> RunRecord:
    record = record.model_copy(update=update)
    store.save(record)
    return record


def _images_of(record: RunRecord, opened: dict[str, RegionSet]) -> ImageSource:
    """Return the images a run captioned, as they are stored; their split is opened on first use.

    Args:
        record: The run.
        opened: Splits that were opened before, shared by the runs that captioned them.
    """

    @functools.cache
    def captioned() -> RegionSet:
        split = CellIdentity.stored(record.settings, record.inputs).split_settings("captioned")
        key = split.model_dump_json()
        if key not in opened:
            opened[key] = load_split(split)
        return opened[key]

    def load(image_id: str) -> NDArray[np.uint8]:
        with at(f"run {record.cell_id}"):
            try:
                return captioned().load_image(image_id)
            except KeyError:
                problem = "is not in the split the run captioned"
                raise InputError(None, image_id, problem, "run it again") from None

    return load


def _train_scores(
    scorer: Scorer,
    record: RunRecord,
    folder: Path,
    captioned: list[CaptionRow],
    metrics: Sequence[str],
) -> dict[str, Score]:
    """Return what the captions of the training split tell, in exact matches.

    `train/...`: the training split, compared with the regions' own references in every cell;
    `train/exact_match_as_dealt`: compared with the captions of other regions, where those were
    learnt from: how much of them the cell knows by heart;
    `seen/...`: the captioned regions with a reference that some training region has, too.
    """
    path = folder / TRAIN_PREDICTIONS
    train = read_rows(path)
    wanted = [metric for metric in metrics if get_metric(metric).of_training]
    wanted = wanted or ["exact_match"]
    known = {canonical(reference) for row in train for reference in row.references}
    seen = [row for row in captioned if any(canonical(r) in known for r in row.references)]
    scores: dict[str, Score] = {}
    for part, rows, split in ((TRAIN, train, "train"), (SEEN, seen, _split(record))):
        if rows:
            with at(folder):
                result = scorer.score(rows, wanted)
            scores |= {f"{part}/{k}": _score(record, result, k, split) for k in result.values}
    if all(row.learnt_from for row in train):
        as_permuted = [replace(row, references=row.learnt_from) for row in train]
        with at(path):
            result = scorer.score(as_permuted, ["exact_match"])
        scores[f"{TRAIN}/exact_match_as_dealt"] = _score(record, result, "exact_match", "train")
    return scores


def _update(record: RunRecord, result: ScoreResult) -> dict[str, Any]:
    scores = dict(record.scores)
    for key, value in result.values.items():
        before = scores.get(key)
        stands = (
            before is not None
            and before.value is not None
            and not is_outdated(key, before.signature)
        )
        if value is None and stands:
            continue  # what it took (a model, Java) is not here any more
        scores[key] = _score(record, result, key, _split(record))
    notes = [*record.notes, *(note for note in result.notes if note not in record.notes)]
    return {"scores": scores, "notes": notes}


def _without_part(record: RunRecord, name: str) -> RunRecord:
    """Return a record without the scores of a subset: they are of other regions than it has now."""
    others = {key: s for key, s in record.scores.items() if ValueName.parse(key).part != name}
    return record.model_copy(update={"scores": others})


def _of_part(record: RunRecord, name: str, part: ScoreResult) -> dict[str, Any]:
    """Return the scores of a subset as `name/metric`.

    Slots by the number of objects are left out: a subset need not have all regions of an image.
    """
    result = ScoreResult()
    result.add_part(name, part)
    return _update(record, result)


def _score(record: RunRecord, result: ScoreResult, key: str, split: str) -> Score:
    signature = result.signatures.get(key)
    protocol = {"split": split, "decoding": "none", "prompt": "none"}
    reads = get_variant(record.variant).reads
    if not reads or "eval" in reads:  # else neither decoding nor prompt has a say
        protocol |= {"decoding": _decoding(record), "prompt": record.settings["eval"]["prompt"]}
    return Score(
        value=result.values[key],
        signature={**signature.to_dict(), **protocol} if signature else {},
        reason=result.not_computed.get(key, ""),
    )


def _split(record: RunRecord) -> str:
    """Return what was captioned; records from before `eval.split` are all of the test split."""
    return str(record.settings["eval"].get("split", "test"))


def _decoding(record: RunRecord) -> str:
    beams = record.settings["eval"]["num_beams"]
    how = "greedy" if beams == 1 else f"beam {beams}"
    return f"{how}, at most {record.settings['eval']['max_new_tokens']} tokens"
