"""What the parent hands to a worker process, and what it gets back; plain JSON in files."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.plan import Group
from sca_bench.study.schedule import Machine
from sca_bench.study.store import write_atomic
from sca_bench.study.suite import Suite

"""Captions of the training split, where they were asked for."""
LEARNT_FROM = "learnt_from"
"""Key of a row of the training captions: what its region was trained on, where not its own."""


@dataclass(frozen=True)
class CellJob:
    """One run inside a group job.

    Attributes:
        training_id: Key of its trained weights; empty where nothing is trained.
        starts_from: Training of the stage before its own; empty without pretraining.
        stage: Name, for a pretraining stage, which is never evaluated.
        reuses: Its weights were trained by another run and are taken from there.
    """

    cell_id: str
    name: str
    seed: int
    revision: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    training_id: str = ""
    starts_from: str = ""
    stage: str = ""
    reuses: bool = False

    def parsed(self) -> CellSettings:
        """Return the settings as settings."""
        return CellSettings.model_validate(self.settings)


@dataclass(frozen=True)
class GroupJob:
    """The work of one worker process.

    Attributes:
        runs_dir: The runs folder.
        cells: Runs that share frozen prefix, data order and seed; stages are among themselves.
        where: Suite file, for messages.
        attempt: Unique name of this attempt.
        threads: CPU threads of the worker.
        device: Resolved device name.
        command: The command line, for the record.
        splits: Splits whose frozen features are read.
    """

    runs_dir: str
    cells: list[CellJob]
    where: str
    attempt: str
    threads: int
    device: str
    command: str
    splits: tuple[str, ...] = ("train", "val", "test")

    @property
    def is_stage(self) -> bool:
        """Whether these are pretraining stages: trained, never evaluated."""
        return bool(self.cells[0].stage)

    def save(self, path: Path) -> None:
        """Write the job for the worker to read."""
        write_atomic(path, json.dumps(asdict(self)))

    @staticmethod
    def load(path: Path) -> GroupJob:
        """Read a job."""
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"] = [CellJob(**cell) for cell in content["cells"]]
        return GroupJob(**content)


@dataclass
class Outcome:
    """How a worker ended.

    Attributes:
        input_error: `where, key, problem, fix` of an `InputError`, if the input was wrong.
        failed: Cell id -> reason.
        messages: Lines for the user.
    """

    input_error: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

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
    group: Group, *, runs_dir: Path, suite: Suite, threads: int, device: str, command: str
) -> GroupJob:
    """Return the work of the process that runs a group.

    Args:
        group: The runs.
        runs_dir: The runs folder.
        suite: Where they come from.
        threads: CPU threads of the process.
        device: Resolved device name.
        command: The command line, for the records.
    """
    return GroupJob(
        runs_dir=str(runs_dir.resolve()),
        cells=[
            CellJob(
                cell_id=job.cell.cell_id,
                name=job.cell.name,
                seed=job.seed,
                revision=job.cell.revision,
                settings=job.cell.settings.model_dump(mode="json"),
                inputs=job.cell.inputs,
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
    )


def this_machine(device: str) -> Machine:
    """Return what runs on a device can use here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(device, cores or 1, num_gpus(device))


def resolve_device(wanted: str) -> str:
    """Return the device to use for `runtime.device`.

    Raises:
        InputError: CUDA was asked for and is not there, or the name is not a device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    kind, _, index = wanted.partition(":")
    if kind != "cuda" or not (index.isdigit() or wanted == "cuda"):
        fix = "use auto, cpu, cuda or cuda:N"
        raise InputError("settings", "runtime.device", f"{wanted!r} is no device", fix)
    if int(index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        fix = "use runtime.device: cpu or auto"
        problem = f"{wanted!r}: this machine has {count} CUDA devices"
        raise InputError("settings", "runtime.device", problem, fix)
    return wanted


def num_gpus(device: str) -> int:
    """Return how many GPUs jobs on this device may be spread over; 0 on a CPU."""
    if not device.startswith("cuda"):
        return 0
    return torch.cuda.device_count() if device == "cuda" else 1
