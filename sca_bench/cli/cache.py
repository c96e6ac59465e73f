"""`cache ls|du|verify|clear`: what is kept of frozen features, and whether it can be believed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import text_console, text_table
from sca_bench.walk import bytes_of

if TYPE_CHECKING:
    from sca_bench.cli import Commands

_MIB = 2**20


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add `cache` to the command line."""
    cache = commands.add_parser(
        "cache", parents=[common], help="frozen features that are kept: list, size, check, delete"
    )
    cache.add_argument("action", choices=["ls", "du", "verify", "clear"])
    cache.add_argument("keys", nargs="*", metavar="STORE", help="beginnings of names (all)")
    cache.add_argument("--dir", metavar="DIR", help="cache folder (features/ in the runs folder)")
    cache.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only what was not used for so long"
    )
    cache.set_defaults(execute=command)


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
        return _clear(root, folders)
    if options.action == "du":
        print(f"{_size(sum(map(bytes_of, folders)))} in {len(folders)} stores of {root}")
        return 0
    _print_table(folders)
    return 0


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
            _size(bytes_of(folder)),
            since_text(last_use(folder)),
        )
    text_console().print(table)


def _about(folder: Path) -> dict[str, object]:
    import json

    from sca_bench.engine.features.cache import ABOUT

    try:
        facts: dict[str, object] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    return facts


def _verify(folders: list[Path]) -> int:
    """Check every row of every store; delete nothing; return 1 where something is damaged."""
    from sca_bench.engine.features.shards import ShardStore

    bad = 0
    for folder in folders:
        store = ShardStore(folder, delete=False)
        rows = store.verify()
        for name, reason in store.damaged.items():
            print(f"{folder / name}: damaged ({reason}); the next run computes it again")
        bad += len(store.damaged)
        print(f"{folder.name}: {rows} rows sound, {len(store.damaged)} shards damaged")
    return 1 if bad else 0


def _clear(root: Path, folders: list[Path]) -> int:
    from sca_bench.engine.features.cache import delete_store

    freed = in_use = 0
    for folder in folders:
        size = bytes_of(folder)
        if delete_store(folder):
            freed += size
        else:
            in_use += 1
            print(f"{folder}: in use, left as it is")
    print(f"{_size(freed)} freed in {root}; what is needed again is computed again")
    return 1 if in_use else 0


def _size(bytes_of: int) -> str:
    return f"{bytes_of / _MIB:.1f} MiB" if bytes_of < 2**30 else f"{bytes_of / 2**30:.2f} GiB"
