"""`plan`: what cells share, what is left of them, and what that takes. No torch in this process."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sca_bench.cli.frame import add_json
from sca_bench.errors import InputError
from sca_bench.output import UNREAD, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.engine.forecast.costs import PlanCosts
    from sca_bench.study.plan.plan import Plan
    from sca_bench.study.runs.store import Store
    from sca_bench.study.suite.suite import Suite


def add_parser(commands: Commands, suite: Parser) -> None:
    """Add `plan` to the command line."""
    plan = commands.add_parser(
        "plan",
        parents=[suite],
        help="what a suite's cells share, what is left, what it takes",
        description="Print what the cells of a suite share, what is done and left of them, and the "
        "time, memory and disk that it takes. Short runs on this machine measure that.",
        examples=(
            "plan mixer_layers",
            "plan mixer_layers --no-probe                    # measure nothing",
            "plan mixer_layers --profile paper --gpu h100    # GPU-hours at the paper's scale",
        ),
    )
    plan.add_argument("--no-probe", action="store_true", help="measure nothing on this machine")
    plan.add_argument(
        "--gpu",
        metavar="NAME,NAME",
        help="GPU-hours on a100, h100 (both with --profile paper), h200, l40s or rtx4090",
    )
    plan.add_argument(
        "--utilisation",
        type=_share,
        metavar="SHARE",
        help="share of that GPU's peak that matrix products are assumed to reach (0.6)",
    )
    add_json(plan, "print what is done and left as JSON; nothing is measured")
    plan.set_defaults(execute=command)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; give a number up to 1")
    return value


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the plan of a suite, or of every suite of a folder; return the exit code."""
    from sca_bench.cli.suite_files import for_each_suite
    from sca_bench.engine.forecast.needs import metric_needs
    from sca_bench.study.plan.plan import make_plan

    def plan(suite: Suite, store: Store, console: Console) -> int:
        made = make_plan(suite, store, only=options.only, allow_missing=True)
        if options.json:
            print_json(_as_json(made))
            return 0
        print_plan(console, made, store, options)
        for need in metric_needs(suite) if made.left else ():
            if need.state == "missing":
                why = "; ".join(text for text in (need.found, need.get) if text)
                line = f"not scored without {need.what}: {why}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)
        return 0

    return for_each_suite(options, plan)


def _as_json(plan: Plan) -> dict[str, Any]:
    """Return what is done and left of a suite as plain JSON."""
    from sca_bench.study.plan.plan import plan_rows

    return {
        "suite": plan.suite.spec.suite,
        "profile": plan.suite.profile,
        "notes": list(plan.suite.notes),
        "runs": plan_rows(plan),
    }


def print_plan(console: Console, plan: Plan, store: Store, options: argparse.Namespace) -> None:
    """Print the tree of what is shared, the states, and the costs.

    Raises:
        InputError: A flag or an input of a run is wrong.
    """
    from sca_bench.cli.plan_text import print_costs, print_sharing
    from sca_bench.engine.forecast.costs import PlanCosts
    from sca_bench.engine.forecast.gpu_hours import MATRIX_SHARE

    gpus = _gpus(options.gpu, plan.suite.profile)
    print_sharing(console, plan)
    if not plan.left and all(job.cell.stage for job in plan.blocked):
        return
    probe = not options.no_probe and bool(plan.left) and not plan.blocked
    costs = PlanCosts(device="cpu", cores=1)
    if probe or gpus:
        costs = costs_of(plan, store, options, probe=probe, count=bool(gpus))
    print_costs(console, plan, store, costs, gpus, options.utilisation or MATRIX_SHARE)


def _gpus(named: str | None, profile: str) -> list[str]:
    from sca_bench.engine.forecast.gpu_hours import GPUS

    if named is None:
        return ["a100", "h100"] if profile == "paper" else []
    names = named.lower().split(",")
    for name in names:
        if name not in GPUS:
            raise InputError("--gpu", name, "unknown", f"known: {', '.join(GPUS)}")
    return names


def costs_of(
    plan: Plan, store: Store, options: argparse.Namespace, *, probe: bool, count: bool
) -> PlanCosts:
    """Have the costs of a plan measured by a process of its own.

    Raises:
        InputError: An input of a run is wrong, or the process failed.
    """
    import os
    import subprocess
    import tempfile
    from pathlib import Path

    from sca_bench.engine.forecast.costs import PlanCosts, Request
    from sca_bench.files import write_atomic
    from sca_bench.lifetime.stops import run_child

    request = Request(
        suite=str(plan.suite.file),
        profile=plan.suite.profile,
        overrides=list(plan.suite.overrides),
        seeds=list(plan.suite.seeds),
        only=options.only,
        runs_dir=str(store.root),
        probe=probe,
        count=count,
        asked=time.time(),
    )
    with tempfile.TemporaryDirectory(prefix="sca_bench_plan_") as folder:
        source, out = Path(folder) / "request.json", Path(folder) / "costs.json"
        write_atomic(source, request.model_dump_json())
        command = [
            sys.executable,
            "-m",
            "sca_bench.engine.measure",
            str(source),
            str(out),
        ]
        sys.stdout.flush()
        alive, held = os.pipe()  # its end tells the process that nobody waits for it any more
        with open(alive, "rb") as told, open(held, "wb"):
            done = run_child(command, stdin=told, stderr=subprocess.PIPE)
        if done.returncode == 0:
            return PlanCosts.model_validate_json(out.read_text(encoding="utf-8"))
        if done.returncode == UNREAD:
            raise SystemExit(UNREAD)
        words = done.stderr.decode(errors="replace").strip().splitlines()
        last = (words or ["no word"])[-1]
        if done.returncode == 2 and out.exists():
            raise InputError(*PlanCosts.wrong_input(out.read_text(encoding="utf-8")))
    problem = f"its costs could not be measured ({last})"
    raise InputError(plan.suite.file, "", problem, "--no-probe shows the plan without them")
