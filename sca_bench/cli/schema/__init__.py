"""`schema`: what may stand in a suite or a sweep, as a JSON Schema for editors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands


def add_parser(commands: Commands) -> None:
    """Add `schema` to the command line."""
    schema = commands.add_parser(
        "schema",
        help="the JSON Schema of suites and sweeps, for editors",
        description="Print the JSON Schema of suites or sweeps. Editors complete and check a YAML "
        "file by it that begins with `# yaml-language-server: $schema=FILE`. What installed "
        "packages add is in it.",
        examples=(
            "schema suite > suite.schema.json",
            "schema sweep > sweep.schema.json",
        ),
    )
    schema.add_argument("kind", metavar="KIND", choices=("suite", "sweep"), help="suite or sweep")
    schema.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the schema of one kind of file."""
    from sca_bench.cli.schema.file_schema import suite_schema, sweep_schema
    from sca_bench.output import print_json

    print_json(suite_schema() if options.kind == "suite" else sweep_schema())
    return 0
