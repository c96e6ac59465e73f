"""The command line: the parser's frame, and what becomes of a command's errors.

Each command is a module: `add_parser` says what the command takes, and beside it
`command(options, words)` does the work and returns the exit code, where `words` is the command line
as it was given. All these modules are imported at every start, so what is heavy is imported inside
their functions: help, lists and wrong arguments answer at once, and light commands load no torch.

Exit codes: 0 all right, 1 some cells failed (the rest is done), 2 the input is wrong, 130 and above
ended by a signal (141: nobody read the output of a command that only prints).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from sca_bench import __version__
from sca_bench.cli import (
    cache,
    caption,
    check,
    checkpoints,
    data,
    lookup,
    plan,
    report,
    run,
    score,
    sweep,
    test,
    track,
    weights,
)
from sca_bench.errors import InputError
from sca_bench.output import end_with_reader, guard_streams

_ONLY_PRINT = ("list", "describe", "explain", "plan", "check", "score")
"""Commands that have nothing to do when nobody reads them; the others go on with their work."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where `add_parser` adds its command."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `execute` of what it parses is the command's function."""
    parser: argparse.ArgumentParser = _Parser(
        prog="sca_bench",
        description="Experiment and ablation benchmarks for region captioning.",
    )
    parser.add_argument("--version", action="version", version=f"sca_bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = _Parser(add_help=False)
    common.add_argument("--runs-dir", default="runs", metavar="DIR", help="runs folder (runs)")

    suite = _Parser(add_help=False, parents=[common])
    what = "a suite's YAML file, a folder of them, or the name of a shipped suite"
    suite.add_argument("suite", metavar="SUITE", help=what)
    suite.add_argument("--profile", help="tiny, small, paper, ... (the suite's own)")
    suite.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides")
    suite.add_argument("--seeds", metavar="N,N", help="seeds in place of the suite's")
    suite.add_argument("--only", metavar="PATTERN", help="only cells whose name matches")

    run.add_parser(commands, suite)
    plan.add_parser(commands, suite)
    sweep.add_parser(commands, common)
    check.add_parser(commands, suite)
    report.add_parser(commands, common)
    lookup.add_parsers(commands, common)
    score.add_parser(commands)
    test.add_parser(commands)
    caption.add_parser(commands, common)
    checkpoints.add_parsers(commands, common)
    weights.add_parser(commands)
    data.add_parser(commands)
    cache.add_parser(commands, common)
    track.add_parser(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    guard_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own, which its commands inherit, may be unknown
    options = build_parser().parse_args(words)
    if options.command in _ONLY_PRINT:
        end_with_reader()
    try:
        code: int = options.execute(options, words)
        sys.stdout.flush()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"{error.filename or options.command}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return code
