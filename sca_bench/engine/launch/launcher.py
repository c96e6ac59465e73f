"""Running a plan: prepare shared prefixes, run the groups, score, mirror; files are the truth."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sca_bench.devices.gpu import resolve_device
from sca_bench.engine.device import this_machine
from sca_bench.engine.forecast.budget import Budget
from sca_bench.engine.job import CellJob, GroupJob, group_job
from sca_bench.engine.launch.preparer import Preparer
from sca_bench.engine.launch.progress import RunProgress, cut_names, eta_text, plain_line
from sca_bench.engine.launch.scoring import Scoring
from sca_bench.engine.launch.time_left import Running, pace, seconds_left
from sca_bench.engine.mlflow_mirror.mirror import SuiteMirror
from sca_bench.engine.worker.pool import RUN, Attempt, Pool
from sca_bench.engine.worker.pruning import Pruner, answer_request
from sca_bench.errors import InputError, fault_line
from sca_bench.files import make_folder
from sca_bench.lifetime import stops
from sca_bench.lifetime.stops import Interrupted
from sca_bench.study.plan.plan import Group, Job, Plan, Training
from sca_bench.study.plan.schedule import make_schedule
from sca_bench.study.runs.heartbeat import Pulse
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.trained_index import TrainedIndex

_POLL_S, _SHOW_S, _MIRROR_S = 0.1, 1.0, 5.0
_SHORT_COST, _SCORES_SOON_S = 2000.0, 60.0
"""Cost a worker of a run, and seconds before its end, where scorers begin to load."""
_KEEP_S = 30.0
"""Longest time that workers have to finish their step and keep what they have, when stopped."""


@dataclass
class Launcher:
    """Runs what is left of a plan.

    Attributes:
        plan: The suite's plan.
        store: The runs folder.
        command: The command line, for the records.
        console: Where progress goes.
        mirror: The MLflow mirror, if wanted.
        pruner: Says after each validation which cells go on, if anything does.
        budget: Wall time beyond which nothing is started, if there is a limit.
        scoring: Scores runs while others go on, if it is wanted.
        pulse: Writes the command's heartbeats, where it has some.
        failed: Job name -> reason of what failed.
        logs: Job name -> text log of the process in which it failed, where it was one.
        counters: What was computed: `encoder_forwards`, `sam_mixer_forwards`.
    """

    plan: Plan
    store: Store
    command: str
    console: Console
    mirror: SuiteMirror | None
    pruner: Pruner | None = None
    budget: Budget | None = None
    scoring: Scoring | None = None
    pulse: Pulse | None = None
    failed: dict[str, str] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    _blocked: dict[str, str] = field(default_factory=dict)
    _unsaved: list[RunRecord] = field(default_factory=list)
    _is_short: bool = False
    _started: dict[str, tuple[Group, float]] = field(default_factory=dict)
    _ended: list[tuple[Group, float]] = field(default_factory=list)

    def run(self) -> dict[str, str]:
        """Run every job that is left; return job name -> reason for those that failed.

        Raises:
            InputError: The input of a group is wrong; nothing of it was started.
            Interrupted: After every worker was ended and every status put right.
        """
        device = resolve_device(self.plan.left[0].cell.settings.runtime.device)
        here = this_machine(device)
        self._schedule = make_schedule(self.plan, self.store, here)
        groups, self._device = list(self._schedule.groups), device
        if self.budget is not None:
            groups = self.budget.choose()
        self._pool = Pool(self.store.root / "attempts", self._schedule.limit, here.gpus)
        self._index = TrainedIndex(self.store)
        self._names = {job.gives: job.name for job in self.plan.left if job.gives is not None}
        self._began = time.time()
        with stops.answered(), RunProgress(self.console) as self._progress:
            try:
                self._mirror()  # its process starts beside the first ones of the run
                cost = sum(group.cost for group in groups)
                self._is_short = cost < _SHORT_COST * self._pool.limit
                if self.scoring is not None and self._is_short and self._has_room:
                    self.scoring.begin()
                prepare = Preparer(
                    self._pool, self._schedule, self._progress, self._job, self.pulse
                )
                self._beat("preparing inputs", total=sum(len(g.jobs) for g in groups), done=0)
                self._blocked = prepare.run(groups, self.store.root, self.counters)
                self._prepared_s = prepare.prepared_s
                self._run(groups)
            except BaseException as error:
                with stops.held():  # a second Ctrl-C must not leave a wrong status behind
                    self._end(error)
                raise
        return self.failed

    def _end(self, error: BaseException) -> None:
        """Put every status right when the run ends early; what is trained so far is kept.

        A signal that comes meanwhile ends the workers at once.
        """
        if self.scoring is not None:
            self.scoring.close()
        if isinstance(error, Interrupted) and self._pool.running:
            self._progress.say(f"  {error}: keeping what the running cells have come to ...")
            self._pool.ask_to_stop()
            asked, until = stops.times_asked(), time.monotonic() + _KEEP_S
            while self._pool.running and stops.times_asked() == asked:
                self._pool.collect()
                if time.monotonic() > until:
                    break
                time.sleep(_POLL_S / 2)
        self._pool.kill()
        asked_for = isinstance(error, Interrupted | InputError)
        reason = str(error) if asked_for else f"{type(error).__name__}: {error}"
        status = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        self._close_running(status, " ".join(reason.split()))

    def _job(self, group: Group, threads: int) -> GroupJob:
        for job in group.jobs:
            with suppress(OSError):  # the worker meets the fault, and tells whose it is
                make_folder(self.store.run_dir(job.cell.cell_id, job.seed))
        return self._group_job(group, threads)

    def _group_job(self, group: Group, threads: int) -> GroupJob:
        return group_job(
            group,
            runs_dir=self.store.root,
            suite=self.plan.suite,
            threads=threads,
            device=self._device,
            command=self.command,
            since=self._began,
            asks_pruner=self.pruner is not None,
            frozen_threads=self._schedule.prepare_threads,
        )

    def _run(self, groups: list[Group]) -> None:
        total, done = sum(len(group.jobs) for group in groups), 0
        waiting = [group for group in groups if not self._is_blocked(group)]
        shown = mirrored = time.monotonic()
        while waiting or self._pool.running:
            while self._pool.free > 0 and (group := self._next(waiting)) is not None:
                waiting.remove(group)
                if self.budget is not None and not self.budget.affords(group):
                    waiting = self.budget.still_coming(waiting)
                    continue
                self._start(group)
            if self.pruner is not None:
                for attempt in self._pool.running:
                    answer_request(attempt.outcome_path.parent, self.pruner)
            for attempt in self._pool.collect():
                done += len(attempt.job.cells)
                finished = self._finish(attempt, done, total)
                self._score(finished, is_last=not (waiting or self._pool.running))
            if waiting and not self._pool.running and self._next(waiting) is None:
                waiting = self._drop_orphans(waiting)
            now = time.monotonic()
            if now - shown >= _SHOW_S:
                self._show(waiting, done, total)
                shown = now
            if now - mirrored >= _MIRROR_S:
                self._mirror()
                mirrored = now
            time.sleep(_POLL_S)
        self._save_again()
        self._mirror()
        if self.scoring is not None:
            self._beat("scoring", done=done, work=[], left_s=None)
            self.scoring.finish(self._progress.say)

    def _score(self, finished: list[CellJob], *, is_last: bool) -> None:
        """Have finished runs be scored beside those that go on; the command scores the others."""
        scoring = self.scoring
        if scoring is None:
            return
        # For a short rest another process costs more than it saves.
        pays = self._has_room and not (is_last or self._is_short)
        if scoring.is_on or pays:
            for cell in finished:
                if not cell.stage:
                    scoring.add(cell.cell_id, cell.seed)

    @property
    def _has_room(self) -> bool:
        """Whether a process more than the workers may run; not where the user limits them."""
        return self.plan.left[0].cell.settings.runtime.jobs == 0

    def _start(self, group: Group) -> None:
        """Start a group; where that cannot be done, its runs fail and the others go on."""
        try:
            job = self._job(group, self._schedule.threads)
            took = max(self._prepared_s.get(cell.cell_id, 0.0) for cell in job.cells)
            self._started[job.attempt] = group, time.monotonic()
            self._pool.start(_names(job.cells), replace(job, prepared_s=took), RUN)
        except OSError as error:
            for failed in group.jobs:
                self._fail(self._cell(failed), f"could not be started: {fault_line(error)}")

    def _cell(self, job: Job) -> CellJob:
        return self._group_job(Group("", job.seed, (job,)), 1).cells[0]

    def _next(self, waiting: list[Group]) -> Group | None:
        """Return the first group whose trainings to start from are all finished."""
        ready = (group for group in waiting if all(map(self._is_there, group.waits_for)))
        return next(ready, None)

    def _is_there(self, training: Training) -> bool:
        return self._index.find(*training) is not None

    def _drop_orphans(self, waiting: list[Group]) -> list[Group]:
        """Fail the runs that nothing left will ever give a start; return the groups without them.

        Called when no group can start and none is running.
        """
        coming = {job.gives for group in waiting for job in group.jobs}
        left: list[Group] = []
        for group in waiting:
            runnable: list[Job] = []
            for job in group.jobs:
                lost = {t for t in job.waits_for - coming if not self._is_there(t)}
                if lost:
                    name = self._names.get(min(lost), "a training")
                    self._fail(self._cell(job), f"{name}, whose weights it needs, failed")
                else:
                    runnable.append(job)
            if runnable:
                left.append(Group(group.key, group.seed, tuple(runnable)))
        return left

    def _is_blocked(self, group: Group) -> bool:
        """Fail the runs of a group whose preparation failed."""
        reasons = [self._blocked.get(job.cell.cell_id, "") for job in group.jobs]
        if not any(reasons):
            return False
        for job in group.jobs:
            self._fail(self._cell(job), next(reason for reason in reasons if reason))
        return True

    def _finish(self, attempt: Attempt, done: int, total: int) -> list[CellJob]:
        """Say how the runs of a process ended; return those that are finished."""
        outcome = attempt.outcome()
        group, began = self._started[attempt.job.attempt]
        if not outcome.failed and not outcome.input_error:
            self._ended.append((group, time.monotonic() - began))
        if outcome.input_error:  # met only now, so the other groups go on
            line = str(InputError(*outcome.input_error))
            outcome.failed = {cell.key: line for cell in attempt.job.cells}
        self.counters.update(outcome.counters)
        self._progress.finish(attempt.name)
        for message in outcome.messages:
            self._progress.say(f"  {message}")
        for cell in attempt.job.cells:
            if cell.key in outcome.failed:
                self.logs[f"{cell.name} seed {cell.seed}"] = attempt.log_path
                self._fail(cell, outcome.failed[cell.key])
            if cell.key in outcome.pruned:
                self._progress.say(f"  pruned {cell.name}: {outcome.pruned[cell.key]}")
        ended = outcome.failed | outcome.pruned
        finished = [cell for cell in attempt.job.cells if cell.key not in ended]
        if finished:
            self._progress.say(f"  done {done} of {total}: {cut_names(_names(finished))}")
        return finished

    def _fail(self, cell: CellJob, reason: str) -> None:
        name = f"{cell.name} seed {cell.seed}"
        try:
            if not self._mark(cell, reason):
                return
        except OSError as error:
            reason += f" (not in its record: {fault_line(error)})"
        self.failed[name] = reason
        self._progress.say(f"  FAILED {name}: {reason}")

    def _show(self, waiting: list[Group], done: int, total: int) -> None:
        share, lines, running, work = float(done), [], [], []
        for attempt in self._pool.running:
            group, began = self._started[attempt.job.attempt]
            steps, all_steps, loss, step_s = self._position(attempt)
            share += len(attempt.job.cells) * steps / all_steps
            text = f"{steps}/{all_steps}" + (f", loss {loss:.2f}" if loss else "")
            one = Running(group, time.monotonic() - began, steps, all_steps, step_s)
            left_s = None if one.unit_s is None else one.left_s(one.unit_s)
            self._progress.update(attempt.name, steps, all_steps, text, left_s)
            lines.append(f"{self._progress.label(attempt.name)}: step {text}")
            work.append(attempt.work(f"step {text}"))
            running.append(one)
        left_s = seconds_left(running, waiting, self._ended, self._pool.limit)
        if self.scoring is not None:
            if left_s is not None and left_s < _SCORES_SOON_S and self._has_room:
                self.scoring.begin()
            self.scoring.listen()
        eta = eta_text(share / total, left_s)
        text = f"{done}/{total} runs, {100 * share / total:.0f} %"
        self._progress.update("suite", share, total, text, left_s)
        self._progress.heartbeat(plain_line(f"  {done} of {total} runs done, {eta}", lines))
        self._beat("training", done=done, total=total, left_s=left_s, work=work)

    def _beat(self, phase: str, **facts: Any) -> None:
        if self.pulse is not None:
            self.pulse.beat(phase, failed=len(self.failed), **facts)

    def _position(self, attempt: Attempt) -> tuple[int, int, float | None, float | None]:
        """Return step, steps in all, loss and seconds a step of a group."""
        cell = attempt.job.cells[-1]
        rows = self.store.log(cell.cell_id, cell.seed)
        steps = max((row["step"] for row in rows), default=0)
        losses = [row["loss"] for row in rows if "loss" in row]
        loss = losses[-1] if losses else None
        return steps, max(1, cell.settings.train.steps), loss, pace(rows)

    def _close_running(self, status: Any, reason: str) -> None:
        was_started = False
        for job in self.plan.left:
            record = self.store.record(job.cell.cell_id, job.seed)
            was_started |= record is not None
            if record is not None and record.status == "running":
                self._save(record.model_copy(update={"status": status, "error": reason}))
        self._save_again()
        if self.mirror is not None and was_started:
            self.mirror.finish(stopping=True)

    def _mirror(self) -> None:
        if self.mirror is not None:
            self.mirror.update()

    def _mark(self, cell: CellJob, reason: str) -> bool:
        """Record a failure; False for a run that was done before its group's process ended."""
        record = self.store.record(cell.cell_id, cell.seed)
        if record is not None and record.status == "done":
            return False
        record = record or RunRecord(
            cell_id=cell.cell_id,
            seed=cell.seed,
            status="failed",
            settings=cell.settings.model_dump(mode="json"),
            inputs=cell.identity.inputs,
            variant=cell.settings.variant,
            revision=cell.identity.revisions.variant,
            revisions=cell.identity.revisions.beside_variant,
        )
        self._save(record.model_copy(update={"status": "failed", "error": reason}))
        return True

    def _save(self, record: RunRecord) -> None:
        """Write a record; one that cannot be written now is tried again at the end."""
        try:
            self.store.save(record)
        except OSError:
            self._unsaved.append(record)

    def _save_again(self) -> None:
        unsaved, self._unsaved = self._unsaved, []
        for record in unsaved:
            self._save(record)
        for record in self._unsaved:
            folder = self.store.run_dir(record.cell_id, record.seed)
            self._progress.say(f"  {folder}: its status cannot be written; the next run does it")


def _names(cells: list[CellJob]) -> str:
    """Return what progress lines call a group: its cells, and their seeds."""
    seeds = sorted({cell.seed for cell in cells})
    names = ", ".join(dict.fromkeys(cell.name for cell in cells))
    return f"{names}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
