"""Another state of this repository, measured in turns with the present one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vit_b_cells import MOST_REPEATS, Cost

ROOT = Path(__file__).parents[2]
BEFORE = "af0a796"
"""The commit before text mixer and text decoder were made faster."""


def unpack(commit: str, folder: Path) -> Path | None:
    """Write the files of a commit into a folder; None where git does not know it."""
    folder.mkdir()
    packed = folder.with_suffix(".tar")
    made = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "-o", str(packed), commit, "sca_bench", "tests/bench"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        return None
    with tarfile.open(packed) as files:
        files.extractall(folder, filter="data")
    return folder


@contextlib.contextmanager
def serving(checkout: Path) -> Iterator[Callable[[str], tuple[Cost, Any]]]:
    """Start a process that measures the pieces of work of a checkout, one at a time."""
    source = Path(__file__).with_name("served_cells.py").read_text(encoding="utf-8")
    path = os.pathsep.join([str(checkout / "tests" / "bench"), str(checkout)])
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it has built everything

    def ask(name: str) -> tuple[Cost, Any]:
        print(name, file=process.stdin, flush=True)
        cpu_s, wall_s, made = json.loads(process.stdout.readline())
        return Cost(cpu_s, wall_s), made

    with process:
        yield ask


def in_turns(
    folder: Path, pieces: tuple[str, ...], commit: str = BEFORE
) -> dict[tuple[str, str], tuple[Cost, Any]] | None:
    """Measure pieces of work before and now; of each the run of least CPU seconds.

    Returns:
        ("before" or "now", piece) -> its cost, and what it made. None where there is no commit.
    """
    old = unpack(commit, folder / "before")
    if old is None:
        return None
    found: dict[tuple[str, str], tuple[Cost, Any]] = {}
    with serving(old) as before, serving(ROOT) as now:
        for _ in range(MOST_REPEATS):
            for piece in pieces:
                for label, ask in (("before", before), ("now", now)):
                    cost, made = ask(piece)
                    least = found.get((label, piece), (cost, made))[0]
                    found[label, piece] = (min(cost, least), made)
    return found
