"""`cache ls|du|verify|clear`: what is kept of frozen features, and whether it can be believed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import Actions, add_runs_dir
from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import num_text, say, size_text, text_console, text_table
from sca_bench.walk import bytes_of

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands


def add_parser(commands: Commands) -> None:
    """Add `cache` to the command line."""
    cache = commands.add_parser(
        "cache",
        help="frozen features that are kept: list, size, check, delete",
        description="Frozen features are computed once and kept in the runs folder. They may be "
        "deleted at any time: what is needed again is computed again.",
        examples=("cache ls", "cache clear --older-than 30 --dry-run"),
    )
    actions = Actions(cache)
    for name, about, examples in _ACTIONS:
        action = actions.add(name, about, examples)
        action.add("keys", nargs="*", metavar="STORE", help="beginnings of their names (all)")
        action.add("--dir", metavar="DIR", help="cache folder (features/ in the runs folder)")
        action.add(
            "--older-than", type=float, metavar="DAYS", help="only what was not used for so long"
        )
        if name == "clear":
            action.add("--dry-run", action="store_true", help="only say what would be deleted")
            action.add("--yes", action="store_true", help="do not ask, where a terminal would be")
        add_runs_dir(action)
    cache.set_defaults(execute=command)


_ACTIONS = (
    ("ls", "list the stores: what they hold, their size, when they were used", ("cache ls",)),
    ("du", "say how much is kept", ("cache du", "cache du --older-than 30")),
    ("verify", "read every row and say what is damaged; delete nothing", ("cache verify",)),
    (
        "clear",
        "delete stores; without names all of them, after a question in a terminal",
        ("cache clear --dry-run", "cache clear 3f2a", "cache clear --older-than 30"),
    ),
)
"""Name, what it does, examples."""


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run one of the actions; return the exit code."""
    from sca_bench.engine.features.cache import last_use

    root = Path(options.dir or Path(options.runs_dir) / "features")
    folders = _chosen(root, options.keys)
    if options.older_than is not None:
        limit = time.time() - 86400 * options.older_than
        folders = [folder for folder in folders if last_use(folder) < limit]
    if options.action == "verify":
        return _verify(folders)
    if options.action == "clear":
        if options.dry_run:
            _print_table(folders)
            say(f"{_total(folders)} of {root} would be deleted")
            return 0
        if not options.keys and not options.yes and not _agreed(folders, root):
            say("nothing was deleted")
            return 0
        return _clear(root, folders)
    if options.action == "du":
        say(f"{_total(folders)} of {root}")
        return 0
    _print_table(folders)
    return 0


def _total(folders: list[Path]) -> str:
    return f"{size_text(sum(map(bytes_of, folders)))} in {num_text(len(folders), 'store')}"


def _agreed(folders: list[Path], root: Path) -> bool:
    """Ask whether all of it is meant; where nobody can answer, the command is taken at its word."""
    if not folders or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    answer = input(f"delete {_total(folders)} of {root}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _chosen(root: Path, keys: list[str]) -> list[Path]:
    """Return the stores whose names begin with one of the keys; all where none is given."""
    from sca_bench.engine.features.cache import store_folders

    folders = store_folders(root)
    for key in keys:
        if not any(folder.name.startswith(key) for folder in folders):
            names = [folder.name for folder in folders]
            raise InputError(root, key, "no such store", did_you_mean(key, names))
    return [f for f in folders if not keys or any(f.name.startswith(key) for key in keys)]


def _print_table(folders: list[Path]) -> None:
    from sca_bench.engine.features.cache import last_use, since_text
    from sca_bench.engine.features.shards import ShardStore

    columns = ("store", "family", "split", "SAM", "type", "rows", "size", "used")
    table = text_table(*columns, right=("rows", "size"))
    for folder in folders:
        about = _about(folder)
        store = ShardStore(folder, delete=False)
        table.add_row(
            folder.name,
            *(str(about.get(name, "?")) for name in ("family", "split", "sam", "dtype")),
            str(len(store)),
            size_text(bytes_of(folder)),
            since_text(last_use(folder)),
        )
    text_console().print(table)


def _about(folder: Path) -> dict[str, object]:
    from sca_bench.engine.features.cache import ABOUT
    from sca_bench.reading import RECORD_BYTES, read_json

    try:
        facts = read_json(folder / ABOUT, RECORD_BYTES)
    except (OSError, InputError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _verify(folders: list[Path]) -> int:
    """Check every row of every store; delete nothing; return 1 where something is damaged."""
    from sca_bench.engine.features.shards import ShardStore

    bad = 0
    for folder in folders:
        store = ShardStore(folder, delete=False)
        rows = store.verify()
        for name, reason in store.damaged.items():
            say(f"{folder / name}: damaged ({reason}); the next run computes it again")
        bad += len(store.damaged)
        say(
            f"{folder.name}: {num_text(rows, 'row')} sound, "
            f"{num_text(len(store.damaged), 'shard')} damaged"
        )
    return 1 if bad else 0


def _clear(root: Path, folders: list[Path]) -> int:
    from sca_bench.engine.features.cache import delete_store, is_only_a_store

    freed = in_use = 0
    for folder in folders:
        size = bytes_of(folder)
        if delete_store(folder):
            freed += size
        else:
            in_use += 1
            why = "in use" if is_only_a_store(folder) else "holds other files than features"
            say(f"{folder}: {why}, left as it is")
    say(f"{size_text(freed)} freed in {root}; what is needed again is computed again")
    return 1 if in_use else 0
