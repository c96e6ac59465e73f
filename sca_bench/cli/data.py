"""`data prepare` and `data verify`: getting data sets, and seeing what they hold."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import Actions
from sca_bench.data.catalogue.layouts import layout_help
from sca_bench.errors import InputError
from sca_bench.output import num_text, say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands
    from sca_bench.data.catalogue.types import DataSet
    from sca_bench.data.catalogue.verify import CheckLine


def add_parser(commands: Commands) -> None:
    """Add `data` to the command line."""
    data = commands.add_parser(
        "data",
        help="get a data set, see what it holds",
        description="prepare fetches what is missing, records checksums, builds indices and "
        "verifies; verify compares counts with published ones and looks for missing images, "
        "repeated ids, unusable boxes and images that two splits share.",
        epilog=layout_help(),
        examples=(
            "data prepare visual_genome --root VG",
            "data verify visual_genome --root VG --coco COCO",
        ),
    )
    actions = Actions(data)
    for name, about in (
        ("prepare", "fetch what is missing of a data set, build indices, and verify it"),
        ("verify", "compare a data set's counts with published ones, and look for faults"),
    ):
        action = actions.add(name, about, (f"data {name} visual_genome --root VG",))
        action.own.epilog = f"{action.own.epilog}\n\n{layout_help()}"
        action.add("name", metavar="NAME", help="one of those below")
        action.add("--root", metavar="DIR", help="folder of the data set (needed)")
        action.add(
            "--partial",
            action="store_true",
            help="a part of the data set is meant: compare no counts",
        )
        action.add("--coco", metavar="DIR", help="root of coco, to see which images are COCO's")
        if name == "prepare":
            action.add("--no-download", action="store_true", help="only say what is to be fetched")
    data.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run one of the two commands.

    Returns:
        0 all right, 1 something is missing or not as it should be.
    """
    from sca_bench.data.catalogue.datasets import get_dataset
    from sca_bench.data.catalogue.verify import verify

    if options.root is None:
        raise InputError(
            f"data {options.action}", "--root", "missing", "name the folder of the data set"
        )
    dataset, root = get_dataset(options.name), Path(options.root)
    if options.action == "prepare" and not _prepare(dataset, root, options.no_download):
        return 1
    coco = None if options.coco is None else Path(options.coco)
    rows = verify(dataset, root, partial=options.partial, coco=coco)
    _print_rows(rows)
    failed = sum(row.state == "fail" for row in rows)
    say(f"{dataset.name}: {failed} of {num_text(len(rows), 'check')} failed")
    return 1 if failed else 0


def _prepare(dataset: DataSet, root: Path, only_say: bool) -> bool:
    """Fetch what is missing and build the indices; say whether everything is there."""
    from sca_bench.data.catalogue.fetch import build_indices, fetch, needs

    say(f"{dataset.name} ({dataset.licence}; {dataset.page})")
    say(f"under {root}: {dataset.layout}")
    states = needs(dataset, root)
    rows = [
        (
            need.remote.path,
            need.state,
            "unknown" if need.size is None else f"{need.size:,}",
            need.sha256[:16] or "not recorded",
            need.source,
        )
        for need in states
    ]
    _print_table(("file", "state", "bytes", "sha256", "from"), rows)
    missing = [need for need in states if need.state != "there"]
    if missing and only_say:
        say(f"{len(missing)} of {len(states)} files are missing; nothing was fetched")
        return False
    missing = fetch(dataset, root, say)
    build_indices(dataset, root, say)
    for need in missing:
        say(f"missing: {root / need.remote.path}: {need.state}: {need.source}")
    return not missing


def _print_rows(rows: Sequence[CheckLine]) -> None:
    shown = [(row.what, row.state.replace("fail", "FAIL"), row.found) for row in rows]
    _print_table(("check", "state", "found"), shown)


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns; lines are as long as they are, so that addresses can be copied."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = zip(row, widths, strict=True)
        say("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
