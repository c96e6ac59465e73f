"""What is tested for small faults, and which tests the map in CONTRIBUTING.md gives to it."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable
from pathlib import Path

from small_faults import Fault, faults_of

TARGETS = {
    "metrics": ("metrics",),
    "stats": ("stats",),
    "study": ("study",),
    "optimiser": (
        "engine/worker/mmengine_runner.py",
        "engine/worker/cell_group.py",
        "engine/worker/hooks.py",
        "engine/worker/pruning.py",
        "engine/worker/rng.py",
        "engine/worker/step_timer.py",
        "settings/cell.py:TrainSettings",
    ),
}
"""Target -> its folders and files in the package; after a colon, the one class that belongs."""


def faults_of_target(root: Path, target: str) -> dict[str, list[Fault]]:
    """Return file -> its small faults, for the files of a target."""
    found: dict[str, list[Fault]] = {}
    for entry in TARGETS[target]:
        name, _, only = entry.partition(":")
        path = root / "sca_bench" / name
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            relative = file.relative_to(root).as_posix()
            faults = faults_of(relative, file.read_text(encoding="utf-8"))
            if kept := [f for f in faults if not only or f.scope.split(".")[0] == only]:
                found[relative] = kept
    return found


def drawn(faults: dict[str, list[Fault]], number: int, seed: int) -> list[Fault]:
    """Draw faults, from each file its share of them by largest remainder."""
    whole = sum(len(of_file) for of_file in faults.values())
    number = min(number, whole)
    shares = {file: number * len(of_file) / whole for file, of_file in faults.items()}
    taken = {file: int(share) for file, share in shares.items()}
    by_rest = sorted(faults, key=lambda file: (taken[file] - shares[file], file))
    for file in by_rest[: number - sum(taken.values())]:
        taken[file] += 1
    draw = random.Random(seed)
    picked = [f for file in sorted(faults) for f in draw.sample(faults[file], taken[file])]
    draw.shuffle(picked)  # so that the first few are of all files
    return picked


def guards_of(root: Path, target: str) -> list[str]:
    """Return the test files that guard a target: by the map, and its folder of tests.

    Raises:
        LookupError: The map has no row for it.
    """
    rows = [
        line.split("|")[1:-1]
        for line in (root / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    rooms = {entry.partition(":")[0] for entry in TARGETS[target]}
    named: set[str] = set()
    for room in rooms:
        name = room.rpartition("/")[0] if room.endswith(".py") else room
        named.add(f"tests/{name}")
        for row in rows:
            if any(f"{r}/".startswith(f"{name}/") for r in re.findall(r"`([^`]+)`", row[0])):
                named.update(re.findall(r"`(tests/[^`]+)`", row[-1]))
    files: set[str] = set()
    for guard in named:
        path = root / guard
        found = [path] if path.is_file() else path.rglob("test_*.py")
        files.update(file.relative_to(root).as_posix() for file in found)
    if not files:
        raise LookupError(f"CONTRIBUTING.md: no row names tests of {target}")
    return sorted(files)


def in_functions(source: str) -> set[int]:
    """Return the lines of a file that run when a function is called."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines.update(_span(node.body))
    return lines


def _span(body: Iterable[ast.stmt]) -> range:
    statements = list(body)
    return range(statements[0].lineno, (statements[-1].end_lineno or 0) + 1)
