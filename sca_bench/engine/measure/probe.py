"""Probing a plan: a short run of every kind of group, measured on this machine and remembered.

The processes are those of the run: forked from one server, with the run's number of threads, and as
many at a time, since workers share memory bandwidth. What was measured stands in `probes.json` of
the runs folder, by machine, package versions and everything that decides the time of a step.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sca_bench.data.load import load_split
from sca_bench.engine.forecast.costs import GroupProbe, Overheads, SplitSize
from sca_bench.engine.forecast.forward_counts import shape_key, split_key
from sca_bench.engine.job import GroupJob, group_job, new_attempt
from sca_bench.engine.measure import probe_run
from sca_bench.engine.measure.probe_run import figures_path, small_job
from sca_bench.engine.mlflow_mirror.addresses import own_uri
from sca_bench.engine.mlflow_mirror.layout import shown_values
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.engine.worker.pool import Attempt, Pool, Task
from sca_bench.errors import InputError, at
from sca_bench.files import link, make_folder, write_atomic
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.reading import RECORD_BYTES, read_json
from sca_bench.study.keys.cell import SPLITS, RunSplit
from sca_bench.study.plan.manifest import manifest_of
from sca_bench.study.plan.plan import Group, Plan
from sca_bench.study.plan.preparations import preparations
from sca_bench.study.plan.schedule import Machine, Schedule
from sca_bench.study.runs.record import RunRecord, Score
from sca_bench.study.runs.store import Store

_SCORED_ROWS = 600
_POLL_S = 0.02


_Known = TypeVar("_Known", bound=BaseModel)


class Memory:
    """What was measured before, as JSON beside the runs."""

    def __init__(self, path: Path, machine: str) -> None:
        self._path, self._machine = path, machine
        try:
            known = read_json(path, RECORD_BYTES)
        except (OSError, InputError):
            known = {}  # only a memory: what is lost is measured again
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}

    def get(self, kind: str, key: str, model: type[_Known]) -> _Known | None:
        """Return what is known, or None; what is none of its kind is not known."""
        try:
            return model.model_validate(self._known.get(f"{self._machine}/{kind}/{key}"))
        except ValidationError:
            return None

    def put(self, kind: str, key: str, value: Any) -> None:
        """Remember something."""
        self._known[f"{self._machine}/{kind}/{key}"] = value
        with contextlib.suppress(OSError):  # what a closed folder does not take is measured again
            write_atomic(self._path, json.dumps(self._known, indent=0, sort_keys=True) + "\n")


@dataclass
class Prober:
    """Measures what a plan's groups take.

    Attributes:
        plan: The plan; something of it is left.
        store: The runs folder.
        schedule: How the run would spread it.
        machine: What it would run on.
        memory: What is known already.
        say: Prints a line for the user.
        sizes: `split_key` -> size, once read.
        probes: `shape_key` -> figures, once measured.
        notes: Groups that could not be measured, and why.
    """

    plan: Plan
    store: Store
    schedule: Schedule
    machine: Machine
    memory: Memory
    say: Callable[[str], None]
    sizes: dict[str, SplitSize] = field(default_factory=dict)
    probes: dict[str, GroupProbe] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _pool_s: float = 0.0
    _scored_s: tuple[float, float] | None = None

    def measure(self) -> None:
        """Measure every kind of group that is not known yet."""
        kinds = {shape_key(g, self.schedule.threads): g for g in self.schedule.groups}
        new: dict[str, Group] = {}
        for key, group in kinds.items():
            known, sizes = self.memory.get("group", key, GroupProbe), self._known_sizes(group)
            if known is not None and sizes:
                self.probes[key] = known
            elif self.machine.gpus == 0 and group.jobs[0].cell.identity.encoder.scale == "large":
                name = group.jobs[0].cell.identity.encoder.name
                self.notes.append(f"{name} is too large to be probed on a CPU; see --gpu")
            else:
                new[key] = group
        if new:
            self.say(f"measuring {len(new)} kinds of groups by short runs on this machine ...")
            with tempfile.TemporaryDirectory(prefix="sca_bench_probe_") as folder:
                self._measure(new, Path(folder))

    def _known_sizes(self, group: Group) -> bool:
        """Take the sizes of a group's splits from memory; say whether all are there."""
        for key in _split_keys(group).values():
            known = self.memory.get("split", key, SplitSize)
            if known is None:
                return False
            self.sizes[key] = known
        return True

    def _measure(self, kinds: dict[str, Group], folder: Path) -> None:
        self._pool = Pool(folder / "attempts", self.schedule.limit, self.machine.gpus)
        try:
            jobs = {key: self._job(group) for key, group in kinds.items()}
            read = self._wave(jobs, probe_run.READ, 1, self.schedule.threads, meanwhile=self._score)
            small: dict[str, GroupJob] = {}
            for number, (key, measured) in enumerate(read.items()):
                sizes = {n: SplitSize.model_validate(s) for n, s in measured["sizes"].items()}
                for name, split in _split_keys(kinds[key]).items():
                    self.sizes[split] = sizes[name]
                    self.memory.put("split", split, measured["sizes"][name])
                small[key] = small_job(jobs[key], folder / f"runs-{number}", sizes)
            waiting = len(preparations(list(self.schedule.groups)))
            width = min(waiting * self.schedule.shares(waiting), self.schedule.limit)
            prepared = self._wave(small, probe_run.PREPARE, width, self.schedule.prepare_threads)
            small = {key: job for key, job in small.items() if key in prepared}
            width = min(len(self.schedule.groups), self.schedule.limit)
            run = self._wave(small, probe_run.RUN, width, self.schedule.threads)
        finally:
            self._pool.kill()
        for key, measured in run.items():
            figures = {"load_s": read[key]["load_s"], **prepared[key], **measured}
            self.probes[key] = GroupProbe.model_validate(figures)
            self.memory.put("group", key, self.probes[key].model_dump())

    def _job(self, group: Group) -> GroupJob:
        return group_job(
            group,
            runs_dir=self.store.root,
            suite=self.plan.suite,
            threads=self.schedule.threads,
            device=self.machine.device,
            command="",
            frozen_threads=self.schedule.prepare_threads,
        )

    def _wave(
        self,
        jobs: dict[str, GroupJob],
        task: Task,
        width: int,
        threads: int,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, dict[str, Any]]:
        """Measure jobs, always `width` at a time; return the mean figures of each that ended well.

        Where fewer are left, copies of them are the neighbours. `meanwhile` is called beside the
        first ones.
        """
        measured: dict[str, list[dict[str, Any]]] = {}
        keys = list(jobs)
        for first in range(0, len(keys), width):
            now = keys[first : first + width]
            names = [now[i % len(now)] for i in range(width)]
            started: list[tuple[str, Attempt, float]] = []
            for number, key in enumerate(names):
                job = replace(
                    jobs[key], threads=threads, attempt=new_attempt(f"{task.name}-{number}")
                )
                if task != probe_run.READ:
                    job = replace(job, runs_dir=str(_copy(Path(job.runs_dir), number)))
                asked_at = time.time()
                started.append((key, self._pool.start(task.name, job, task), asked_at))
            if first == 0:
                meanwhile()
            while self._pool.running:
                self._pool.collect()
                time.sleep(_POLL_S)
            for key, attempt, asked_at in started:
                if (figures := self._figures(attempt)) is not None:
                    measured.setdefault(key, []).append(figures)
                    self._pool_s = self._pool_s or figures.get("began", asked_at) - asked_at
        return {key: _mean(rows) for key, rows in measured.items()}

    def _figures(self, attempt: Attempt) -> dict[str, Any] | None:
        outcome = attempt.outcome()
        outcome.raise_input_error()
        if outcome.failed:
            names = ", ".join(cell.name for cell in attempt.job.cells)
            self.notes.append(f"{names}: cannot be probed ({next(iter(outcome.failed.values()))})")
            return None
        figures: dict[str, Any] = json.loads(figures_path(attempt.outcome_path).read_text("utf-8"))
        return figures

    def overheads(self, start_s: float) -> Overheads:
        """Return what a run takes beside its groups; measured once for each captioned split."""
        known = self.memory.get("overheads", self._overheads_key, Overheads)
        if known is not None:
            return known
        self._score()
        score_s, score_more_s = self._scored_s or (0.0, 0.0)
        with tempfile.TemporaryDirectory(prefix="sca_bench_probe_") as folder:
            mirror_s, mirror_more_s = self._mirror(Path(folder))
        overheads = Overheads(
            start_s=start_s,
            pool_s=self._pool_s or start_s,  # both load the same libraries
            score_s=score_s,
            score_more_s=score_more_s,
            mirror_s=mirror_s,
            mirror_more_s=mirror_more_s,
        )
        self.memory.put("overheads", self._overheads_key, overheads.model_dump())
        return overheads

    @property
    def _overheads_key(self) -> str:
        cell = self.plan.left[0].cell
        return json.dumps([split_key(cell, "captioned"), *self.plan.suite.metrics])

    def _score(self) -> None:
        """Score captions of other regions twice, with and without starting the scorers, once."""
        known = self.memory.get("overheads", self._overheads_key, Overheads)
        if known is not None or self._scored_s is not None:
            return
        suite = self.plan.suite
        split = self.plan.left[0].cell.identity.split_settings("captioned")
        with at(suite.file):
            regions = load_split(split).regions
        scored = [regions[i] for i in range(min(len(regions), _SCORED_ROWS))]
        seconds: list[float] = []
        with Scorer() as scorer:
            for shift in (1, 2):
                rows = [
                    CaptionRow(
                        r.region_id,
                        r.image_id,
                        scored[(i + shift) % len(scored)].references[0],
                        r.references,
                        r.slots,
                    )
                    for i, r in enumerate(scored)
                ]
                began = time.perf_counter()
                with at(suite.file):
                    scorer.score(rows, suite.metrics)
                seconds.append(time.perf_counter() - began)
        more = seconds[1] * len(regions) / len(scored)
        self._scored_s = seconds[0] - seconds[1] + more, more

    def _mirror(self, folder: Path) -> tuple[float, float]:
        """Mirror a made-up run twice, into a database of its own."""
        store, cell = Store(folder), self.plan.cells[0]
        manifest, score = manifest_of(self.plan, store, "", ""), Score(value=0.5)
        record = RunRecord(
            cell_id=cell.cell_id,
            seed=self.plan.suite.seeds[0],
            status="done",
            settings=cell.settings.model_dump(mode="json"),
            variant=cell.settings.variant,
            revision=cell.revision,
            scores=dict.fromkeys(shown_values(manifest), score),
            cost={"train_s": 1.0, "peak_memory_mib": 1.0},
        )
        tracker = Tracker(store, manifest, own_uri(store), lambda _: None)
        seconds: list[float] = []
        for number in range(2):
            scores = record.scores | {f"more_{i}": score for i in range(number)}
            store.save(record.model_copy(update={"scores": scores}))
            began = time.perf_counter()
            with contextlib.suppress(Exception):  # then it takes nothing: a run goes on without it
                tracker.update()
            seconds.append(time.perf_counter() - began)
        return max(0.0, seconds[0] - seconds[1]), seconds[1]


def _split_keys(group: Group) -> dict[RunSplit, str]:
    cell = group.jobs[0].cell
    splits = [split for split in SPLITS if cell.identity.split_settings(split) is not None]
    return {split: split_key(cell, split) for split in splits}


def _copy(runs_dir: Path, number: int) -> Path:
    """Return the probe run's folder of runs, or that of a copy, which reads the same features."""
    if number == 0 or not runs_dir.exists():
        make_folder(runs_dir)
        return runs_dir
    copy = runs_dir.with_name(f"{runs_dir.name}-{number}")
    make_folder(copy)
    features = copy / "features"
    if not features.exists() and (runs_dir / "features").exists():
        link(features, runs_dir / "features")
    return copy


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of every number; what is no number comes from the first."""
    return {
        key: sum(row[key] for row in rows) / len(rows) if isinstance(value, float) else value
        for key, value in rows[0].items()
    }
