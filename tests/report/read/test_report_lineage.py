"""What a cell was fine-tuned from is said in tables, gallery and provenance."""

from pathlib import Path
from typing import Any

from report_fake_runs import record

from sca_bench.report import write_report
from sca_bench.report.read.lineage import lineage_lines, stage_facts
from sca_bench.report.read.suite_data import collect
from sca_bench.study.runs.record import RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]
STAGE: dict[str, Any] = {
    "stage": "objects365",
    "cell_id": "ab12",
    "seed": 1,
    "steps": 100_000,
    "weights_sha256": "f" * 64,
}


def with_lineage(runs: Runs, name: str, **by_seed: list[dict[str, Any]]) -> None:
    store, suite = runs
    entry = next(cell for cell in suite.cells if cell.name == name)
    for seed in suite.seeds:
        lineage = by_seed.get(f"seed_{seed}", by_seed.get("all", []))
        store.save(record(entry, seed).model_copy(update={"lineage": lineage}))


def test_an_old_record_has_no_lineage(runs: Runs) -> None:
    store, suite = runs
    old = record(suite.cells[1], 0).model_dump()
    del old["lineage"]
    assert RunRecord.model_validate(old).lineage == []
    assert all(lineage_lines(cell) == [] for cell in collect(store, suite).cells)


def test_stages_in_order(runs: Runs) -> None:
    second = {**STAGE, "stage": "coco", "steps": 5}
    with_lineage(runs, "depth-2", all=[STAGE, second])
    data = collect(*runs)
    said = "fine-tuned from: objects365, 100,000 steps, then coco, 5 steps"
    assert lineage_lines(data.cells[1]) == [said]
    assert stage_facts(data.cells[1].done[0]) == {
        "stage 1": f"objects365, 100,000 steps; cell ab12, seed 1; weights SHA-256 {'f' * 64}",
        "stage 2": f"coco, 5 steps; cell ab12, seed 1; weights SHA-256 {'f' * 64}",
    }


def test_seeds_with_other_stages_are_told_apart(runs: Runs) -> None:
    with_lineage(runs, "depth-2", seed_0=[STAGE], seed_1=[])
    assert lineage_lines(collect(*runs).cells[1]) == [
        "fine-tuned from: objects365, 100,000 steps (seed 0)"
    ]


def test_report_says_it_everywhere(runs: Runs, tmp_path: Path) -> None:
    with_lineage(runs, "depth-2", all=[STAGE])
    folder = write_report(*runs, tmp_path / "reports")
    said = "depth-2: fine-tuned from: objects365, 100,000 steps"
    assert said in (folder / "table.md").read_text(encoding="utf-8")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count(said) == 2  # a note of the tables, and a line of the gallery
    assert f"cell ab12, seed 1; weights SHA-256 {'f' * 64}" in page
