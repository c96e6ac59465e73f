"""What the parent hands to a worker process, and what it gets back; plain JSON in files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import SPLITS, CellIdentity, RunSplit
from sca_bench.study.plan.plan import Group
from sca_bench.study.suite.suite import Suite


def run_key(cell_id: str, seed: int) -> str:
    """Return what a run is called inside its group, and in outcomes."""
    return f"{cell_id}-s{seed}"


@dataclass(frozen=True)
class CellJob:
    """One run inside a group job.

    Attributes:
        cell_id: What its folder is called.
        identity: Its settings and inputs.
        training_id: Key of its trained weights; empty where nothing is trained.
        starts_from: Training of the stage before its own; empty without pretraining.
        stage: Name, for a pretraining stage, which is never evaluated.
        reuses: Its weights were trained by another run and are taken from there.
    """

    cell_id: str
    name: str
    seed: int
    identity: CellIdentity
    training_id: str = ""
    starts_from: str = ""
    stage: str = ""
    reuses: bool = False

    @property
    def key(self) -> str:
        """What tells it from all other runs: seeds of one cell may stand in one group."""
        return run_key(self.cell_id, self.seed)

    @property
    def settings(self) -> CellSettings:
        """Its settings."""
        return self.identity.settings

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "identity"}
        settings = self.settings.model_dump(mode="json")
        return {**plain, "settings": settings, "inputs": self.identity.inputs}

    @staticmethod
    def from_json(content: dict[str, Any]) -> CellJob:
        """Return what `to_json` gave as a job again; the settings are parsed here, once."""
        plain = dict(content)
        identity = CellIdentity.stored(plain.pop("settings"), plain.pop("inputs"))
        return CellJob(identity=identity, **plain)


@dataclass(frozen=True)
class GroupJob:
    """The work of one worker process.

    Attributes:
        runs_dir: The runs folder.
        cells: Runs that share frozen prefix and data order; stages are among themselves.
        where: Suite file, for messages.
        attempt: Unique name of this attempt.
        threads: CPU threads of the worker.
        device: Resolved device name.
        command: The command line, for the record.
        splits: Splits whose frozen features are read.
        since: When the command began, in seconds since the epoch; the cache deletes nothing to make
            room that was used later.
        asks_pruner: Whether the parent says after each validation which cells go on.
        frozen_threads: CPU threads of frozen computations, which decide their last digits; 0 leaves
            them at `threads`.
        part: Number and count, where several processes prepare the same cells, each some images.
        prepared_s: Wall seconds that this command took before to keep what the cells read.
    """

    runs_dir: str
    cells: list[CellJob]
    where: str
    attempt: str
    threads: int
    device: str
    command: str
    splits: tuple[RunSplit, ...] = SPLITS
    since: float = 0.0
    asks_pruner: bool = False
    frozen_threads: int = 0
    part: tuple[int, int] = (0, 1)
    prepared_s: float = 0.0

    @property
    def order_seed(self) -> int:
        """Seed of the data order, which all its runs share."""
        return self.cells[0].settings.train.order(self.cells[0].seed)

    @property
    def is_stage(self) -> bool:
        """Whether these are pretraining stages: trained, never evaluated."""
        return bool(self.cells[0].stage)

    def save(self, path: Path) -> None:
        """Write the job for the worker to read."""
        cells = [cell.to_json() for cell in self.cells]
        write_atomic(path, json.dumps({**vars(self), "cells": cells}))

    @staticmethod
    def load(path: Path) -> GroupJob:
        """Read a job."""
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"] = [CellJob.from_json(cell) for cell in content["cells"]]
        content["splits"], content["part"] = tuple(content["splits"]), tuple(content["part"])
        return GroupJob(**content)


@dataclass
class Outcome:
    """How a worker ended.

    Attributes:
        input_error: `where, key, problem, fix` of an `InputError`, if the input was wrong.
        failed: Run key -> reason.
        pruned: Run key -> why it was stopped early.
        messages: Lines for the user.
        counters: What was computed: `train_steps`, `encoder_forwards`, `sam_mixer_forwards`.
        filled: Split -> what filling the cache for it took: `images` (of which something was kept),
            `encoded` (of them), `seconds`, `bytes`.
    """

    input_error: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pruned: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    filled: dict[str, dict[str, float]] = field(default_factory=dict)

    def count(self, counters: Mapping[str, int]) -> None:
        """Add to the counters."""
        for name, value in counters.items():
            self.counters[name] = self.counters.get(name, 0) + value

    def note_filled(self, split: str, took: Mapping[str, float]) -> None:
        """Add what filling the cache for a split took."""
        known = self.filled.setdefault(split, dict.fromkeys(took, 0.0))
        for name, value in took.items():
            known[name] += value

    def save(self, path: Path) -> None:
        """Write the outcome for the parent to read."""
        write_atomic(path, json.dumps(asdict(self)))

    @staticmethod
    def load(path: Path) -> Outcome:
        """Read an outcome."""
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))

    def raise_input_error(self) -> None:
        """Raise the worker's `InputError` in this process, if there was one."""
        if self.input_error:
            raise InputError(*self.input_error)


def new_attempt(name: str) -> str:
    """Return a name that no other attempt has, not even one of the same second."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{os.urandom(3).hex()}"


def group_job(
    group: Group,
    *,
    runs_dir: Path,
    suite: Suite,
    threads: int,
    device: str,
    command: str,
    since: float = 0.0,
    asks_pruner: bool = False,
    frozen_threads: int = 0,
) -> GroupJob:
    """Return the work of the process that runs a group.

    Args:
        group: The runs.
        runs_dir: The runs folder.
        suite: Where they come from.
        threads: CPU threads of the process.
        device: Resolved device name.
        command: The command line, for the records.
        since: As for `GroupJob`.
        asks_pruner: As for `GroupJob`.
        frozen_threads: As for `GroupJob`.
    """
    return GroupJob(
        runs_dir=str(runs_dir.resolve()),
        cells=[
            CellJob(
                cell_id=job.cell.cell_id,
                name=job.cell.name,
                seed=job.seed,
                identity=job.cell.identity,
                training_id=job.cell.training_id,
                starts_from=job.cell.starts_from,
                stage=job.cell.stage,
                reuses=job.reuses,
            )
            for job in group.jobs
        ],
        splits=tuple(sorted({split for job in group.jobs for split in job.splits})),
        where=str(suite.file),
        attempt=new_attempt(f"{suite.spec.suite}-{group.key}-s{group.seed}"),
        threads=threads,
        device=device,
        command=command,
        since=since,
        asks_pruner=asks_pruner,
        frozen_threads=frozen_threads,
    )
