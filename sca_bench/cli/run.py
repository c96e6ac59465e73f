"""`run`, `plan` and `check`: the commands that take a suite."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sca_bench.cli.check import check_claims, missing, needs_of, print_needs
from sca_bench.cli.plan import print_plan
from sca_bench.engine.forecast.budget import parse_duration
from sca_bench.errors import InputError, PathNotGiven, at
from sca_bench.metrics.registry import get_metric
from sca_bench.study.plan.manifest import manifest_of
from sca_bench.study.plan.plan import Plan, make_plan
from sca_bench.study.plan.repair import repaired_plan
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import Suite, load_suite

if TYPE_CHECKING:
    from sca_bench.engine.forecast.budget import Budget
    from sca_bench.engine.mlflow_mirror import Tracker


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run one of the three commands, for one suite or for every suite of a folder."""
    console = Console(width=None)
    folder = Path(options.suite)
    if not folder.is_dir():
        return _one(folder, console, options, words)
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InputError(folder, "", "holds no suite", "name a folder with .yaml files")
    started, codes = time.monotonic(), []
    skipped: list[str] = []
    for number, file in enumerate(files, start=1):
        console.print(f"[{number} of {len(files)}] {file}", highlight=False, markup=False)
        try:
            codes.append(_one(file, console, options, words))
        except PathNotGiven as error:
            skipped.append(str(error))
            console.print(f"skipped: {error}", highlight=False, markup=False, soft_wrap=True)
        except InputError as error:
            codes.append(2)
            print(error, file=sys.stderr)
    good = codes.count(0)
    console.print(
        f"{good} of {len(files)} suites all right, {len(codes) - good} with failures, "
        f"{len(skipped)} skipped for want of a path, in {time.monotonic() - started:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    return max(codes, default=0)


def _one(file: Path, console: Console, options: argparse.Namespace, words: Sequence[str]) -> int:
    suite = load_suite(
        file,
        profile=options.profile,
        overrides=options.overrides,
        seeds=_seeds(options.seeds),
        allow_missing=options.command != "run",
    )
    with at(suite.file):
        for metric in suite.metrics:
            get_metric(metric)
    check_claims(suite)
    store = Store(options.runs_dir)
    if options.command == "check":
        return _check(suite, store, console, options)
    if options.command == "plan":
        plan = make_plan(suite, store, only=options.only, allow_missing=True)
        print_plan(console, plan, store, options)
        return 0
    plan = make_plan(suite, store, only=options.only)
    return _run(plan, store, console, options, words)


def _check(suite: Suite, store: Store, console: Console, options: argparse.Namespace) -> int:
    """Print what the suite needs; return 2 where something is missing that no run can miss."""
    needs = needs_of(suite, store.root)
    print_needs(console, needs)
    lacking = missing(needs)
    if not lacking:
        make_plan(suite, store, only=options.only)
    if options.build:
        _print_sizes(console, suite)
    verdict = f"missing: {', '.join(need.what for need in lacking)}" if lacking else "all right"
    stages = {stage.name for cell in suite.cells for stage in cell.settings.pretraining}
    console.print(
        f"{suite.file} (profile {suite.profile}): {len(suite.cells)} cells x "
        f"{len(suite.seeds)} seeds"
        + (f", pretraining stages {', '.join(sorted(stages))}" if stages else "")
        + f"; {verdict}",
        highlight=False,
        soft_wrap=True,
    )
    return 2 if lacking else 0


def _print_sizes(console: Console, suite: Suite) -> None:
    """Build every cell without weights; print parameters, memory of a step, and its shapes."""
    from sca_bench.engine.measure.step_memory import estimate_step

    table = Table(box=None)
    for column in ("cell", "parameters", "trained", "GiB: weights", "optimiser", "step", "sum"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    shapes: dict[str, tuple[int, ...]] = {}
    for cell in suite.cells:
        with at(f"{suite.file}: {cell.name}"):
            found = estimate_step(cell.settings)
        if found is None:
            continue
        parts = [f"{gib:.1f}" for gib in (*found.memory_gib.values(), found.total_gib)]
        counts = (f"{found.num_total_params:,}", f"{found.num_trainable_params:,}")
        table.add_row(cell.name, *counts, *parts)
        shapes = shapes or found.shapes
    console.print(table)
    for name, shape in shapes.items():
        console.print(f"  {name}: {' x '.join(map(str, shape))}", highlight=False)


def without_secrets(words: Sequence[str]) -> list[str]:
    """Return the command line with the tracking URI, which may hold credentials, left out."""
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "--tracking-uri":
            word = "..."
        elif word.startswith("--tracking-uri="):
            word = "--tracking-uri=..."
        kept.append(word)
    return kept


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("--seeds", text, "expected numbers with commas, such as 0,1,2") from None


def _run(
    plan: Plan,
    store: Store,
    console: Console,
    options: argparse.Namespace,
    words: Sequence[str],
) -> int:
    from sca_bench.engine.score_runs import is_scored, score_runs

    started = time.monotonic()
    budget_s = parse_duration(options.budget) if options.budget else None
    suite = plan.suite
    line = "python -m sca_bench " + shlex.join(without_secrets(words))
    whole = plan if options.only is None else make_plan(suite, store)
    manifest = manifest_of(whole, line, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    stages = sum(job.state == "to run" for job in plan.stages)
    console.print(
        f"{suite.spec.suite} (profile {suite.profile}): {len(plan.cells)} cells x "
        f"{len(suite.seeds)} seeds = {len(plan.jobs)} runs, {plan.num_done} done, "
        f"{len(plan.left) - stages} to run" + (f", after {stages} stages" if stages else ""),
        highlight=False,
        soft_wrap=True,
    )

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    failed: dict[str, str] = {}
    postponed: dict[str, str] = {}
    records = [store.record(job.cell.cell_id, job.seed) for job in plan.jobs]
    again = options.rescore
    scored = [r and is_scored(r, suite.metrics, suite.subsets, again=again) for r in records]
    idle = not plan.left and all(scored)
    if not idle:
        from sca_bench.engine.launch.guard import exclusive

        with exclusive(store.root):
            store.settle_interrupted()
            # Another run may have just ended, or a file may have been damaged since.
            plan = repaired_plan(lambda: make_plan(suite, store, only=options.only), store, say)
            store.save_manifest(manifest)  # a report shows what there is, even of a stopped run
            until = None if budget_s is None else started + budget_s
            failed, postponed = _work(plan, store, manifest, console, options, line, until)
            score_runs(store, plan.jobs, suite.metrics, say, suite.subsets, again=again)
            if not options.no_mlflow:
                _mirror(store, manifest, options, console)
    store.save_manifest(manifest)
    seconds = time.monotonic() - started
    _print_scores(console, plan, store)
    if idle:
        say(f"nothing to do: every run is done ({seconds:.1f} s, 0 training steps, 0 forwards)")
    else:
        finished = len(plan.left) - len(failed) - len(postponed)
        say(f"{finished} runs finished in {seconds:.0f} s")
    for name, reason in failed.items():
        say(f"FAILED {name}: {reason}")
    for name, reason in postponed.items():
        say(f"NOT STARTED {name}: {reason}")
    if postponed:
        say("run the same command again, with more of a --budget where that is too little")
    elsewhere = "" if str(store.root) == "runs" else f" --runs-dir {store.root}"
    say(f"next: python -m sca_bench report{elsewhere}")
    return 1 if failed or postponed else 0


def _work(
    plan: Plan,
    store: Store,
    manifest: SuiteManifest,
    console: Console,
    options: argparse.Namespace,
    line: str,
    until: float | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Run what is left; return job name -> reason for what failed, and for what was not started."""
    if not plan.left:
        return {}, {}
    from sca_bench.engine.launch.guard import Interrupted
    from sca_bench.engine.launch.launcher import Launcher

    budget = None if until is None else _budget(plan, store, console, until)
    mirror = None if options.no_mlflow else tracker(store, manifest, options, console)
    try:
        launcher = Launcher(plan, store, line, console, mirror, budget=budget)
        failed = launcher.run()
        encoded, mixed = (
            launcher.counters[f"{part}_forwards"] for part in ("encoder", "sam_mixer")
        )
        console.print(
            f"frozen part: {encoded:,} images encoded, {mixed:,} regions mixed, for all cells, "
            "seeds and steps",
            highlight=False,
            soft_wrap=True,
        )
        return failed, budget.postponed if budget is not None else {}
    except Interrupted as error:
        console.print(f"stopped by {error}; run the same command again to go on", highlight=False)
        raise SystemExit(128 + error.number) from None


def _budget(plan: Plan, store: Store, console: Console, until: float) -> Budget:
    """Measure the groups of a plan, so that none is started that does not fit."""
    from sca_bench.engine.device import this_machine
    from sca_bench.engine.forecast.budget import Budget
    from sca_bench.engine.measure.main import appraise
    from sca_bench.study.plan.schedule import make_schedule

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    found = appraise(plan, store, probe=True, count=False, say=say)
    return Budget(until, make_schedule(plan, store, this_machine(found.device)), store, found)


def tracker(
    store: Store, manifest: SuiteManifest, options: argparse.Namespace, console: Console
) -> Tracker:
    """Return the MLflow mirror of a suite."""
    from sca_bench.engine.mlflow_mirror import Tracker, default_uri

    uri = options.tracking_uri or default_uri(store)
    return Tracker(
        store, manifest, uri, lambda text: console.print(text, highlight=False, markup=False)
    )


def _mirror(
    store: Store, manifest: SuiteManifest, options: argparse.Namespace, console: Console
) -> None:
    tracker(store, manifest, options, console).update()


def _print_scores(console: Console, plan: Plan, store: Store) -> None:
    """Print one line per cell: the first metric, mean over the seeds that are done."""
    metric = plan.suite.metrics[0]
    table = Table(box=None)
    for column in ("cell", f"{metric} (mean)", "runs"):
        table.add_column(column)
    for cell in plan.cells:
        values, ended = [], []
        for seed in plan.suite.seeds:
            record = store.record(cell.cell_id, seed)
            ended.append(record.status if record else "missing")
            score = record.scores.get(metric) if record else None
            if score is not None and score.value is not None:
                values.append(score.value)
        mean = f"{sum(values) / len(values):.3f}" if values else "-"
        states = ", ".join(f"{ended.count(s)} {s}" for s in dict.fromkeys(ended))
        table.add_row(cell.name, mean, states)
    console.print(table)
