"""What `report` needs to know about a suite, from its plan; and whose name a suite has there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.files import name_text
from sca_bench.study.plan.plan import Plan
from sca_bench.study.runs.record import CellEntry, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.profiles import read_mapping
from sca_bench.study.suite.sweep import CONFIRMED

_MOST_NAMES = 8
"""Names of cells that one line lists."""


def manifest_of(plan: Plan, store: Store, command: str, created: str) -> SuiteManifest:
    """Return what `report` needs to know about the suite.

    Args:
        plan: All of its cells.
        store: The runs folder, whose manifest of the suite says which seeds were asked for before.
        command: The command line.
        created: When it was given.
    """
    suite = plan.suite
    resolved = {cell.name: cell for cell in suite.cells}
    return SuiteManifest(
        suite=suite.spec.suite,
        profile=suite.profile,
        default_profile=suite.spec.profile,
        file=name_text(Path(suite.file).name),
        path=name_text(suite.file.resolve()),
        digest=file_sha256(suite.file),
        question=suite.spec.question,
        header=suite.header,
        paper=suite.spec.paper,
        statement=suite.statement,
        axes=suite.axes,
        one_at_a_time=suite.spec.one_at_a_time,
        seeds=_seeds(plan, store),
        own_seeds=list(suite.own_seeds),
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
                stated={
                    key: value
                    for key, value in resolved[cell.name].stated.items()
                    if key not in cell.coordinates
                },
            )
            for cell in plan.cells
        ],
        published_claims=suite.published.claims,
        reference=suite.reference,
        overrides=list(suite.overrides),
        command=command,
        created=created,
    )


def _before(plan: Plan, store: Store) -> SuiteManifest | None:
    """Return the manifest of when the suite was last run in this profile."""
    found = store.manifests(plan.suite.spec.suite)
    return next((m for m in found if m.profile == plan.suite.profile), None)


def _seeds(plan: Plan, store: Store) -> list[int]:
    """Return the seeds asked for now, and those of the suite and of before that have runs."""
    suite, before = plan.suite, _before(plan, store)
    # A seed that the suite named then and names no more is left out; one that a flag named stays.
    named = [seed for seed in before.seeds if seed not in before.own_seeds] if before else []
    known = dict.fromkeys([*suite.own_seeds, *named, *suite.seeds])
    return [
        seed
        for seed in known
        if seed in suite.seeds or any(store.has_run(cell.cell_id, seed) for cell in plan.cells)
    ]


def left_out(plan: Plan, store: Store) -> str:
    """Return what the suite's last report has and its next one has not; empty where nothing.

    Args:
        plan: All cells of the suite as it is now.
        store: The runs folder.
    """
    before = _before(plan, store)
    if before is None:
        return ""
    now, seeds = {cell.cell_id for cell in plan.cells}, _seeds(plan, store)
    gone = [
        entry.name
        for entry in before.cells
        if entry.cell_id not in now and any(store.has_run(entry.cell_id, s) for s in before.seeds)
    ]
    parts = []
    if gone:
        more = f"; and {len(gone) - _MOST_NAMES} more" if len(gone) > _MOST_NAMES else ""
        names = "; ".join(gone[:_MOST_NAMES]) + more
        count = f"{len(gone)} cell{'s' if len(gone) > 1 else ''}"
        parts.append(f"the runs of {count} as the suite was before ({names})")
    if lacking := [seed for seed in before.seeds if seed not in seeds]:
        shown = ", ".join(map(str, lacking))
        parts.append(
            f"seed{'s' if len(lacking) > 1 else ''} {shown}, which the suite does not name"
        )
    if not parts:
        return ""
    return f"no longer in the report of {before.report_name}: {' and '.join(parts)}; they are kept"


def report_names(path: Path) -> list[str]:
    """Return the names that the reports of a suite's file, or of a sweep's, have.

    Raises:
        InputError: It cannot be read, or is neither.
    """
    content = read_mapping(path, "suite, question, ...")
    if "sweep" in content:
        return [str(content["sweep"]), f"{content['sweep']}{CONFIRMED}"]
    if "suite" in content:
        return [str(content["suite"])]
    raise InputError(path, "suite", "missing")


def check_name(file: Path, names: Iterable[str], store: Store) -> str:
    """Refuse a file whose name for its suite another file has in this runs folder.

    The file may have been edited since, or moved.

    Args:
        file: The suite's file, or a sweep's.
        names: The names that its reports have.
        store: The runs folder.

    Returns:
        What is to be said of a file that lay elsewhere; empty where nothing is.

    Raises:
        InputError: The other file is still there and of that name, with another content.
    """
    said = ""
    for before in (before for name in names for before in store.manifests(name)):
        if not before.path and before.file == file.name:
            continue  # an older manifest says no more
        if before.path == str(file.resolve()) or before.digest == file_sha256(file):
            continue
        if before.path and not _is_named(Path(before.path), before.suite):
            gone = f"was run from {before.path}, where it is no longer"
            said = f"{before.suite}: {gone}; {file} takes its place"
            continue
        problem = f"{before.suite!r} is what {before.path or before.file} is called here, too"
        kept = store.manifest_path(before.suite, before.profile)
        fix = f"rename one of them, give another --runs-dir, or delete {kept} to forget the other"
        raise InputError(file, "suite", problem, fix)
    return said


def _is_named(path: Path, name: str) -> bool:
    """Say whether a file is there that gives its reports this name."""
    if not path.is_file():
        return False
    try:
        return name in report_names(path)
    except InputError:
        return True  # whatever is wrong with it now
