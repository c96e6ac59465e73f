"""From a suite to the work that is left: every (cell, seed) is done, to run or blocked."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sca_bench.digests import DIGESTS
from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import SPLITS, Cell, CellIdentity, RunSplit
from sca_bench.study.keys.fingerprint import Fingerprints, path_settings
from sca_bench.study.keys.training import stages_of
from sca_bench.study.plan.balance import balanced
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import (
    TRAIN_PREDICTIONS,
    Store,
    checkpoint_step,
    has_lost_weights,
    is_trained,
)
from sca_bench.study.runs.trained_index import TrainedIndex
from sca_bench.study.suite.resolve import ResolvedCell
from sca_bench.study.suite.sides import (
    by_name,
    find,
    point_of,
    without_blanks,
)
from sca_bench.study.suite.suite import Suite
from sca_bench.variants import get_variant

Training = tuple[str, int]
"""A training's key and its seed."""

START_COST, _CAPTIONS, _READ_STEP, _FROZEN_STEP = 100.0, 50.0, 0.3, 27.0
"""In steps of a mixer's layer: the start of a process, the captions of a run, and what a group
computes once a step. Measured at the scale `tiny` on a CPU, the last one for ViT-B and GPT-2."""


@dataclass(frozen=True)
class Job:
    """One run that a suite asks for, or a pretraining stage that one of them needs.

    Attributes:
        cell: What to run.
        seed: Its seed.
        state: Whether it is finished; blocked where an input is missing.
        blocked: What is missing, and what to do about it; empty where nothing is.
        reuses: Its weights are trained by another run; only its evaluation is left.
        waits_for: Trainings that must be finished before it can start.
    """

    cell: Cell
    seed: int
    state: Literal["done", "to run", "blocked"]
    blocked: tuple[str, ...] = ()
    reuses: bool = False
    waits_for: frozenset[Training] = frozenset()

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f"{self.cell.name} seed {self.seed}"

    @property
    def order_seed(self) -> int:
        """Seed of its data order: its own, unless the settings name one."""
        return self.cell.settings.train.order(self.seed)

    @property
    def gives(self) -> Training | None:
        """Return the training it will finish, if any."""
        return None if self.reuses else (self.cell.training_id, self.seed)

    @property
    def steps(self) -> int:
        """Optimiser steps it will make."""
        return 0 if self.reuses else self.cell.settings.train.steps

    @property
    def cost(self) -> float:
        """What it costs beside what its group shares, relative to other runs.

        The unit is a step of one layer of the text mixer; all else of a step takes as long.
        """
        captions = 0 if self.cell.stage else _CAPTIONS
        return captions + self.steps * self.step_cost

    @property
    def step_cost(self) -> float:
        """What one of its steps costs."""
        return 1.0 + self.cell.settings.mixer.num_layers

    @property
    def splits(self) -> tuple[RunSplit, ...]:
        """Return the splits whose frozen features it reads."""
        settings, trains = self.cell.settings, self.cell.identity.spec.trains
        if self.cell.stage:
            return ("train",)
        if trains == "once":
            return ("train", "captioned")
        if (self.reuses or trains == "never") and not settings.eval.also_train:
            return ("captioned",)
        if trains == "never":
            return ("train", "captioned")
        return SPLITS if settings.data.val is not None else ("train", "captioned")

    @property
    def cached_splits(self) -> tuple[RunSplit, ...]:
        """Return those of them of which all is kept that it reads."""
        whole = self.cell.settings.features.cache == "all"
        return tuple(split for split in self.splits if whole and self.cell.identity.caches(split))


