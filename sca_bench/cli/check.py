"""`check`: what a suite needs at one scale, what of it is here, and what `run` would refuse.

A machine without any of the data or weights can be asked as well.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sca_bench.cli.frame import add_json
from sca_bench.errors import InputError, at
from sca_bench.output import num_text, print_json, text_table

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.engine.forecast.needs import Need
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.suite import Suite


def add_parser(commands: Commands, suite: Parser) -> None:
    """Add `check` to the command line."""
    check = commands.add_parser(
        "check",
        parents=[suite],
        help="what a suite needs, and what is missing",
        description="Say what a suite needs at its scale, what of it is here, how to get the rest, "
        "and what `run` would refuse. Nothing is computed.",
        examples=("check mixer_layers", "check photos --set paths.photos=PHOTOS --build"),
    )
    check.add_argument(
        "--build", action="store_true", help="size every cell: parameters, shapes, memory"
    )
    add_json(check)
    check.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what a suite, or every suite of a folder, needs; return the exit code."""
    from sca_bench.cli.suite_files import for_each_suite

    def check(suite: Suite, store: Store, console: Console) -> int:
        return _check(suite, store, console, options)

    return for_each_suite(options, check)


def _check(suite: Suite, store: Store, console: Console, options: argparse.Namespace) -> int:
    """Print what the suite needs, and what `run` would say of it; return 2 where it would refuse.

    What is there is opened as `run` opens it; what takes long to judge is named instead.
    """
    from sca_bench.engine.forecast.needs import missing, needs_of
    from sca_bench.engine.launch.inputs import judge_inputs
    from sca_bench.study.plan.plan import make_plan

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    needs = needs_of(suite, store.root)
    if not options.json:
        print_needs(console, needs)
    lacking = [need.what for need in missing(needs)]
    plan = make_plan(suite, store, only=options.only, allow_missing=True)
    lacking = lacking or list(dict.fromkeys(why for job in plan.blocked for why in job.blocked))
    judged = judge_inputs(plan, store)
    if options.json:
        print_json(
            {
                "suite": suite.spec.suite,
                "profile": suite.profile,
                "notes": list(suite.notes),
                "needs": [dataclasses.asdict(need) for need in needs],
                "missing": lacking,
                "read": list(judged.read),
                "refused": list(judged.faults),
                "not_judged": list(judged.unjudged),
                "all_right": not (lacking or judged.faults),
            }
        )
        return 2 if lacking or judged.faults else 0
    for line in judged.read:
        say(f"  {line}")
    for line in judged.faults:
        say(f"  refused: {line}")
    for line in judged.unjudged:
        say(f"  not judged, `run` reads it: {line}")
    if options.build:
        _print_sizes(console, suite)
    verdict = "nothing wrong was found, but not all was judged" if judged.unjudged else "all right"
    if spared := [need.what for need in needs if need.state == "missing" and not need.stops]:
        verdict += f", without {'; '.join(spared)}"
    if judged.faults:
        verdict = f"refused: {len(judged.faults)} fault{'s' if len(judged.faults) > 1 else ''}"
    if lacking:
        verdict = f"missing: {', '.join(lacking)}" + (f"; {verdict}" if judged.faults else "")
    stages = {stage.name for cell in suite.cells for stage in cell.settings.pretraining}
    say(
        f"{suite.file} (profile {suite.profile}): {num_text(len(suite.cells), 'cell')} x "
        f"{num_text(len(suite.seeds), 'seed')}"
        + (f", pretraining stages {', '.join(sorted(stages))}" if stages else "")
        + f"; {verdict}"
    )
    return 2 if lacking or judged.faults else 0


def print_needs(console: Console, needs: list[Need]) -> None:
    """Print the table of needs, then how to get what is not there."""
    table = text_table("needs", "state", "found")
    for need in needs:
        table.add_row(need.what, need.state, need.found)
    console.print(table)
    for need in needs:
        if need.get:
            line = f"  {need.what}: {need.get}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_sizes(console: Console, suite: Suite) -> None:
    """Build every cell without weights; print parameters, memory of a step, and its shapes."""
    from sca_bench.engine.measure.step_memory import estimate_step
    from sca_bench.specs.encoders import TYPE_KEY

    numbers = ("parameters", "trained", "GiB: weights", "optimiser", "step", "sum")
    table = text_table("cell", *numbers, right=numbers)
    shapes: dict[str, tuple[int, ...]] = {}
    unknown: dict[str, None] = {}
    for cell in suite.cells:
        try:
            with at(f"{suite.file}: {cell.name}"):
                estimate = estimate_step(cell.settings)
        except InputError as error:
            if error.key != TYPE_KEY:  # all else is a fault of the suite
                raise
            unknown[f"{cell.name}: not sized: {error.key}: {error.problem}"] = None
            continue
        if estimate is None:
            continue
        parts = [f"{gib:.1f}" for gib in (*estimate.memory_gib.values(), estimate.total_gib)]
        counts = (f"{estimate.num_total_params:,}", f"{estimate.num_trainable_params:,}")
        table.add_row(cell.name, *counts, *parts)
        shapes = shapes or estimate.shapes
    console.print(table)
    for line in unknown:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for name, shape in shapes.items():
        console.print(f"  {name}: {' x '.join(map(str, shape))}", highlight=False)
