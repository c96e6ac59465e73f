"""`sweep`: search settings, then run the best configuration again where no trial has looked."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sca_bench.cli.frame import CALL, add_profile_and_set
from sca_bench.cli.report import page_of, print_answer
from sca_bench.cli.track import (
    add_mirror_arguments,
    command_line,
    findings_of,
    mirror_of,
    runs_dir_flag,
)
from sca_bench.errors import InputError
from sca_bench.output import in_words, num_text, text_console, text_table, without_secrets

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.engine.sweep.sweeper import Ended, Sweeper
    from sca_bench.report.findings.headline import Headline
    from sca_bench.study.plan.plan import Plan
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.sweep import Sweep


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `sweep` to the command line."""
    sweep = commands.add_parser(
        "sweep",
        parents=[common],
        help="search settings with Optuna; the best is run again on test",
        examples=("sweep lr_depth", "sweep lr_depth --trials 12 --set train.steps=100"),
    )
    what = "a sweep's YAML file, or a shipped one's name (`list suites`)"
    sweep.add_argument("suite", metavar="SWEEP", help=what)
    add_profile_and_set(sweep)
    sweep.add_argument("--trials", type=int, metavar="N", help="trials in place of the sweep's")
    add_mirror_arguments(sweep)
    sweep.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run the trials that are left, confirm the best, and say what came out."""
    from sca_bench.cli.suite_files import print_notes, suite_path
    from sca_bench.study.plan.manifest import check_name
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.sweep import CONFIRMED, load_sweep
    from sca_bench.study.suite.yaml_values import fault_lines

    if options.trials is not None and options.trials < 1:
        raise InputError("--trials", str(options.trials), "expected a number above 0")
    console = text_console()
    file = suite_path(options.suite, console)
    with fault_lines(file):
        sweep = load_sweep(
            file,
            profile=options.profile,
            overrides=options.overrides,
            trials=options.trials,
        )
    line = command_line(words)
    from sca_bench.engine.sweep.optuna_study import check_objectives

    check_objectives(sweep)
    print_notes(sweep.notes, console)
    store = Store(options.runs_dir)
    names = [sweep.spec.sweep, sweep.spec.sweep + CONFIRMED]
    if moved := check_name(sweep.file, names, store):
        print_notes([moved], console)
    return _Command(sweep, store, options, line, console).run()


class _Command:
    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        options: argparse.Namespace,
        line: str,
        console: Console,
    ) -> None:
        self.sweep, self.store, self.options = sweep, store, options
        self.line, self.console = line, console
        self._answers: list[Headline] = []
        self.mirror = mirror_of(options)
        if self.mirror is not None:
            self.mirror.say = self._say

    def run(self) -> int:
        import shlex

        from sca_bench.engine.launch.guard import exclusive
        from sca_bench.engine.sweep.optuna_study import default_storage, storage_at_work
        from sca_bench.engine.sweep.sweeper import Sweeper

        started = time.monotonic()
        url = self.sweep.spec.storage or default_storage(self.store.root)
        with (
            exclusive(self.store.root, self._say) as pulse,
            self.mirror or contextlib.nullcontext(),
            storage_at_work(self.sweep, url),
        ):
            self._pulse = pulse
            pulse.beat("planning", suite=self.sweep.spec.sweep, command=self.line)
            sweeper = Sweeper(self.sweep, self.store, url, self._run_plan, self._say)
            self._say(
                f"{self.sweep.spec.sweep} (profile {self.sweep.profile}): "
                f"{self.sweep.trials} trials in batches of {self.sweep.batch}, "
                f"{len(sweeper.ended)} ended, "
                f"{max(0, self.sweep.trials - len(sweeper.trials))} to ask; "
                f"study {sweeper.name}"
            )
            self.store.settle_interrupted()
            failed = self._search(sweeper)
            if self.mirror is not None:
                self.mirror.finish()
        self._summary(sweeper, started)
        shown = without_secrets(url)
        self._say(f"storage: {shown} (optuna-dashboard {shlex.quote(shown)})")
        for name, reason in failed.items():
            self._say(f"FAILED {name}: {reason}")
        for trial in sweeper.failed:
            self._say(f"FAILED #{trial.number}: {trial.user_attrs.get('reason', '')}")
        then = ""
        if (plan := sweeper.confirmation()) is not None:
            manifest = self._manifest(plan)
            print_answer(self.store, manifest, self.console, self._answers)
            then = f", then open {page_of(manifest)}"
        self._say(f"next: {CALL} report{runs_dir_flag(self.store)}{then}")
        return 1 if failed or sweeper.failed else 0

    def _search(self, sweeper: Sweeper) -> Mapping[str, str]:
        for batch in sweeper.batches():
            self._print_batch(sweeper, batch)
            self._publish(sweeper.plan_of(sweeper.ended))
            self._keep(sweeper, None)
        if sweeper.ended:
            self._publish(sweeper.plan_of(sweeper.ended))
        plan = sweeper.confirmation()
        self._keep(sweeper, plan)
        if plan is None:
            return {}
        if plan.left:
            names = ", ".join(cell.name for cell in plan.cells)
            self._say(f"confirming on the test split, {len(plan.left)} runs: {names}")
        failed = sweeper.confirm(plan)
        self._publish(plan, confirmed=True)
        return failed

    def _run_plan(self, plan: Plan, pruner: Any) -> Mapping[str, str]:
        from sca_bench.engine.launch.launcher import Launcher

        mirror = None
        if self.mirror is not None:
            from sca_bench.engine.mlflow_mirror.mirror import SuiteMirror

            mirror = SuiteMirror(self.mirror, self._manifest(plan))
        return Launcher(
            plan, self.store, self.line, self.console, mirror, pruner, pulse=self._pulse
        ).run()

    def _manifest(self, plan: Plan) -> Any:
        from sca_bench.study.plan.manifest import manifest_of

        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return manifest_of(plan, self.store, self.line, created)

    def _keep(self, sweeper: Sweeper, confirmation: Plan | None) -> None:
        """Write what a report shows of the search."""
        from sca_bench.engine.sweep.searched import sweep_record
        from sca_bench.study.runs.sweep_record import save_sweep

        save_sweep(self.store, sweep_record(sweeper, confirmation))

    def _publish(self, plan: Plan, *, confirmed: bool = False) -> None:
        """Let `report` and MLflow know the cells as they are now, and MLflow the final scores."""
        from sca_bench.study.plan.manifest import left_out

        if lacking := left_out(plan, self.store):
            self._say(lacking)
        manifest = self._manifest(plan)
        self.store.save_manifest(manifest)
        if self.mirror is not None:
            found = None
            if confirmed and not self.mirror.broken:
                found = findings_of(self.store, manifest, self._answers)
            self.mirror.update(manifest, found)

    def _print_batch(self, sweeper: Sweeper, batch: Sequence[Ended]) -> None:
        total = -(-self.sweep.trials // self.sweep.batch)
        self._say(f"batch {batch[-1].number // self.sweep.batch + 1} of {total}:")
        for trial in batch:
            outcome = self._values(trial)
            if trial.values is None or trial.state.name != "COMPLETE":
                outcome = f"{trial.state.name.lower()}: {trial.user_attrs.get('reason', '')}"
            self._say(f"  {trial.user_attrs['cell']}: {outcome}")
        best = sweeper.best()
        if len(best) == 1:
            self._say(f"  best so far: {best[0].user_attrs['cell']}: {self._values(best[0])}")
        elif best:
            self._say(f"  on the front so far: {', '.join(f'#{t.number}' for t in best)}")

    def _values(self, trial: Ended) -> str:
        objectives = self.sweep.spec.objectives
        pairs = zip(objectives, trial.values or (), strict=False)
        return ", ".join(f"{o.metric} {_shown(v, o.metric)}" for o, v in pairs)

    def _summary(self, sweeper: Sweeper, started: float) -> None:
        import statistics

        from sca_bench.study.suite.yaml_values import show_value

        ended, best = sweeper.ended, sweeper.best()
        states = [trial.state.name.lower() for trial in ended]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        seconds = time.monotonic() - started
        asked, runs = num_text(len(ended), "trial"), num_text(sweeper.launched, "run")
        self._say(f"{asked} ({counts}), {runs} in {in_words(seconds)}")
        if not sweeper.launched:
            self._say("nothing to do: every trial has ended (0 training steps, 0 forwards)")
        if not best:
            self._say("no trial has a value; there is no best configuration")
            return
        self._say("best configuration:" if len(best) == 1 else "configurations on the front:")
        for trial in best:
            for axis in self.sweep.axes:
                value = axis.value_of(trial.params[axis.key])
                self._say(f"  #{trial.number} {axis.key}: {show_value(value)}")
        plan = sweeper.confirmation()
        assert plan is not None
        table = text_table("cell", "metric", "validation", "test (mean)", "test seeds")
        confirmed: list[Ended | None] = [*best, *[None] * (len(plan.cells) - len(best))]
        for cell, tried in zip(plan.cells, confirmed, strict=True):
            chosen = None
            if tried is not None:  # None: what `base` alone says, which was no trial
                seed = self.sweep.spec.train_seed
                chosen = self.store.record(tried.user_attrs["cell_id"], seed)
            for metric in self.sweep.metrics:
                values = [
                    score.value
                    for seed in self.sweep.seeds
                    if (record := self.store.record(cell.cell_id, seed)) is not None
                    and (score := record.scores.get(metric)) is not None
                    and score.value is not None
                ]
                before = chosen.scores.get(metric) if chosen else None
                chosen_value = None if before is None else before.value
                seen = "-" if chosen_value is None else _shown(chosen_value, metric)
                mean = _shown(statistics.fmean(values), metric) if values else "-"
                each = ", ".join(_shown(value, metric) for value in values)
                table.add_row(cell.name, metric, seen, mean, each)
        self.console.print(table)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _shown(value: float, metric: str) -> str:
    """Return a value as reports show it: a score times 100, a cost as it is."""
    from sca_bench.metrics.registry import spec_of_value
    from sca_bench.report.names import show_score

    if spec_of_value(metric):
        return show_score(value, metric=metric)
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
