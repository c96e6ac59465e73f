"""`run`: what is not done of a suite, its scores, and the mirror of both."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import CALL
from sca_bench.cli.report import page_of, print_answer
from sca_bench.cli.track import (
    add_mirror_arguments,
    command_line,
    findings_of,
    mirror_of,
    runs_dir_flag,
)
from sca_bench.output import in_words, num_text, text_table

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.engine.forecast.budget import Budget
    from sca_bench.engine.launch.scoring import Scoring
    from sca_bench.engine.mlflow_mirror.mirror import Mirror, SuiteMirror
    from sca_bench.report.findings.headline import Headline
    from sca_bench.study.plan.plan import Plan
    from sca_bench.study.runs.heartbeat import Pulse
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.suite import Suite


def add_parser(commands: Commands, suite: Parser) -> None:
    """Add `run` to the command line."""
    run = commands.add_parser(
        "run",
        parents=[suite],
        help="run what is not done of a suite",
        description="Run what is not done yet of a suite, or of every suite of a folder, and score "
        "it. Ctrl-C stops it; the same command goes on.",
        examples=(
            "run mixer_layers",
            "run mixer_layers --only num_layers=2 --seeds 0 --set train.steps=20",
            "run ablations --budget 2h",
        ),
    )
    add_mirror_arguments(run)
    run.add_argument(
        "--rescore", action="store_true", help="try again what metrics could not be computed"
    )
    run.add_argument(
        "--budget", metavar="TIME", help="start nothing that does not fit: 45s, 90m, 2h, 1h30m"
    )
    run.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what is left of a suite, or of every suite of a folder; return the exit code."""
    from sca_bench.cli.suite_files import for_each_suite
    from sca_bench.study.plan.plan import make_plan

    with contextlib.ExitStack() as stack:  # one mirror for all suites of a folder
        mirror = mirror_of(options)
        if mirror is not None:
            stack.enter_context(mirror)

        def run(suite: Suite, store: Store, console: Console) -> int:
            plan = make_plan(suite, store, only=options.only)
            return _run(plan, store, console, options, words, mirror)

        return for_each_suite(options, run)


def _run(
    plan: Plan,
    store: Store,
    console: Console,
    options: argparse.Namespace,
    words: Sequence[str],
    mirror: Mirror | None,
) -> int:
    from sca_bench.engine.forecast.budget import parse_duration
    from sca_bench.engine.score_runs import is_scored, score_runs
    from sca_bench.study.plan.manifest import left_out, manifest_of
    from sca_bench.study.plan.plan import make_plan
    from sca_bench.study.plan.repair import repaired_plan

    started = time.monotonic()
    budget_s = parse_duration(options.budget) if options.budget else None
    suite = plan.suite
    line = command_line(words)
    whole = plan if options.only is None else make_plan(suite, store)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    manifest = manifest_of(whole, store, line, created)
    stages = sum(job.state == "to run" for job in plan.stages)
    console.print(
        f"{suite.spec.suite} (profile {suite.profile}): {num_text(len(plan.cells), 'cell')} x "
        f"{num_text(len(suite.seeds), 'seed')} = {num_text(len(plan.jobs), 'run')}, "
        f"{plan.num_done} done, {len(plan.left) - stages} to run"
        + (f", after {num_text(stages, 'stage')}" if stages else ""),
        highlight=False,
        soft_wrap=True,
    )

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if lacking := left_out(whole, store):
        say(lacking)
    failed: dict[str, str] = {}
    postponed: dict[str, str] = {}
    logs: dict[str, Path] = {}
    scoring: Scoring | None = None
    answers: list[Headline] = []
    records = [store.record(job.cell.cell_id, job.seed) for job in plan.jobs]
    again = options.rescore
    scored = [r and is_scored(r, suite.metrics, suite.subsets, again=again) for r in records]
    idle = not plan.left and all(scored)
    if idle:
        from sca_bench.engine.launch.guard import clear_left

        clear_left(store.root)
    if not idle:
        if plan.left:  # what takes longest to import is imported beside all that comes now
            from sca_bench.engine.fork_servers import worker_processes

            worker_processes()
        from sca_bench.engine.launch.guard import exclusive
        from sca_bench.engine.launch.scoring import Scoring

        with exclusive(store.root, say) as pulse:
            pulse.beat("planning", suite=manifest.report_name, command=line)
            store.settle_interrupted()
            # Another run may have just ended, or a file may have been damaged since.
            plan = repaired_plan(lambda: make_plan(suite, store, only=options.only), store, say)
            store.save_manifest(manifest)  # a report shows what there is, even of a stopped run
            until = None if budget_s is None else started + budget_s
            view = None
            if mirror is not None:
                from sca_bench.engine.mlflow_mirror.mirror import SuiteMirror

                mirror.say, view = say, SuiteMirror(mirror, manifest)
            if not again:  # else the runs that are scored now would be scored once more
                scoring = Scoring(store, suite.metrics, suite.subsets)
            failed, postponed, logs = _work(plan, store, console, line, until, view, scoring, pulse)
            score_runs(
                store,
                plan.jobs,
                suite.metrics,
                say,
                suite.subsets,
                again=again,
                failed=failed,
                done=None if scoring is None else scoring.done,
                tell=lambda n, of: pulse.beat("scoring", step=n, steps=of, work=[]),
            )
            if view is not None:
                pulse.beat("writing to MLflow", work=[])
                view.finish(lambda: findings_of(store, manifest, answers))
    elif mirror is not None and mirror.lacks(manifest):  # killed between scores and mirror
        from sca_bench.engine.mlflow_mirror.mirror import SuiteMirror

        mirror.say = say
        SuiteMirror(mirror, manifest).finish(lambda: findings_of(store, manifest, answers))
    try:
        store.save_manifest(manifest)
    except OSError as error:
        if not idle:
            raise
        say(f"{store.root} cannot be written ({error.strerror}): what it says of the suite stays")
    seconds = time.monotonic() - started
    _print_scores(console, plan, store)
    if idle:
        say(f"nothing to do: every run is done ({seconds:.1f} s, 0 training steps, 0 forwards)")
    else:
        finished = {job.name for job in plan.left} - failed.keys() - postponed.keys()
        say(f"{num_text(len(finished), 'run')} finished in {in_words(seconds)}")
    for name, reason in failed.items():
        say(f"FAILED {name}: {reason}")
        if name in logs and str(logs[name]) not in reason:
            say(f"  see {logs[name]}")
    for name, reason in postponed.items():
        say(f"NOT STARTED {name}: {reason}")
    if postponed:
        say("run the same command again, with more of a --budget where that is too little")
    if failed:
        say(f"run again what failed: {line}")
    if any(_is_done(store, job.cell.cell_id, job.seed) for job in plan.jobs):
        print_answer(store, manifest, console, answers)
        say(f"next: {CALL} report{runs_dir_flag(store)}, then open {page_of(manifest)}")
    return 1 if failed or postponed else 0