@dataclass(frozen=True)
class Group:
    """Runs that share their frozen prefix and their data order, whose seed is `seed`."""

    key: str
    seed: int
    jobs: tuple[Job, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps it will make."""
        return max((job.steps for job in self.jobs), default=0)

    @property
    def shared_cost(self) -> float:
        """What it costs beside its runs' own cost, however many they are."""
        return START_COST + self.steps * self._shared_step

    @property
    def cost(self) -> float:
        """What it costs relative to other groups; see `Job.cost`."""
        return self.shared_cost + sum(job.cost for job in self.jobs)

    @property
    def step_cost(self) -> float:
        """What one of its steps costs."""
        return self._shared_step + sum(job.step_cost for job in self.jobs if job.steps)

    @property
    def _shared_step(self) -> float:
        return _READ_STEP if self.is_cached else _FROZEN_STEP

    @property
    def is_cached(self) -> bool:
        """Whether everything frozen that its runs read is kept, so that a part computes nothing."""
        return all(job.cached_splits == job.splits for job in self.jobs)

    @property
    def waits_for(self) -> frozenset[Training]:
        """Trainings that must be finished before any of it can start."""
        return frozenset[Training]().union(*(job.waits_for for job in self.jobs))


@dataclass(frozen=True)
class Plan:
    """A suite with keys and states.

    Attributes:
        suite: The suite.
        cells: Its cells.
        jobs: One run for every cell and seed.
        stages: Every pretraining stage and seed that one of its cells begins with; those that no
            run needs any more count as done.
    """

    suite: Suite
    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    stages: tuple[Job, ...] = ()

    @property
    def left(self) -> list[Job]:
        """The runs that are not done, stages first."""
        return [job for job in (*self.stages, *self.jobs) if job.state == "to run"]

    @property
    def blocked(self) -> list[Job]:
        """The runs that lack an input, stages first."""
        return [job for job in (*self.stages, *self.jobs) if job.state == "blocked"]

    @property
    def num_done(self) -> int:
        """How many of the cells' runs are done."""
        return sum(job.state == "done" for job in self.jobs)

    def groups(self, workers: int, *, one_processor: bool = True) -> list[Group]:
        """Group the runs that are left; a group is split only where workers would be idle.

        They are idle where there are fewer groups, and where the last ones leave some with nothing
        to do (`sca_bench.study.plan.balance`); cells give the same numbers in any group. Several
        one-thread workers beat one process of several threads as long as each of them takes its
        frozen features from the cache. Where they are computed when needed, a split
        group computes them twice: on the cores of one processor that is a loss, so such a group
        stays whole and its process gets the threads. A GPU that would stand idle is another matter.

        Args:
            workers: Number of processes that can run at the same time.
            one_processor: Whether they divide the cores of one processor among them.
        """
        return self.grouped(self.left, workers, one_processor=one_processor)

    @staticmethod
    def grouped(
        jobs: Iterable[Job], workers: int = 1, *, one_processor: bool = True
    ) -> list[Group]:
        """Group any runs, as `groups` does with those that are left."""
        shared: dict[tuple[str, int, bool, int], list[Job]] = {}
        for job in jobs:
            key = job.cell.identity.prefix_key
            # A stage and the one it starts from may be alike; in one group neither could start.
            stage_number = len(job.cell.settings.pretraining) if job.cell.stage else -1
            shared.setdefault((key, job.order_seed, job.reuses, stage_number), []).append(job)
        groups = [Group(key[0], key[1], tuple(jobs)) for key, jobs in shared.items()]
        parts = balanced(
            [[job.cost for job in group.jobs] for group in groups],
            workers,
            shared=[group.shared_cost for group in groups],
            may_cut=[not one_processor or group.is_cached for group in groups],
        )
        return [
            replace(groups[number], jobs=tuple(groups[number].jobs[m] for m in sorted(members)))
            for number, members in parts
        ]


def make_plan(
    suite: Suite, store: Store, *, only: str | None = None, allow_missing: bool = False
) -> Plan:
    """Give every cell its key and look up what is done.

    Args:
        suite: A resolved suite.
        store: The runs folder.
        only: Cells to plan: a name, a shell pattern of names, or coordinates as in a claim.
        allow_missing: Mark the runs of a cell whose files are missing as blocked; the keys of such
            a cell hold for this plan only.

    Raises:
        InputError: A file is missing, two cells are one, or `only` matches nothing.
    """
    prints = Fingerprints(store.root / DIGESTS, fixes=suite.missing if allow_missing else None)
    cells: list[Cell] = []
    stages: dict[str, Cell] = {}
    lacks: dict[str, tuple[str, ...]] = {}
    for item in suite.cells if only is None else _chosen(suite.cells, only):
        with at(suite.file):
            chain = _stage_cells(item.settings, prints)
            identity = CellIdentity(item.settings, prints.inputs(item.settings))
        stages |= {stage.cell_id: stage for stage in chain}
        cells.append(
            Cell(
                name=item.name,
                coordinates=item.coordinates,
                identity=identity,
                control=item.control,
                adjusted=item.adjusted,
                starts_from=chain[-1].cell_id if chain else "",
            )
        )
        problems = (p for c in (cells[-1], *chain) for p in prints.problems(c.identity.inputs))
        lacks[cells[-1].cell_id] = tuple(dict.fromkeys(problems))
    with at(suite.file):
        _refuse_equal(cells)
    jobs: dict[Training, Job] = {}
    # What is a stage of one cell is not trained once more where it is all another cell trains.
    claimed = {(key, seed) for key in stages for seed in suite.seeds}
    for cell in cells:
        for seed in suite.seeds:
            if (cell.cell_id, seed) not in jobs:
                lack = lacks[cell.cell_id]
                jobs[cell.cell_id, seed] = (
                    Job(cell, seed, "blocked", lack) if lack else _job(store, cell, seed, claimed)
                )
    return Plan(suite, tuple(cells), tuple(jobs.values()), _stage_jobs(store, stages, jobs))


def _refuse_equal(cells: Iterable[Cell]) -> None:
    """Refuse two cells of one key: they name different files (see `join_equal`) of one content."""
    known: dict[str, Cell] = {}
    for cell in cells:
        other = known.setdefault(cell.cell_id, cell)
        if other is cell:
            continue
        named = [dict(path_settings(one.settings)) for one in (other, cell)]
        read = (key for key in named[0] if key in cell.identity.key_values)
        key = next((key for key in read if named[1].get(key) != named[0][key]), "")
        files = " and ".join(repr(paths.get(key)) for paths in named)
        problem = f"{files} have one content, so {other.name!r} and {cell.name!r} are one cell"
        raise InputError(None, key, problem, "name other files, or leave one of the cells out")


def _chosen(cells: Sequence[ResolvedCell], only: str) -> list[ResolvedCell]:
    """Return the cells that `--only` means; blanks after its commas do not count."""
    names = {name: cell.name for cell in cells for name in (cell.name, *cell.also)}
    pattern = without_blanks(only)
    named = by_name(only, names)
    named = named or [n for n in names if fnmatch.fnmatchcase(without_blanks(n), pattern)]
    meant = {names[name] for name in named}
    if not meant:
        with at("--only"):
            meant = {point.name for point in find(only, list(map(point_of, cells)), only)}
    if not meant:
        raise InputError("--only", only, "matches no cell", did_you_mean(only, names))
    return [cell for cell in cells if cell.name in meant]


def _stage_cells(settings: CellSettings, prints: Fingerprints) -> list[Cell]:
    """Return the chain of stages before a cell's own training, each keyed by its training.

    A variant that makes no gradient steps has no use for stages, and gets none.
    """
    chain: list[Cell] = []
    if get_variant(settings.variant).trains != "gradient":
        return chain
    for name, stage in stages_of(settings):
        chain.append(
            Cell(
                name=f"stage {name}",
                coordinates={},
                identity=CellIdentity(stage, prints.inputs(stage)),
                starts_from=chain[-1].cell_id if chain else "",
                stage=name,
            )
        )
    return chain


def _job(store: Store, cell: Cell, seed: int, claimed: set[Training]) -> Job:
    """Return the run of a cell; the first run of a training that is left trains it for all."""
    if _is_done(store, cell, seed):
        return Job(cell, seed, "done")
    folder = store.run_dir(cell.cell_id, seed)
    training = (cell.training_id, seed)
    if not cell.training_id or is_trained(folder):
        claimed.add(training)  # it may not be announced yet
        return Job(cell, seed, "to run")
    trained = TrainedIndex(store).find(*training)
    if training in claimed or (trained is not None and trained.cell_id != cell.cell_id):
        return Job(cell, seed, "to run", reuses=True, waits_for=frozenset({training}))
    claimed.add(training)
    return Job(cell, seed, "to run", waits_for=_start_of(cell, seed, store))


def _start_of(cell: Cell, seed: int, store: Store) -> frozenset[Training]:
    """Return the stage that a training starts from, unless it is under way already."""
    folder = store.run_dir(cell.cell_id, seed)
    begun = checkpoint_step(folder) > 0 or is_trained(folder)
    return frozenset() if begun or not cell.starts_from else frozenset({(cell.starts_from, seed)})


def _stage_jobs(
    store: Store, stages: Mapping[str, Cell], jobs: Mapping[Training, Job]
) -> tuple[Job, ...]:
    """Return a run for every stage and seed, marked done where it is or where none needs it."""
    index = TrainedIndex(store)
    needed = {t for job in jobs.values() if job.state == "to run" for t in job.waits_for}
    made: list[Job] = []
    blocked = {(j.cell.starts_from, j.seed): j.blocked for j in jobs.values() if j.blocked}
    seeds = sorted({seed for _, seed in jobs})
    for key, cell in reversed(list(stages.items())):  # a stage comes after those it starts from
        for seed in reversed(seeds):
            if lack := blocked.get((key, seed)):
                blocked.setdefault((cell.starts_from, seed), lack)
                made.append(Job(cell, seed, "blocked", lack))
                continue
            left = (key, seed) in needed and not _is_settled(store, index, cell, seed)
            start = _start_of(cell, seed, store) if left else frozenset()
            needed |= start
            made.append(Job(cell, seed, "to run" if left else "done", waits_for=start))
    return tuple(reversed(made))


def _is_settled(store: Store, index: TrainedIndex, stage: Cell, seed: int) -> bool:
    """Say whether a stage's weights are there, and its own record, if it has one, says so too."""
    trained = index.find(stage.cell_id, seed)
    if trained is None:
        return False
    return trained.cell_id != stage.cell_id or _is_done(store, stage, seed)


def _is_done(store: Store, cell: Cell, seed: int) -> bool:
    record = store.record(cell.cell_id, seed)
    folder = store.run_dir(cell.cell_id, seed)
    if record is None or record.status != "done":
        return False
    if has_lost_weights(folder) and not _stands_on_others(store, cell, record):
        return False
    return not cell.settings.eval.also_train or (folder / TRAIN_PREDICTIONS).exists()


def _stands_on_others(store: Store, cell: Cell, record: RunRecord) -> bool:
    """Say whether a run's captions are made with weights that another run has trained since."""
    trained = TrainedIndex(store).find(cell.training_id, record.seed)
    if trained is None or trained.cell_id == cell.cell_id or not record.lineage:
        return False
    last = record.lineage[-1]
    return (last.get("cell_id"), last.get("seed")) == (trained.cell_id, trained.seed)


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """Return what is done and left, a run a row, as plain values; the stages come first."""
    return [
        {
            "cell": job.cell.name,
            "id": job.cell.cell_id,
            "seed": job.seed,
            "stage": job.cell.stage,
            "state": job.state,
            "blocked": list(job.blocked),
            "reuses_weights": job.reuses,
            "steps": job.steps,
        }
        for job in (*plan.stages, *plan.jobs)
    ]
