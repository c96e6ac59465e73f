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
            "schema suite --out suite.schema.json",
            "schema sweep --out sweep.schema.json",
        ),
    )
    schema.add_argument("kind", metavar="KIND", choices=("suite", "sweep"), help="suite or sweep")
    schema.add_argument("--out", metavar="FILE", help="write it to a file, and print its name")
    schema.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the schema of one kind of file, or write it."""
    import json
    from pathlib import Path

    from sca_bench.cli.schema.file_schema import suite_schema, sweep_schema
    from sca_bench.files import write_atomic
    from sca_bench.output import print_json, say

    schema = suite_schema() if options.kind == "suite" else sweep_schema()
    if options.out is None:
        print_json(schema)
    else:
        write_atomic(Path(options.out), json.dumps(schema, indent=1) + "\n")
        say(options.out)
    return 0
