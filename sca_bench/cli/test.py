"""`test`: our contract on somebody's captioner, design, metric, reader, encoder or plot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands

_IN_CI = """exit code: 0 all checks pass or are skipped, 1 one fails, 2 there is nothing to test

in a CI of your own: pytest -p sca_bench.contract.plugin --sca-bench my_package"""


def add_parser(commands: Commands) -> None:
    """Add `test` to the command line."""
    test = commands.add_parser(
        "test",
        help="test a captioner, design, metric, reader, encoder or plot of your own",
        description="Run our contract on every spec of a module, and say what is broken and what"
        " to do. It needs pytest.",
        examples=(
            "test my_package                  # every spec at the top level of a module",
            "test my_metric.py                # of a file",
            "test my_metric.py --only range   # only checks with that word in their name",
            "test most_frequent               # what is registered under a name",
        ),
        epilog=_IN_CI,
    )
    what = "a module, a .py file, or a name that is registered"
    test.add_argument("module", metavar="MODULE", help=what)
    what = "only checks whose name (or that of their spec) has WORD in it; pytest's -k"
    test.add_argument("--only", default="", metavar="WORD", help=what)
    test.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print how every check ends; return 1 where one fails."""
    from sca_bench.contract.run import run

    return run(options.module, options.only)
