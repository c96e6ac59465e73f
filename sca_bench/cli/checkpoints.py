"""`export` and `verify`: the checkpoint of a run, handed on, and checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import RUN_HELP, add_json, quiet_models
from sca_bench.errors import InputError
from sca_bench.output import print_json, say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add `export` and `verify` to the command line."""
    export = commands.add_parser(
        "export",
        parents=[common],
        help="hand a run on, as an SCA checkpoint",
        examples=("export mixer_layers/num_layers=2/0 --out CHECKPOINT",),
    )
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    export.add_argument("--out", required=True, metavar="DIR", help="folder to write (a new one)")
    export.set_defaults(execute=export_command)

    verify = commands.add_parser(
        "verify",
        parents=[common],
        help="check that a run still holds: files, inputs, weights, captions",
        examples=("verify mixer_layers/num_layers=2/0", "verify num_layers=2 --regions 64"),
    )
    verify.add_argument("run", metavar="RUN", help=RUN_HELP)
    verify.add_argument(
        "--regions",
        type=int,
        default=8,
        metavar="N",
        help="regions to caption again, at least: whole batches of the run (8)",
    )
    add_json(verify)
    verify.set_defaults(execute=verify_command)


def export_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Write a run as an SCA checkpoint and print what was written."""
    from sca_bench.engine.finished.export import export_run
    from sca_bench.study.runs.store import Store

    for line in export_run(Store(options.runs_dir), options.run, Path(options.out)):
        say(line)
    return 0


def verify_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print one line per check of a run; return 1 where one failed."""
    quiet_models()
    from sca_bench.engine.finished.verify import verify_run
    from sca_bench.study.runs.store import Store

    if options.regions < 1:
        raise InputError(
            "verify", "--regions", f"{options.regions} is too few", "give a number >= 1"
        )
    checks = []
    for check in verify_run(Store(options.runs_dir), options.run, options.regions):
        checks.append(check)
        if not options.json:
            say(check.line(), flush=True)
    passed = all(check.passed for check in checks)
    if options.json:
        found = [{"check": c.name, "passed": c.passed, "found": c.text} for c in checks]
        print_json({"run": options.run, "passed": passed, "checks": found})
    return 0 if passed else 1
