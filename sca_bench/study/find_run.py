"""Which runs of a runs folder a name means: an id, a run's folder, or what reports print.

3f2ac1                       the beginning of a cell's id
3f2ac1/0                     ... and a seed
runs/cells/3f2ac1.../seed-0  a run's folder
mixer_layers/num_layers=2/0  suite, cell and seed, as `list runs` prints them
mixer_layers/num_layers=2    every seed of a cell
num_layers=2                 a cell of whatever suite has it
num_layers=2 seed 0          as `run` prints a run
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sca_bench.errors import InputError, did_you_mean
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.sides import Point, find

_SEED = re.compile(r"(?P<cell>.+?)(?:/(?:seed-)?|,? seed )(?P<seed>\d+)")
_MOST_NAMES = 8
"""Names that one error lists."""


@dataclass(frozen=True, slots=True)
class CellName:
    """What a suite of a runs folder calls a cell; `str` is the name that commands take."""

    suite: str
    cell: str
    cell_id: str

    def __str__(self) -> str:
        return self.cell if self.cell == self.suite else f"{self.suite}/{self.cell}"


def cell_names(store: Store) -> dict[str, list[CellName]]:
    """Return cell id -> its name in every suite that was run into a folder."""
    names: dict[str, list[CellName]] = {}
    for manifest in store.manifests(faults=[]):  # a damaged one names nothing
        for entry in manifest.cells:
            name = CellName(manifest.report_name, entry.name, entry.cell_id)
            names.setdefault(entry.cell_id, []).append(name)
    return names


def find_finished(store: Store, text: str) -> tuple[RunRecord, Path]:
    """Return the record and folder of the finished run that is meant: of several seeds the first.

    Raises:
        InputError: No such finished run.
    """
    store, found = find_runs(store, text, "finished run")
    for record in found:
        if record.status == "done":
            return record, store.run_dir(record.cell_id, record.seed)
    states = ", ".join(dict.fromkeys(record.status for record in found))
    fix = "run its suite again" if states != "running" else "wait until it is done"
    raise InputError(store.root, text, f"no such finished run: it is {states}", fix)


def find_runs(store: Store, text: str, what: str = "run") -> tuple[Store, list[RunRecord]]:
    """Return the runs, whatever their status, of the one cell (or cell and seed) that is meant.

    Args:
        store: The runs folder.
        text: What was given.
        what: What it should be, for the error.

    Returns:
        The runs folder they are in (another one, where a run's folder was given), and the runs.

    Raises:
        InputError: Nothing is called so, or several cells are.
    """
    folder = Path(text)
    if (folder / "record.json").exists():
        folder = folder if _is_in_runs(folder) else folder.resolve()
        if not _is_in_runs(folder):
            problem = "is a run's folder, but lies in no runs folder"
            raise InputError(text, "", problem, "put it back as RUNS/cells/ID/seed-N")
        store = Store(folder.parent.parent.parent)
        text = f"{folder.parent.name}/{folder.name.removeprefix('seed-')}"
    faults: list[InputError] = []
    records = list(store.records(faults))
    match = _SEED.fullmatch(text)
    readings = [(match["cell"], int(match["seed"]))] if match else []
    for cell, seed in [*readings, (text, None)]:
        meant = {r.cell_id for r in records if cell and r.cell_id.startswith(cell)}
        named = [] if meant else _named(store, cell)
        meant = meant or {name.cell_id for name in named}
        if not meant:
            continue
        if len(meant) > 1:
            raise _ambiguous(store, text, meant)
        found = [r for r in records if r.cell_id in meant and seed in (None, r.seed)]
        if found:
            return store, found
        damaged = [f for f in faults if any(_lies_in(f, key, seed) for key in meant)]
        if damaged:
            raise damaged[0]
        if seed is not None and any(r.cell_id in meant for r in records):
            seeds = sorted(r.seed for r in records if r.cell_id in meant)
            fix = f"it has {', '.join(map(str, seeds))}"
            raise InputError(store.root, text, f"no run of it has seed {seed}", fix)
        raise InputError(store.root, text, "is in a suite, but was never run", "run the suite")
    for cell, seed in [*readings, (text, None)]:
        for fault in faults:
            if cell and _lies_in(fault, cell, seed):
                raise fault
    raise InputError(store.root, text, f"no such {what}", _nearest(store, text, records))


def _lies_in(fault: InputError, cell: str, seed: int | None) -> bool:
    """Say whether a fault is in a file of a run whose cell's id begins so."""
    place = Path(fault.where)
    run = next((path for path in (place, *place.parents) if path.name.startswith("seed-")), place)
    return run.parent.name.startswith(cell) and (seed is None or run.name == f"seed-{seed}")


def _is_in_runs(folder: Path) -> bool:
    return folder.parent.parent.name == "cells"


def _named(store: Store, text: str) -> list[CellName]:
    """Return what suites call so: `SUITE/CELL`, or a cell of any suite."""
    first, slash, rest = text.partition("/")
    manifests = store.manifests(faults=[])
    of_suite = [m for m in manifests if slash and first in (m.report_name, m.suite)]
    exact = [m for m in of_suite if m.report_name == first] or of_suite
    found = [name for m in exact for name in _cells(m, rest)]
    if not found:
        found = [name for m in manifests for name in _cells(m, text)]
    if not found:
        whole = [m for m in manifests if m.report_name == text]
        found = [_name(m, entry) for m in whole for entry in m.cells]
    return found


def _cells(manifest: SuiteManifest, text: str) -> Iterator[CellName]:
    """Yield the cells of a suite that a name or coordinates mean."""
    entries = {entry.name: entry for entry in manifest.cells}
    points = [
        Point(e.name, e.coordinates, e.variant, e.control, tuple(e.also), e.ignored)
        for e in manifest.cells
    ]
    for point in find(text, points, text):
        yield _name(manifest, entries[point.name])


def _name(manifest: SuiteManifest, entry: CellEntry) -> CellName:
    return CellName(manifest.report_name, entry.name, entry.cell_id)


def _ambiguous(store: Store, text: str, ids: Iterable[str]) -> InputError:
    names = cell_names(store)
    each = [" or ".join([key, *map(str, names.get(key, ()))]) for key in sorted(ids)]
    more = f"; and {len(each) - _MOST_NAMES} more" if len(each) > _MOST_NAMES else ""
    problem = f"means {len(each)} cells: {'; '.join(each[:_MOST_NAMES])}{more}"
    return InputError(store.root, text, problem, "give one of these names, or more of an id")


def _nearest(store: Store, text: str, records: Iterable[RunRecord]) -> str:
    names = cell_names(store)
    known: set[str] = set()
    for record in records:
        known |= {record.cell_id, f"{record.cell_id}/{record.seed}"}
        known |= {f"{name}/{record.seed}" for name in names.get(record.cell_id, ())}
    known |= {str(name) for of in names.values() for name in of}
    return did_you_mean(text, known, "list runs") if known else "no run is here; run a suite first"
