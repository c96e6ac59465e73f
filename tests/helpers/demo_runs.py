"""Finished runs of a suite `demo` that nobody computed, for tests of MLflow's mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import Store


def demo_store(runs: Path, cells: str, log: str, **changes: Any) -> Store:
    """Return a runs folder with a finished run of each cell.

    Args:
        runs: The folder.
        cells: Names of the cells, a letter each.
        log: What each run logged, as lines of JSON.
        **changes: Of their records.
    """
    store = Store(runs)
    known: dict[str, Any] = {"scores": {"cider_d": Score(value=1.5)}, **changes}
    for name in cells:
        settings = {"mixer": {"num_layers": 2}}
        record = RunRecord(
            cell_id=name,
            seed=0,
            status="done",
            settings=settings,
            variant="sca",
            revision="1",
            **known,
        )
        store.save(record)
        (store.run_dir(name, 0) / "log.jsonl").write_text(log, encoding="utf-8")
    return store


def demo_manifest(store: Store, cells: str) -> SuiteManifest:
    """Return the manifest of the suite, which is saved."""
    manifest = SuiteManifest(
        suite="demo",
        profile="tiny",
        default_profile="tiny",
        file="demo.yaml",
        question="?",
        seeds=[0],
        metrics=["cider_d"],
        cells=[CellEntry(cell_id=c, name=c, coordinates={"axis": c}, variant="sca") for c in cells],
    )
    store.save_manifest(manifest)
    return manifest
