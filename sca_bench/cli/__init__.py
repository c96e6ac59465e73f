"""The command line: the parser's frame, and what becomes of a command's errors.

Each command is a module: `add_parser` says what the command takes, and beside it
`command(options, words)` does the work and returns the exit code, where `words` is the command line
as it was given. All these modules are imported at every start, so what is heavy is imported inside
their functions: help, lists and wrong arguments answer at once, and light commands load no torch.

Exit codes: 0 all right, 1 some cells failed (the rest is done) or B of `compare --fail-if-worse` is
worse, 2 the input is wrong, 130 and above ended by a signal: 130 SIGINT, 143 SIGTERM, 129 SIGHUP
(141: nobody read the output of a command that only prints).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from sca_bench import __version__
from sca_bench.cli import (
    cache,
    caption,
    check,
    checkpoints,
    compare,
    data,
    init,
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
from sca_bench.cli.frame import Parser, add_profile_and_set, add_runs_dir
from sca_bench.errors import InputError
from sca_bench.lifetime import stops
from sca_bench.output import end_with_reader, guard_streams, say

_ONLY_PRINT = ("list", "describe", "explain", "plan", "check", "score", "compare")
"""Commands that have nothing to do when nobody reads them; the others go on with their work."""

_STARVED = re.compile("failed to map segment|annot allocate memory|can't start new thread")
"""What faults say that come of limits."""

_LIGHT = ("list", "describe", "explain", "init")
"""Commands that keep nothing in a temporary folder."""

_FIRST_STEPS = (
    "list suites                      # what can be asked",
    "run mixer_layers                 # answer one question, at the tiny scale",
    "report                           # tables, plots and a page of every suite that was run",
    "describe train.learning_rate     # what a setting, suite, metric or variant is",
    "init suite my_suite              # write a suite of your own",
)


def build_parser() -> Parser:
    """Return the parser of all commands; `execute` of what it parses is the command's function."""
    parser = Parser(
        prog="sca_bench",
        description="Experiment and ablation benchmarks for region captioning.",
        examples=_FIRST_STEPS,
    )
    parser.add_argument("--version", action="version", version=f"sca_bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = Parser(add_help=False)
    add_runs_dir(common)

    suite = Parser(add_help=False, parents=[common])
    what = "a suite's YAML file, a folder of them, or the name of a shipped suite (`list suites`)"
    suite.add_argument("suite", metavar="SUITE", help=what)
    add_profile_and_set(suite)
    suite.add_argument("--seeds", metavar="N,N", help="seeds in place of the suite's, such as 0,1")
    suite.add_argument(
        "--only", metavar="PATTERN", help="only cells whose name matches: num_layers=2, num_*"
    )

    init.add_parser(commands)
    run.add_parser(commands, suite)
    plan.add_parser(commands, suite)
    sweep.add_parser(commands, common)
    check.add_parser(commands, suite)
    report.add_parser(commands, common)
    compare.add_parser(commands, common)
    lookup.add_parsers(commands, common)
    score.add_parser(commands)
    test.add_parser(commands)
    caption.add_parser(commands, common)
    checkpoints.add_parsers(commands, common)
    weights.add_parser(commands)
    data.add_parser(commands)
    cache.add_parser(commands)
    track.add_parser(commands)
    return parser


def light(words: Sequence[str]) -> bool:
    """Say whether a command line keeps nothing in a temporary folder."""
    return not words or words[0].startswith("-") or words[0] in _LIGHT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        with stops.answered():
            return _main(arguments)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt) and not stops.times_asked():
            raise
        return stops.say(error)  # or a fault that came of a signal, in whatever was interrupted


def _main(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    guard_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own, which its commands inherit, may be unknown
    command = "sca_bench"
    try:
        options = build_parser().parse_all(words)
        command = options.command
        if command in _ONLY_PRINT:
            end_with_reader()
        code: int = options.execute(options, words)
        sys.stdout.flush()
        stops.check()
    except InputError as error:
        stops.check()
        for fault in (error, *error.others):
            say(fault, error=True)
        return 2
    except OSError as error:  # a folder that cannot be written, a full disk
        stops.check()
        say(f"{error.filename or command}: {error.strerror or error}", error=True)
        return 2
    except (MemoryError, ImportError, RuntimeError) as error:
        stops.check()
        if not isinstance(error, MemoryError) and not _STARVED.search(str(error)):
            raise
        reason = str(error).splitlines()[0] if str(error) else "no memory"
        say(f"{command}: {reason}; give it more memory or processes (ulimit -v, -u)", error=True)
        return 2
    return code
