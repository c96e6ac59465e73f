"""Running a sweep: ask a batch of trials, run their cells as one group, tell their values.

The storage is written by this process alone. Every step is safe to repeat: trials that a stopped
sweep left open are taken up before any new one is asked, in the batches they belong to, and a cell
that is done, whoever ran it, is only told.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from sca_bench.digests import DIGESTS
from sca_bench.engine.job import run_key
from sca_bench.engine.score_runs import score_runs
from sca_bench.engine.sweep.optuna_study import make_sampler, open_study, storage_at_work, suggest
from sca_bench.engine.worker.pool import WAS_KILLED
from sca_bench.errors import InputError
from sca_bench.output import without_secrets
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.plan.plan import Plan, make_plan
from sca_bench.study.plan.repair import repaired_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.resolve import ResolvedCell
from sca_bench.study.suite.sweep import Split, Sweep

CELL, TRAINING = "cell_id", "training_id"
REASON, NAME = "reason", "cell"
_EXHAUSTED = "exhausted"

Ended = FrozenTrial
"""A trial as the storage keeps it."""
RunPlan = Callable[[Plan, Any], Mapping[str, str]]
"""Runs what is left of a plan, asking the pruner it is given, if it is given one."""


@dataclass
class Sweeper:
    """One call of a sweep.

    Attributes:
        sweep: The sweep.
        store: The runs folder.
        url: Of the storage.
        run_plan: Runs cells.
        say: Prints a line for the user.
        launched: How many runs this call has started.
    """

    sweep: Sweep
    store: Store
    url: str
    run_plan: RunPlan
    say: Callable[[str], None]
    launched: int = 0
    _trial_of_run: dict[str, int] = field(default_factory=dict)
    _refused: dict[int, InputError] = field(default_factory=dict)
    _killed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._prints = Fingerprints(self.store.root / DIGESTS)
        self.name = self.sweep.study_name(self._prints)
        self.study = open_study(self.sweep, self.name, self.url)
        self.study.stop = self._exhaust  # what a sampler calls that has nothing left to suggest
        with self._readable("trials"):
            ended = self.ended
        for trial in ended:
            self._check(trial)

    def _check(self, trial: FrozenTrial) -> None:
        """Refuse a trial that no sweep has written: a storage may have come with its folder.

        Raises:
            InputError: It lacks its cell or parameters, or they are of another kind.
        """
        facts = [trial.user_attrs.get(key, "") for key in (CELL, TRAINING, NAME, REASON)]
        told = all(isinstance(fact, str) for fact in facts)
        if told and CELL not in trial.user_attrs and trial.state == TrialState.FAIL:
            return  # its parameters made no cell
        with self._readable(f"trial {trial.number}"):
            if not (told and trial.user_attrs.get(CELL) and trial.user_attrs.get(NAME)):
                raise KeyError(CELL)
            with contextlib.suppress(InputError):  # what it makes today is no fault of the storage
                self._cell(trial.number, trial.params, "val")
        self.store.run_dir(trial.user_attrs[CELL], self._seed)

    @contextlib.contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            place = without_secrets(self.url)
            problem = f"no trial of this sweep stands there in {place!r} ({type(error).__name__})"
            fix = "delete the file if it is not yours, or name another storage"
            raise InputError(self.sweep.file, what, problem, fix) from None

    def _exhaust(self) -> None:
        self.study.set_user_attr(_EXHAUSTED, True)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number)

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that have a final state."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    @property
    def failed(self) -> list[FrozenTrial]:
        """The trials that failed, in this call or before."""
        return [trial for trial in self.trials if trial.state == TrialState.FAIL]

    def best(self) -> list[FrozenTrial]:
        """Return the best trial, or the front; the first of those with equal cells."""
        complete = [t for t in self.trials if t.state == TrialState.COMPLETE]
        signs = [1 if o.direction == "maximize" else -1 for o in self.sweep.spec.objectives]

        def height(trial: FrozenTrial) -> tuple[float, ...]:
            return tuple(s * v for s, v in zip(signs, trial.values, strict=True))

        if len(signs) == 1:
            return [max(complete, key=height)] if complete else []  # the first of equals
        heights = [height(trial) for trial in complete]
        front = {
            trial.user_attrs[CELL]: trial
            for trial, own in zip(reversed(complete), reversed(heights), strict=True)
            if not any(_dominates(other, own) for other in heights)
        }
        return sorted(front.values(), key=lambda trial: trial.number)

    def batches(self) -> Iterator[list[FrozenTrial]]:
        """Run the trials that are left; yield the trials of every batch as it ends.

        Raises:
            InputError: The storage is gone.
        """
        with storage_at_work(self.sweep, self.url):
            self._settle_pruned()
            while batch := self._next_batch():
                self._run_batch(batch)
                numbers = {trial.number for trial in batch}
                yield [trial for trial in self.trials if trial.number in numbers]

    def _next_batch(self) -> list[FrozenTrial]:
        """Return the open trials, with new ones up to the end of their batch."""
        taken = [self._complete(t) for t in self.trials if t.state == TrialState.RUNNING]
        number, total, size = len(self.trials), self.sweep.trials, self.sweep.batch
        exhausted = self.study.user_attrs.get(_EXHAUSTED, False)
        while number < total and not exhausted and (not any(taken) or number % size):
            self.study.sampler = make_sampler(self.sweep, number)
            taken.append(self._suggest(self.study.ask()))
            number += 1
        numbers = {trial.number for trial in taken if trial is not None}
        return [trial for trial in self.trials if trial.number in numbers]

    def _complete(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Take up a trial that a stopped sweep left open, perhaps before it had its parameters."""
        self.study.sampler = make_sampler(self.sweep, trial.number)
        with self._readable(f"trial {trial.number}"):
            return self._suggest(self._live(trial))

    def _live(self, trial: FrozenTrial) -> Trial:
        return Trial(self.study, trial._trial_id)  # optuna has no other way back to an open trial

    def _suggest(self, trial: Trial) -> FrozenTrial | None:
        """Give a trial its parameters and its cell; None where they make no cell, which is told."""
        for axis in self.sweep.axes:
            suggest(trial, axis)
        try:
            cell = self._cell(trial.number, trial.params, "val")
        except InputError as error:
            self._end(self.trials[trial.number], TrialState.FAIL, str(error))
            return None
        (known,) = make_plan(self.sweep.suite([cell]), self.store).cells
        facts = {CELL: known.cell_id, TRAINING: known.training_id, NAME: cell.name}
        for key, value in (*facts.items(), ("seed", self._seed)):
            if trial.user_attrs.get(key) != value:
                trial.set_user_attr(key, value)
        return self.trials[trial.number]

    @property
    def _seed(self) -> int:
        return self.sweep.spec.train_seed

    def _cell(self, number: int, params: Mapping[str, Any], split: Split) -> ResolvedCell:
        return self.sweep.cell(number, params, split)

    def _run_batch(self, batch: list[FrozenTrial]) -> None:
        wanted = [t for t in batch if self._twin(t) is None and not self._was_pruned(t)]
        if wanted:
            self._run_wanted(wanted)
        for trial in batch:
            if not self.trials[trial.number].state.is_finished():
                self._tell(trial)
        self._settle_pruned()

    def _run_wanted(self, wanted: list[FrozenTrial]) -> None:
        """Run trials as one group; where an input is wrong, each by itself, to see whose.

        Raises:
            InputError: It is wrong for all of them, and no trial ever went well.
        """
        plan = repaired_plan(lambda: self.plan_of(wanted), self.store, self.say)
        self._trial_of_run = {
            run_key(trial.user_attrs[CELL], self._seed): trial.number for trial in reversed(wanted)
        }
        self.launched += len(plan.left)
        pruner = self._prune if self.sweep.spec.pruner is not None else None
        try:
            if plan.left:
                self.run_plan(plan, pruner)
        except InputError as error:
            if len(wanted) == 1:
                self._refused[wanted[0].number] = error
                return
            for trial in wanted:
                self._run_wanted([trial])
            if self._refused.keys() >= {trial.number for trial in wanted} and not self.best():
                raise
        score_runs(self.store, plan.jobs, self.sweep.metrics, self.say)

    def plan_of(self, trials: list[FrozenTrial]) -> Plan:
        """Return the plan of some trials' cells, equal cells once; of what has no cell nothing."""
        firsts = {t.user_attrs[CELL]: t for t in reversed(trials) if CELL in t.user_attrs}
        cells = [
            self._cell(t.number, t.params, "val")
            for t in sorted(firsts.values(), key=lambda trial: trial.number)
        ]
        return make_plan(self.sweep.suite(cells), self.store)

    def confirmation(self) -> Plan | None:
        """Return the plan of the best configurations with fresh seeds on the test split.

        The configuration of `base` alone comes last, where the sweep wants it.
        """
        best = self.best()
        if not best:
            return None
        cells = [self._cell(trial.number, trial.params, "test") for trial in best]
        plan = make_plan(self.sweep.suite(cells, confirmed=True), self.store)
        if not self.sweep.beside_default:
            return plan
        default = self.sweep.default_cell()
        (own,) = make_plan(self.sweep.suite([default], confirmed=True), self.store).cells
        if own.cell_id in {cell.cell_id for cell in plan.cells}:
            return plan  # the search ended where it began
        cells.append(default)
        suite = self.sweep.suite(cells, confirmed=True, reference=default.name)
        return make_plan(suite, self.store)

    def confirm(self, plan: Plan) -> Mapping[str, str]:
        """Run and score what is left of the confirmation; return what failed, with reasons."""
        plan = repaired_plan(lambda: make_plan(plan.suite, self.store), self.store, self.say)
        self.launched += len(plan.left)
        failed = self.run_plan(plan, None) if plan.left else {}
        score_runs(self.store, plan.jobs, self.sweep.metrics, self.say)
        return failed

    def _twin(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Return an earlier trial of the same cell that ended without a value, if there is one."""
        record = self._record(trial)
        if record is not None and record.status == "done":
            return None
        ended = (TrialState.FAIL, TrialState.PRUNED)
        same = (t for t in self.ended if t.user_attrs.get(CELL) == trial.user_attrs[CELL])
        return next((t for t in same if t.state in ended and t.number < trial.number), None)

    def _was_pruned(self, trial: FrozenTrial) -> bool:
        """Say whether this very sweep pruned the cell before, in a storage that is gone."""
        record = self._record(trial)
        return record is not None and record.status == "pruned" and self.name in record.error

    def _record(self, trial: FrozenTrial) -> RunRecord | None:
        return self.store.record(trial.user_attrs[CELL], self._seed)

    def _prune(self, step: int, values: dict[str, dict[str, float]]) -> dict[str, str]:
        """Report a validation to the trials, in their order; return which runs leave, and why."""
        leaving: dict[str, str] = {}
        known = self._prune_value
        for run in sorted(values, key=lambda key: self._trial_of_run[key]):
            frozen = self.trials[self._trial_of_run[run]]
            trial = self._live(frozen)
            if step not in frozen.intermediate_values:
                trial.report(known(values[run]), step)
            elif step != frozen.last_step:
                continue  # answered before the sweep was stopped, and it went on
            if trial.should_prune():
                shown = values[run][self.sweep.spec.prune_on]
                name = f"{self.sweep.spec.prune_on} {shown:g}"
                reason = f"after step {step} with {name}, by {self.name}"
                leaving[run] = reason
                self._end(frozen, TrialState.PRUNED, reason)
        return leaving

    def _prune_value(self, values: Mapping[str, float]) -> float:
        """Return a validation's value, turned so that the objective's direction is better."""
        name = self.sweep.spec.prune_on
        better_high = name != "val/loss"
        turned = better_high != (self.sweep.spec.objectives[0].direction == "maximize")
        return -values[name] if turned else values[name]

    def _end(
        self, trial: FrozenTrial, state: TrialState, reason: str = "", values: Any = None
    ) -> None:
        self.study.sampler = make_sampler(self.sweep, trial.number)
        if reason:
            self._live(trial).set_user_attr(REASON, reason)
        self.study.tell(trial.number, values, state)

    def _tell(self, trial: FrozenTrial) -> None:
        record = self._record(trial)
        self._report_log(trial)
        if (twin := self._twin(trial)) is not None:
            self._end(trial, twin.state, f"the same cell as #{twin.number}")
        elif record is not None and self._was_pruned(trial):
            self._end(trial, TrialState.PRUNED, record.error)
        elif trial.number in self._refused:
            self._end(trial, TrialState.FAIL, str(self._refused[trial.number]))
        elif (giver := self._pruned_giver(trial, record)) is not None:
            self._end(trial, TrialState.PRUNED, f"trained by #{giver.number}, which was pruned")
        elif record is None or record.status != "done":
            reason = record.error if record else "never started"
            if reason.startswith(WAS_KILLED) and trial.number not in self._killed:
                self._killed.add(trial.number)  # that says nothing of its settings
                self.say(f"  #{trial.number}: {reason}; it is tried once more")
            else:
                self._end(trial, TrialState.FAIL, reason)
        else:
            values = [self._value(record, o.metric) for o in self.sweep.spec.objectives]
            if all(value is not None and math.isfinite(value) for value in values):
                self._end(trial, TrialState.COMPLETE, values=values)
            else:
                self._end(trial, TrialState.FAIL, "an objective has no value")

    def _pruned_giver(self, trial: FrozenTrial, record: RunRecord | None) -> FrozenTrial | None:
        """Return the pruned trial whose weights an unfinished one was to be captioned with."""
        if record is not None and record.status == "done":
            return None
        wanted = trial.user_attrs.get(TRAINING)
        pruned = (t for t in self.trials if t.state == TrialState.PRUNED)
        return next((t for t in pruned if wanted and t.user_attrs.get(TRAINING) == wanted), None)

    def _report_log(self, trial: FrozenTrial) -> None:
        """Report the validations that no pruner was asked about: those of cells done before."""
        if self.sweep.spec.pruner is None:
            return
        live, name = self._live(trial), self.sweep.spec.prune_on
        known = self.trials[trial.number].intermediate_values
        for row in self.store.log(trial.user_attrs[CELL], self._seed):
            if name in row and row["step"] not in known:
                live.report(self._prune_value(row), row["step"])

    @staticmethod
    def _value(record: RunRecord, metric: str) -> float | None:
        kind, _, cost = metric.partition(".")
        if kind == "cost":
            return record.cost.get(cost)
        score = record.scores.get(metric)
        return score.value if score is not None else None

    def _settle_pruned(self) -> None:
        """Let the records of pruned trials say so, whatever became of the worker."""
        for trial in self.trials:
            record = self._record(trial) if trial.state == TrialState.PRUNED else None
            if record is not None and record.status not in ("done", "pruned"):
                reason = trial.user_attrs.get(REASON, "")
                update = {"status": "pruned", "error": reason}
                self.store.save(record.model_copy(update=update))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
