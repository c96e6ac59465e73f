"""`check`: what a suite needs at one scale, what of it is here, and how to get the rest.

No torch: a machine without any of the data or weights can be asked as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sca_bench.errors import at
from sca_bench.output import text_table

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli import Commands
    from sca_bench.engine.forecast.needs import Need
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.suite import Suite


def add_parser(commands: Commands, suite: argparse.ArgumentParser) -> None:
    """Add `check` to the command line."""
    check = commands.add_parser(
        "check", parents=[suite], help="what a suite needs, and what is missing"
    )
    check.add_argument(
        "--build", action="store_true", help="size every cell: parameters, shapes, memory"
    )
    check.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what a suite, or every suite of a folder, needs; return the exit code."""
    from sca_bench.cli.suite_files import for_each_suite

    def check(suite: Suite, store: Store, console: Console) -> int:
        return _check(suite, store, console, options)

    return for_each_suite(options, check)


def _check(suite: Suite, store: Store, console: Console, options: argparse.Namespace) -> int:
    """Print what the suite needs; return 2 where something is missing that no run can miss."""
    from sca_bench.engine.forecast.needs import missing, needs_of
    from sca_bench.study.plan.plan import make_plan

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

    numbers = ("parameters", "trained", "GiB: weights", "optimiser", "step", "sum")
    table = text_table("cell", *numbers, right=numbers)
    shapes: dict[str, tuple[int, ...]] = {}
    for cell in suite.cells:
        with at(f"{suite.file}: {cell.name}"):
            estimate = estimate_step(cell.settings)
        if estimate is None:
            continue
        parts = [f"{gib:.1f}" for gib in (*estimate.memory_gib.values(), estimate.total_gib)]
        counts = (f"{estimate.num_total_params:,}", f"{estimate.num_trainable_params:,}")
        table.add_row(cell.name, *counts, *parts)
        shapes = shapes or estimate.shapes
    console.print(table)
    for name, shape in shapes.items():
        console.print(f"  {name}: {' x '.join(map(str, shape))}", highlight=False)
