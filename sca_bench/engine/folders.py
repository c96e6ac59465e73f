"""Folders that are written once, with a card that says from what; never half, never over others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sca_bench import __version__
from sca_bench.errors import InputError
from sca_bench.study.store import write_atomic
from sca_bench.study.training import file_sha256


def file_digests(path: Path) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of a file, or of every file below a folder, hidden ones left out."""
    if path.is_file():
        return {path.name: _facts(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file())
    names = {p: p.relative_to(path).as_posix() for p in files}
    return {
        name: _facts(p)
        for p, name in names.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def write_once(
    out: Path,
    card_name: str,
    origin: Mapping[str, Any],
    write: Callable[[Path], Mapping[str, Any]],
) -> tuple[dict[str, Any], bool]:
    """Write a folder, or find that it was written from the same origin before.

    Args:
        out: The folder; absent, empty, or one that this function wrote from the same origin.
        card_name: Name of the card in it, JSON.
        origin: What decides the content.
        write: Fills a folder that will be renamed to `out`, and returns facts for the card.

    Returns:
        The card, and whether the folder was written now.

    Raises:
        InputError: The folder holds something else, or what was written there has changed.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "", "is no folder", "name a new folder")
    if out.is_dir() and any(out.iterdir()):
        return _written_before(out, card_name, origin), False
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        facts = write(temporary)
        card = {
            "written_by": f"sca_bench {__version__}",
            "origin": dict(origin),
            **facts,
            "files": file_digests(temporary),
        }
        write_atomic(temporary / card_name, json.dumps(card, indent=1) + "\n")
        if out.is_dir():
            out.rmdir()
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card, True


def _written_before(out: Path, card_name: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    fix = "name a new folder, or delete this one"
    try:
        card: dict[str, Any] = json.loads((out / card_name).read_text(encoding="utf-8"))
        known, files = card["origin"], card["files"]
    except FileNotFoundError:
        raise InputError(
            out, "", f"is not empty, and not ours: no {card_name} in it", fix
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(out / card_name, "", f"is damaged ({error})", fix) from error
    if known != dict(origin):
        raise InputError(out, "", "was written from something else", fix)
    here = file_digests(out)
    for name, facts in files.items():
        if here.get(name) != facts:
            problem = "has changed since it was written" if name in here else "is missing"
            raise InputError(out / name, "", problem, fix)
    return card
