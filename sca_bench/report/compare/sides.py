"""What the two names of a comparison mean, and which of their cells belong together."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sca_bench.errors import InputError
from sca_bench.files import listed
from sca_bench.metrics.rows import CaptionRow, read_references, read_rows, read_some_rows
from sca_bench.report.names import expand_metrics
from sca_bench.report.read.read_once import ReadOnce
from sca_bench.report.read.suite_data import CellRuns, cell_runs, each_once
from sca_bench.study.find_run import find_runs
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.study.suite.yaml_values import same_value

Kind = Literal["cell", "suite", "file"]
_MOST_NAMES = 8
"""Cells that one line lists."""


class RegionScores(ReadOnce):
    """A runs folder of which region scores are read, and captions of single regions only."""

    def images(self, cell_id: str, seed: int) -> Mapping[str, str]:
        """Return region id -> image id of one run; runs of before say it in their captions only."""
        table = self.region_scores(cell_id, seed)
        ids, images = table.get("region_ids", []), table.get("image_ids", [])
        if ids and len(ids) == len(images):
            return dict(zip(ids, images, strict=True))
        return super().images(cell_id, seed)

    def some_predictions(
        self, cell_id: str, seed: int, region_ids: Collection[str]
    ) -> Mapping[str, CaptionRow]:
        """Return region id -> row of some regions of one run; nothing where it left no captions.

        Raises:
            InputError: The file is damaged.
        """
        path = self.run_dir(cell_id, seed) / PREDICTIONS
        return read_some_rows(path, region_ids) if path.exists() else {}


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        given: What was given.
        kind: What it means.
        store: Where its scores and captions are read from.
        cells: Its cells; of a file one, without a name.
        metrics: The metrics of its suite, one by one; empty where it names none.
        rows: The captions of a file, which are not scored yet.
        pictures: The runs folder that has the images; None for a file.
    """

    given: str
    kind: Kind
    store: RegionScores
    cells: tuple[CellRuns, ...]
    metrics: tuple[str, ...] = ()
    rows: Mapping[str, CaptionRow] = field(default_factory=dict)
    pictures: Path | None = None


@dataclass(frozen=True, slots=True)
class CellPair:
    """A cell of A and the one of B that it is compared with; `name` is that of A's."""

    name: str
    a: CellRuns
    b: CellRuns


