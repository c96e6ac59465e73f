"""What `report` needs to know about a suite, from its plan."""

from __future__ import annotations

from pathlib import Path

from sca_bench.files import name_text
from sca_bench.study.plan.plan import Plan
from sca_bench.study.runs.record import CellEntry, SuiteManifest


def manifest_of(plan: Plan, command: str, created: str) -> SuiteManifest:
    """Return what `report` needs to know about the suite."""
    suite = plan.suite
    resolved = {cell.name: cell for cell in suite.cells}
    return SuiteManifest(
        suite=suite.spec.suite,
        profile=suite.profile,
        default_profile=suite.spec.profile,
        file=name_text(Path(suite.file).name),
        question=suite.spec.question,
        header=suite.header,
        paper=suite.spec.paper,
        statement=suite.statement,
        axes=suite.axes,
        one_at_a_time=suite.spec.one_at_a_time,
        seeds=list(suite.seeds),
        metrics=list(suite.metrics),
        subsets=dict(suite.subsets),
        claims=[claim.model_dump() for claim in suite.claims],
        cells=[
            CellEntry(
                cell_id=cell.cell_id,
                name=cell.name,
                coordinates=cell.coordinates,
                variant=cell.settings.variant,
                control=cell.control,
                adjusted=cell.adjusted or {},
                published_row=suite.published.row_of((cell.name, *resolved[cell.name].also)),
                also=list(resolved[cell.name].also),
                ignored={k: list(v) for k, v in resolved[cell.name].ignored.items()},
                note=resolved[cell.name].note,
            )
            for cell in plan.cells
        ],
        published_claims=suite.published.claims,
        reference=suite.reference,
        overrides=list(suite.overrides),
        command=command,
        created=created,
    )
