"""What a cell was trained on before: the stages in front of its own training."""

from __future__ import annotations

from typing import Any

from sca_bench.report.read.suite_data import CellRuns
from sca_bench.study.runs.record import RunRecord


def lineage_lines(cell: CellRuns) -> list[str]:
    """Return `fine-tuned from: objects365, 100,000 steps` for a cell with earlier stages.

    One line where all seeds had the same stages, else one per lineage with its seeds.
    """
    seeds: dict[str, list[int]] = {}
    for record in cell.done:
        if record.lineage:
            path = ", then ".join(_stage(item) for item in record.lineage)
            seeds.setdefault(path, []).append(record.seed)
    if len(seeds) == 1 and sum(map(len, seeds.values())) == len(cell.done):
        return [f"fine-tuned from: {next(iter(seeds))}"]
    return [
        f"fine-tuned from: {path} (seed {', '.join(map(str, own))})" for path, own in seeds.items()
    ]


def stage_facts(record: RunRecord) -> dict[str, str]:
    """Return the facts of every earlier stage of one run, for its provenance."""
    facts = {}
    for number, item in enumerate(record.lineage, start=1):
        facts[f"stage {number}"] = (
            f"{_stage(item)}; cell {item.get('cell_id', 'not stated')}, "
            f"seed {item.get('seed', 'not stated')}; "
            f"weights SHA-256 {item.get('weights_sha256', 'not stated')}"
        )
    return facts


def _stage(item: dict[str, Any]) -> str:
    steps = item.get("steps")
    num_steps = f"{steps:,}" if isinstance(steps, int) else "unknown"
    return f"{item.get('stage', 'unnamed stage')}, {num_steps} steps"
