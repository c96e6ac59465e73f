"""The sweep that a suite belongs to: it is a search's trials, or the confirmation of the best."""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.report.read.suite_data import SuiteData
from sca_bench.study.runs.sweep_record import SweepRecord, read_sweep, sweep_path
from sca_bench.study.suite.sweep import CHOSEN_BY, CONFIRMED


@dataclass(frozen=True, slots=True)
class SweepPart:
    """A suite's part in a sweep.

    Attributes:
        record: What was written about the sweep.
        is_search: Whether the suite is its trials; else it is the confirmation.
    """

    record: SweepRecord
    is_search: bool


def sweep_part(data: SuiteData) -> SweepPart | None:
    """Return the sweep of a suite.

    None where it is of no sweep, of one that was last run by a version that wrote nothing about
    it, or where that is damaged, which is noted.

    Raises:
        InputError: The file cannot be read now.
    """
    name = data.manifest.suite
    ids = {cell.entry.cell_id for cell in data.cells}
    record = _read(data, name)
    if record is not None and ids & {trial.cell_id for trial in record.trials}:
        return SweepPart(record, True)
    if name.endswith(CONFIRMED):
        record = _read(data, name.removesuffix(CONFIRMED))
        if record is not None and ids & {cell.cell_id for cell in record.confirmed}:
            return SweepPart(record, False)
    return None


def is_search(data: SuiteData) -> bool:
    """Say whether a suite is a sweep's trials, known or not what was searched."""
    return CHOSEN_BY in data.manifest.statement


def related_suites(data: SuiteData) -> list[tuple[str, str]]:
    """Return the other part of a suite's sweep: what it is in words, and its report's name.

    Nothing for a suite of no sweep, and where the other part was not run.

    Raises:
        InputError: A link leads out of the runs folder.
    """
    manifest, name = data.manifest, data.manifest.suite
    if is_search(data):
        other, words = name + CONFIRMED, "the best configuration on the test split"
    elif name.endswith(CONFIRMED):
        other, words = name.removesuffix(CONFIRMED), "the search that chose it, trial by trial"
    else:
        return []
    if not data.store.manifest_path(other, manifest.profile).exists():
        return []
    return [(words, other + manifest.report_name.removeprefix(name))]


def _read(data: SuiteData, sweep: str) -> SweepRecord | None:
    store, profile = data.store, data.manifest.profile
    nothing: SweepRecord | None = None
    return store.sound(
        lambda: read_sweep(store, sweep, profile), nothing, sweep_path(store, sweep, profile)
    )
