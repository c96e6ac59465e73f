"""`list`, `describe` and `explain`: looking things up, without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sca_bench.errors import InputError, at
from sca_bench.output import say, text_console, text_table

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.study.runs.record import RunRecord
    from sca_bench.study.runs.store import Store

LISTED = (
    "variants",
    "designs",
    "suites",
    "metrics",
    "datasets",
    "encoders",
    "plots",
    "profiles",
    "settings",
    "runs",
)
"""What `list` knows."""
_STATUS = ("running", "done", "failed", "killed", "pruned")


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add `list`, `describe` and `explain` to the command line."""
    lists = commands.add_parser(
        "list",
        parents=[common],
        help="list what there is",
        examples=(
            "list suites",
            "list settings train          # those that begin with train",
            "list runs --suite mixer_layers --status failed",
        ),
    )
    lists.add_argument(
        "what",
        choices=LISTED,
        type=lambda word: "datasets" if word == "readers" else word,  # a reader reads a data set
        metavar="WHAT",
        help=f"one of {', '.join(LISTED)}",
    )
    lists.add_argument(
        "prefix", nargs="?", default="", metavar="BEGINNING", help="only names that begin with it"
    )
    lists.add_argument("--suite", metavar="NAME", help="runs: only those of a suite")
    lists.add_argument("--status", choices=_STATUS, help="runs: only those that ended so")
    lists.add_argument("--profile", metavar="NAME", help="settings: whose defaults to show (tiny)")
    lists.add_argument(
        "--json", action="store_true", help="print it as JSON, scores in natural units"
    )
    lists.set_defaults(execute=list_command)

    describe = commands.add_parser(
        "describe",
        help="what a setting, variant, metric, suite, profile, data set, ... is",
        description="Print what is known of a name, whatever it names.",
        examples=(
            "describe train.learning_rate",
            "describe train --profile paper",
            "describe cider_d",
            "describe mixer_layers",
        ),
    )
    describe.add_argument("name", metavar="NAME", help="anything that `list` lists, but for runs")
    describe.add_argument(
        "--profile", default="tiny", metavar="NAME", help="whose defaults to show (tiny)"
    )
    describe.set_defaults(execute=describe_command)

    explain = commands.add_parser(
        "explain",
        parents=[common],
        help="what a cell is made of, or in what two cells differ",
        examples=(
            "explain mixer_layers/num_layers=2",
            "explain num_layers=1 num_layers=2    # only what differs",
        ),
    )
    a_cell = "a cell: its id (or the beginning), SUITE/CELL as `list runs` prints it, or its name"
    explain.add_argument("cell", metavar="CELL", help=a_cell)
    explain.add_argument("other", nargs="?", metavar="OTHER", help="a second one: what differs")
    explain.set_defaults(execute=explain_command)


def list_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print a table of what there is of one kind."""
    from sca_bench.study.runs.store import Store

    if options.what != "runs":
        for flag, value in (("--suite", options.suite), ("--status", options.status)):
            if value is not None:
                raise InputError("list", flag, f"{options.what} have none", "list runs takes it")
    if options.profile is not None and options.what != "settings":
        fix = "list settings takes it"
        raise InputError("list", "--profile", f"{options.what} depend on none", fix)
    if options.what == "runs":
        from sca_bench.cli.lookup.run_table import print_runs, runs_as_json

        store = Store(options.runs_dir)
        chosen = options.suite, options.status, options.prefix
        if options.json:
            faults = runs_as_json(store, *chosen)
        else:
            faults = print_runs(text_console(), store, *chosen)
        for fault in faults:
            say(f"left out: {fault}", error=True)
        return 1 if faults else 0
    if options.what == "settings":
        from sca_bench.cli.lookup.setting_text import print_settings, settings_as_json

        profile = options.profile or "tiny"
        if options.json:
            settings_as_json(options.prefix, profile)
        else:
            print_settings(text_console(), options.prefix, profile)
    else:
        from sca_bench.cli.lookup.tables import print_table

        print_table(text_console(), options.what, options.prefix, as_json=options.json)
    return 0


def describe_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what is known of a name."""
    from sca_bench.cli.lookup.describe import describe

    describe(text_console(), options.name, options.profile)
    return 0


def explain_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what a cell is made of, or in what two cells differ."""
    import json

    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)
    first = _key_values(_cell(store, options.cell))
    if options.other is None:
        print(json.dumps(first, indent=1, sort_keys=True))
        return 0
    second = _key_values(_cell(store, options.other))
    table = text_table("setting", options.cell, options.other)
    for key in sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k)):
        table.add_row(key, str(first.get(key, "-")), str(second.get(key, "-")))
    if table.row_count:
        text_console().print(table)
    else:
        say(f"{options.cell} and {options.other} are one cell: nothing differs")
    return 0


def _cell(store: Store, name: str) -> RunRecord:
    from sca_bench.study.find_run import find_runs

    return find_runs(store, name, "cell")[1][0]


def _key_values(record: RunRecord) -> dict[str, Any]:
    from sca_bench.study.runs.revisions import OLDER, age_of, identity_of

    if age := age_of(record):
        say(f"{record.cell_id}: {OLDER}: {age}", error=True)
    with at(record.cell_id):
        return identity_of(record).key_values