@dataclass(frozen=True, slots=True)
class Paired:
    """Which cells belong together.

    Attributes:
        pairs: Those that do, in A's order.
        only_a: Names of A's other cells.
        only_b: Names of B's other cells.
    """

    pairs: tuple[CellPair, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


def find_side(store: Store, text: str, references: Path | None = None) -> Side:
    """Return what a name means: a file of captions, a suite, a cell, or a run.

    Args:
        store: The runs folder.
        text: What was given.
        references: A file that has the references of a file of captions.

    Raises:
        InputError: There is no such thing, or it is damaged.
    """
    if text.endswith((".jsonl", ".json")) or Path(text).is_file():
        return _file(Path(text), references)
    manifest = _suite(store, text)
    if manifest is not None:
        kept = RegionScores(store)
        cells = (cell_runs(kept, entry, manifest.seeds) for entry in each_once(manifest.cells))
        metrics = expand_metrics(manifest.metrics)
        return Side(text, "suite", kept, tuple(cells), tuple(metrics), pictures=store.root)
    store, records = find_runs(store, text)
    return _cell(store, text, records)


def _file(path: Path, references: Path | None) -> Side:
    known = None if references is None else read_references(references)
    try:
        rows = {row.region_id: row for row in read_rows(path, known)}
    except InputError as error:
        if error.key.endswith(": references") and "missing" in error.problem:
            where = f"and {references} has none for it" if references else ""
            fix = "name a file that has them: --references FILE, such as a run's predictions.jsonl"
            problem = f"has no references {where}".rstrip()
            raise InputError(path, error.key.partition(":")[0], problem, fix) from None
        raise
    nothing = RegionScores(Store(path))  # nothing lies below a file
    return Side(str(path), "file", nothing, (), rows=rows)


def _suite(store: Store, text: str) -> SuiteManifest | None:
    faults: list[InputError] = []
    manifests = store.manifests(faults=faults)
    for manifest in manifests:
        if text in (manifest.report_name, f"{manifest.suite}.{manifest.profile}"):
            return manifest
    for fault in faults:
        if Path(fault.where).name.startswith(f"{text}."):
            raise fault
    return None


def _cell(store: Store, text: str, records: Sequence[RunRecord]) -> Side:
    """Return a cell with all its seeds, or one run of it, as a name means it."""
    first = records[0]
    manifests = [m for m in store.manifests(faults=[]) if _entry(m, first.cell_id)]
    named = [m for m in manifests if text.startswith(f"{m.report_name}/")]
    if len(records) == 1 and re.search(rf"(/|seed[- /]){first.seed}/?$", text):
        seeds = [first.seed]
    elif named:  # as its report has it
        seeds = list(named[0].seeds)
    else:
        seeds = _seeds_of(store, first.cell_id)
    entry, metrics = None, list[str]()
    for manifest in (named or manifests)[:1]:
        entry, metrics = _entry(manifest, first.cell_id), expand_metrics(manifest.metrics)
    if entry is None:
        name, variant = first.cell_id, first.variant
        entry = CellEntry(cell_id=name, name=name, coordinates={}, variant=variant)
    kept = RegionScores(store)
    cell = cell_runs(kept, entry, seeds)
    return Side(text, "cell", kept, (cell,), tuple(metrics), pictures=store.root)


def _seeds_of(store: Store, cell_id: str) -> list[int]:
    """Return the seeds that a cell was run with, those of damaged records, too."""
    folders = listed(store.root / "cells" / cell_id)
    names = (
        re.fullmatch(r"seed-(-?\d{1,19})", f.name) for f in folders if (f / "record.json").exists()
    )
    return sorted(int(name[1]) for name in names if name)


def _entry(manifest: SuiteManifest, cell_id: str) -> CellEntry | None:
    return next((e for e in each_once(manifest.cells) if e.cell_id == cell_id), None)


def pair_cells(a: Side, b: Side) -> Paired:
    """Return which cells belong together: of two suites those with the same settings.

    A cell belongs to the one with its id; else to one at the same place on the same axes; else,
    beside the axes, to one of its name. A single cell or file belongs to a single one, and to a
    suite's cell that has its id.

    Raises:
        InputError: Nothing belongs together.
    """
    if len(a.cells) == len(b.cells) == 1 and "suite" not in (a.kind, b.kind):
        return Paired((CellPair(a.cells[0].entry.name, a.cells[0], b.cells[0]),))
    pairs: list[CellPair] = []
    left = list(b.cells)
    for alike in (_same_id, _same_place, _same_name):
        for cell in a.cells:
            if any(pair.a is cell for pair in pairs):
                continue
            partner = next((other for other in left if alike(cell.entry, other.entry)), None)
            if partner is not None:
                left.remove(partner)
                pairs.append(CellPair(cell.entry.name, cell, partner))
    order = {id(cell): number for number, cell in enumerate(a.cells)}
    pairs.sort(key=lambda pair: order[id(pair.a)])
    paired = {id(pair.a) for pair in pairs}
    only_a = tuple(cell.entry.name for cell in a.cells if id(cell) not in paired)
    only_b = tuple(cell.entry.name for cell in left)
    if not pairs:
        problem = f"have no cell in common: {a.given} has {listed_names(only_a)}; {b.given} has "
        fix = "name one cell of each: SUITE/CELL"
        raise InputError("compare", f"{a.given}, {b.given}", problem + listed_names(only_b), fix)
    return Paired(tuple(pairs), only_a, only_b)


def _same_id(a: CellEntry, b: CellEntry) -> bool:
    return a.cell_id == b.cell_id


def _same_place(a: CellEntry, b: CellEntry) -> bool:
    if not a.coordinates or a.coordinates.keys() != b.coordinates.keys():
        return False
    return all(same_value(value, b.coordinates[axis]) for axis, value in a.coordinates.items())


def _same_name(a: CellEntry, b: CellEntry) -> bool:
    return not a.coordinates and not b.coordinates and a.name == b.name


def listed_names(names: Sequence[str]) -> str:
    """Return some names in a line, the first few of many."""
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "no cell of its own") + more


def read_captions(side: Side, record: RunRecord) -> Mapping[str, CaptionRow]:
    """Return all captions of a run, which must be there.

    Raises:
        InputError: They are not.
    """
    rows = side.store.predictions(record.cell_id, record.seed)
    if rows:
        return rows
    place = side.store.place(record.cell_id, record.seed, PREDICTIONS)
    fault = side.store.faults.get(str(place))
    raise fault or InputError(place, "", "holds no captions", "run its suite again")
