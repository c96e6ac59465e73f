"""The record of a run: what it was, what it cost, where it came from."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sca_bench.data.region_set import RegionSet
from sca_bench.devices.gpu import peak_memory_bytes
from sca_bench.engine.job import CellJob, GroupJob
from sca_bench.engine.provenance import git_commit, machine, package_versions
from sca_bench.engine.thumbnails import images_folder
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.mmengine_runner import fuses
from sca_bench.study.keys.cell import RunSplit
from sca_bench.study.keys.fingerprint import INPUTS_REVISION
from sca_bench.study.runs.record import RunRecord


def new_record(
    job: GroupJob,
    cell: CellJob,
    sets: Mapping[RunSplit, RegionSet],
    started: str,
    start: int,
    lineage: list[dict[str, Any]],
    frozen_threads: Sequence[int] = (),
    *,
    eval_regions: int,
    stacked_with: Sequence[str] | None = None,
) -> RunRecord:
    """Return the record of a run that begins.

    Args:
        job: The group attempt.
        cell: The run.
        sets: The splits it reads.
        started: Time of the beginning.
        start: Step it resumes from.
        lineage: The trainings it started from.
        frozen_threads: CPU threads that its frozen features were computed with, as far as known.
        eval_regions: Regions that it captions at a time.
        stacked_with: Keys of the runs that are stepped with it as one; None where `train.stacked`
            is not set.
    """
    device = torch.device(job.device)
    ran_on = {**machine(device, job.threads, frozen_threads), "eval_regions": eval_regions}
    if cell.identity.spec.trains == "gradient" and cell.settings.train.steps:
        ran_on["fused_adamw"] = fuses(device)
    if stacked_with is not None:
        ran_on["stacked"] = 1 + len(stacked_with)
    read = {cell.identity.data_split(name): region_set for name, region_set in sets.items()}
    return RunRecord(
        cell_id=cell.cell_id,
        seed=cell.seed,
        status="running",
        settings=cell.settings.model_dump(mode="json"),
        inputs=cell.identity.inputs,
        variant=cell.settings.variant,
        revision=cell.identity.revisions.variant,
        revisions={**cell.identity.revisions.beside_variant, "inputs": INPUTS_REVISION},
        stage=cell.stage,
        lineage=lineage,
        images_dir=images_folder(Path(), sets["captioned"], cell.identity).as_posix(),
        provenance={
            "command": job.command,
            "attempt": job.attempt,
            "started": started,
            "resumed_at_step": start,
            **({} if stacked_with is None else {"stacked_with": sorted(stacked_with)}),
            "git_commit": git_commit(),
            "versions": package_versions(),
            "machine": ran_on,
            "splits": {name: region_set.summary() for name, region_set in read.items()},
            "split_digests": {name: region_set.digest() for name, region_set in read.items()},
        },
    )


def cost_of(
    group: CellGroup,
    member: Member,
    timings: Mapping[str, float],
    num_captions: int,
    prepared_s: float = 0.0,
) -> dict[str, float]:
    """Return the cost ledger of one member; the unit is each name's suffix.

    `train_s`, `step_s` and `cpu_s` are the member's own part of its training steps. `shared_s` is
    wall time of what its group does once for all members: frozen features, computed or read, in
    training, validation and captioning, and `prepared_s`, which this command took before the group
    started to keep features for its cells (for those of other groups, too, where they share them).
    A resumed run counts its last attempt, except in `cpu_s`.

    Args:
        group: The group, whose memory peak all members share.
        member: The run.
        timings: Wall seconds of the group's phases.
        num_captions: Captions that one member made after its training.
        prepared_s: Wall seconds of keeping features before the group started.
    """
    cost: dict[str, float] = {k: round(v, 3) for k, v in timings.items()}
    cost["train_s"] = round(member.clock.total_s, 3)
    cost["step_s"] = round(member.clock.median_s(), 6)
    cost["cpu_s"] = round(member.cpu_s, 3)
    cost["prepared_s"] = round(prepared_s, 3)
    cost["shared_s"] = round(prepared_s + group.shared_clock.total_s, 3)
    cost["num_cells_in_group"] = len(group.members)
    cost["peak_memory_mib"] = round(_peak_memory_mib(group.device_), 1)
    if timings.get("generate_s"):
        captions = num_captions * max(1, len(group.alive))
        cost["captions_per_s"] = round(captions / timings["generate_s"], 3)
    captioner = member.captioner
    parameters = list(captioner.parameters()) if isinstance(captioner, nn.Module) else []
    cost["num_total_params"] = sum(p.numel() for p in parameters)
    cost["num_trainable_params"] = sum(p.numel() for p in parameters if p.requires_grad)
    return cost


def _peak_memory_mib(device: torch.device) -> float:
    if (on_gpu := peak_memory_bytes(device)) is not None:
        return on_gpu / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
