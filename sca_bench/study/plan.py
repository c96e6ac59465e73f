"""From a suite to the work that is left: every (cell, seed) is done, to run, or blocked."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sca_bench.errors import InputError
from sca_bench.study.cell import Cell, cell_key, prefix_key
from sca_bench.study.fingerprint import Fingerprints
from sca_bench.study.record import CellEntry, SuiteManifest
from sca_bench.study.store import TRAIN_PREDICTIONS, Store
from sca_bench.study.suite import Suite
from sca_bench.variants import get_variant


@dataclass(frozen=True)
class Job:
    """One run that a suite asks for."""

    cell: Cell
    seed: int
    state: Literal["done", "to run"]

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f"{self.cell.name} seed {self.seed}"


@dataclass(frozen=True)
class Group:
    """Runs that share their frozen prefix, their data order and their seed."""

    key: str
    seed: int
    jobs: tuple[Job, ...]

    @property
    def weight(self) -> float:
        """Relative cost, for the order in which groups start (longest first)."""
        return sum(
            j.cell.settings.train.steps * (1 + j.cell.settings.mixer.num_layers) for j in self.jobs
        )


@dataclass(frozen=True)
class Plan:
    """A suite with keys and states."""

    suite: Suite
    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]

    @property
    def left(self) -> list[Job]:
        """The runs that are not done."""
        return [job for job in self.jobs if job.state == "to run"]

    def groups(self, workers: int) -> list[Group]:
        """Group the runs that are left; a group is split only where workers would be idle.

        Args:
            workers: Number of processes that can run at the same time.
        """
        shared: dict[tuple[str, int], list[Job]] = {}
        for job in self.left:
            key = prefix_key(job.cell.settings, job.cell.inputs)
            shared.setdefault((key, job.seed), []).append(job)
        groups = [Group(k, seed, tuple(jobs)) for (k, seed), jobs in shared.items()]
        while groups and len(groups) < workers:
            big = max(groups, key=lambda group: len(group.jobs))
            if len(big.jobs) < 2:
                break
            groups.remove(big)
            groups += _halve(big)
        return sorted(groups, key=lambda g: -g.weight)


def _halve(group: Group) -> list[Group]:
    """Split a group into two of similar weight."""
    halves: list[list[Job]] = [[], []]
    loads = [0.0, 0.0]
    for job in sorted(group.jobs, key=lambda j: -j.cell.settings.mixer.num_layers):
        side = loads.index(min(loads))
        halves[side].append(job)
        loads[side] += 1 + job.cell.settings.mixer.num_layers
    return [Group(group.key, group.seed, tuple(half)) for half in halves]


def make_plan(suite: Suite, store: Store, *, only: str | None = None) -> Plan:
    """Give every cell its key and look up what is done.

    Args:
        suite: A resolved suite.
        store: The runs folder.
        only: Shell pattern over cell names; other cells are left out.

    Raises:
        InputError: A file is missing, or `only` matches nothing.
    """
    prints = Fingerprints(store.root / "fingerprints.json")
    cells: list[Cell] = []
    for item in suite.cells:
        if only not in (None, item.name) and not fnmatch.fnmatchcase(item.name, str(only)):
            continue
        inputs = prints.inputs(item.settings, suite.file)
        cells.append(
            Cell(
                name=item.name,
                coordinates=item.coordinates,
                settings=item.settings,
                inputs=inputs,
                cell_id=cell_key(item.settings, inputs),
                revision=get_variant(item.settings.variant).revision,
                control=item.control,
                adjusted=item.adjusted,
            )
        )
    if not cells:
        names = ", ".join(cell.name for cell in suite.cells)
        raise InputError("--only", str(only), "matches no cell", f"cells: {names}")
    jobs: list[Job] = []
    seen: set[tuple[str, int]] = set()
    for cell in cells:
        for seed in suite.seeds:
            if (cell.cell_id, seed) in seen:
                continue
            seen.add((cell.cell_id, seed))
            done = _is_done(store, cell, seed)
            jobs.append(Job(cell, seed, "done" if done else "to run"))
    return Plan(suite, tuple(cells), tuple(jobs))


def _is_done(store: Store, cell: Cell, seed: int) -> bool:
    record = store.record(cell.cell_id, seed)
    if record is None or record.status != "done":
        return False
    captions = store.run_dir(cell.cell_id, seed) / TRAIN_PREDICTIONS
    return not cell.settings.eval.also_train or captions.exists()


def manifest_of(plan: Plan, command: str, created: str) -> SuiteManifest:
    """Return what `report` needs to know about the suite."""
    suite = plan.suite
    return SuiteManifest(
        suite=suite.spec.suite,
        profile=suite.profile,
        default_profile=suite.spec.profile,
        file=Path(suite.file).name,
        question=suite.spec.question,
        header=suite.header,
        paper=suite.spec.paper,
        statement=suite.statement,
        axes=suite.axes,
        seeds=list(suite.seeds),
        metrics=list(suite.metrics),
        claims=[claim.model_dump() for claim in suite.claims],
        cells=[
            CellEntry(
                cell_id=cell.cell_id,
                name=cell.name,
                coordinates=cell.coordinates,
                variant=cell.settings.variant,
                control=cell.control,
                adjusted=cell.adjusted or {},
                published_row=suite.published.cells.get(cell.name, ""),
            )
            for cell in plan.cells
        ],
        published_claims=suite.published.claims,
        overrides=list(suite.overrides),
        command=command,
        created=created,
    )