def _is_done(store: Store, cell_id: str, seed: int) -> bool:
    record = store.record(cell_id, seed)
    return record is not None and record.status == "done"


def _work(
    plan: Plan,
    store: Store,
    console: Console,
    line: str,
    until: float | None,
    mirror: SuiteMirror | None,
    scoring: Scoring | None,
    pulse: Pulse,
) -> tuple[dict[str, str], dict[str, str], dict[str, Path]]:
    """Run what is left; return job name -> reason for what failed, and for what was not started.

    The third is job name -> log of what failed in a process of its own.
    """
    if not plan.left:
        return {}, {}, {}
    from sca_bench.engine.launch.launcher import Launcher

    budget = None
    if until is not None:
        pulse.beat("measuring", total=len(plan.left))
        budget = _budget(plan, store, console, until)
    launcher = Launcher(
        plan, store, line, console, mirror, budget=budget, scoring=scoring, pulse=pulse
    )
    failed = launcher.run()
    encoded, mixed = (launcher.counters[f"{part}_forwards"] for part in ("encoder", "sam_mixer"))
    console.print(
        f"frozen part: {encoded:,} images encoded, {mixed:,} regions mixed, for all cells, "
        "seeds and steps",
        highlight=False,
        soft_wrap=True,
    )
    return failed, budget.postponed if budget is not None else {}, launcher.logs


def _budget(plan: Plan, store: Store, console: Console, until: float) -> Budget:
    """Measure the groups of a plan, so that none is started that does not fit."""
    from sca_bench.engine.device import this_machine
    from sca_bench.engine.forecast.budget import Budget
    from sca_bench.engine.measure.main import measure_plan
    from sca_bench.study.plan.schedule import make_schedule

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    costs = measure_plan(plan, store, probe=True, count=False, say=say)
    return Budget(until, make_schedule(plan, store, this_machine(costs.device)), store, costs)


def _print_scores(console: Console, plan: Plan, store: Store) -> None:
    """Print one line per cell: the first metric, mean over the seeds that are done."""
    from sca_bench.report.names import metric_label, show_score

    metric = plan.suite.metrics[0]
    table = text_table("cell", f"{metric_label(metric)} (mean)", "runs")
    for cell in plan.cells:
        values, ended = [], []
        for seed in plan.suite.seeds:
            record = store.record(cell.cell_id, seed)
            ended.append(record.status if record else "missing")
            score = record.scores.get(metric) if record else None
            if score is not None and score.value is not None:
                values.append(score.value)
        mean = show_score(sum(values) / len(values), metric=metric) if values else "-"
        states = ", ".join(f"{ended.count(s)} {s}" for s in dict.fromkeys(ended))
        table.add_row(cell.name, mean, states)
    console.print(table)
