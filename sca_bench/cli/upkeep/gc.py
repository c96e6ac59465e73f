"""`gc`: what of a runs folder nothing refers to; it is listed, and deleted only where asked."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError
from sca_bench.output import num_text, say, size_text, text_console, text_table

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.cli.upkeep.leftovers import Leftover, Leftovers

_MOST_ROWS = 40
"""Rows of the table; what is more is counted by kind."""
_DAY_S = 86400.0


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `gc` to the command line."""
    gc = commands.add_parser(
        "gc",
        parents=[common],
        help="what of a runs folder nothing refers to any more; delete it",
        description="List what nothing refers to any more: runs that no suite, sweep or other run "
        "names, logs of attempts that failed or were repeated, frozen features that no run reads,"
        " and what killed commands left. Nothing is deleted without --delete.",
        examples=(
            "gc                        # only list it",
            "gc --delete",
            "gc --older-than 30 --mirrored --delete",
        ),
    )
    gc.add_argument(
        "--delete",
        action="store_true",
        help="delete what is listed; asks nothing, and refuses while a command works in the folder",
    )
    gc.add_argument(
        "--older-than",
        type=float,
        default=0.0,
        metavar="DAYS",
        help="only what has not changed for so long",
    )
    gc.add_argument(
        "--mirrored",
        action="store_true",
        help="also runs that are in no suite any more but are shown by MLflow",
    )
    gc.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """List what may go, and delete it where asked; return 1 where something stayed."""
    from sca_bench.cli.upkeep.leftovers import find_leftovers
    from sca_bench.engine.launch.guard import exclusive
    from sca_bench.study.runs.store import Store

    root = Path(options.runs_dir)
    if not root.is_dir():
        say(f"no runs folder is at {root}")
        return 0
    if not 0 <= options.older_than < 1e6:
        problem = f"{options.older_than:g} is no number of days"
        raise InputError("gc", "--older-than", problem, "give 0 or more")
    store, age_s = Store(root), options.older_than * _DAY_S
    if not options.delete:
        left = find_leftovers(store, mirrored=options.mirrored, older_than_s=age_s)
        _print(left, root)
        if store.is_in_use():
            say("a command works here now: what it is at may be listed, too")
        if left.found:
            say(f"{_total(left.found)} may go; nothing was deleted (--delete does it)")
        return 0
    with exclusive(root):
        left = find_leftovers(store, mirrored=options.mirrored, older_than_s=age_s)
        _print(left, root)
        stayed = [one for one in left.found if not _deleted(one, root)]
    for one in stayed:
        say(f"{one.path}: in use, or cannot be deleted; left as it is", error=True)
    gone = [one for one in left.found if one not in stayed]
    if left.found:
        say(f"{_total(gone)} deleted")
    return 1 if stayed else 0


def _total(found: Sequence[Leftover]) -> str:
    size = size_text(sum(one.num_bytes for one in found))
    return f"{num_text(len(found), 'item')}, {size}"


def _print(left: Leftovers, root: Path) -> None:
    if not left.found:
        say(f"nothing in {root} is left over")
    else:
        table = text_table("what", "size", "path", "why", right=("size",))
        for one in left.found[:_MOST_ROWS]:
            path = one.path.relative_to(root).as_posix()
            table.add_row(one.kind, size_text(one.num_bytes), path, one.reason)
        text_console().print(table)
        more = Counter(one.kind for one in left.found[_MOST_ROWS:])
        if more:
            say(f"and {', '.join(f'{count} more of {kind}' for kind, count in more.items())}")
    for note in left.notes:
        say(f"note: {note}")


def _deleted(one: Leftover, root: Path) -> bool:
    """Delete one thing; say whether it is gone.

    A folder loses its name first, so that a killed deletion leaves no half of a run.
    """
    from sca_bench.engine.features.cache import delete_store
    from sca_bench.files import delete, delete_folder, inside, listed, rename

    try:
        path = inside(root, one.path)
        if path.is_symlink():
            return False
        if one.kind == "features":
            return delete_store(path)
        if not path.is_dir():
            delete(path)
        else:
            nameless = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            rename(path, nameless)
            delete_folder(nameless)
            if nameless.exists():
                return False
        if one.kind in ("run", "pointer") and not listed(path.parent):
            delete_folder(path.parent)  # of the last seed
    except (InputError, OSError):
        return False
    return True
