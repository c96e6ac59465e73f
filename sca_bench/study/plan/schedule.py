"""How the runs that are left are spread over processes: what `run` does, and `plan` predicts."""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.study.plan.plan import Group, Job, Plan
from sca_bench.study.runs.store import Store, checkpoint_step, is_trained


@dataclass(frozen=True)
class Machine:
    """What runs can use.

    Attributes:
        device: Resolved device name.
        cores: CPU cores.
        gpus: GPUs that processes are spread over; 0 on a CPU.
    """

    device: str
    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class Schedule:
    """Groups in the order in which they start, and the processes they start in.

    Attributes:
        groups: The groups.
        limit: Processes at a time.
        threads: CPU threads of a process that runs a group.
        prepare_threads: CPU threads of a process that prepares. On a CPU one, unless
            `runtime.threads` says otherwise, and however many workers there are: with another
            number, kept features would differ in their last digits from run to run.
    """

    groups: tuple[Group, ...]
    limit: int
    threads: int
    prepare_threads: int = 1

    def shares(self, num_preparations: int) -> int:
        """Return how many processes share the images of each of several preparations."""
        return max(1, self.limit // max(1, num_preparations))


def make_schedule(plan: Plan, store: Store, machine: Machine) -> Schedule:
    """Spread what is left of a plan over a machine.

    On a CPU there are as many workers as cores, one thread each, where the groups can be divided
    so far (see `Plan.groups`). Fewer groups get more threads where they compute frozen features as
    they come; what is small enough to be kept whole is too small to gain by a second thread, and
    so has the same last digits whatever runs beside it.
    """
    runtime = plan.left[0].cell.settings.runtime
    limit = runtime.jobs or machine.gpus or machine.cores
    groups = plan.groups(limit, one_processor=machine.gpus == 0)
    parts = tuple(part for group in groups for part in _by_start(group, store))
    is_small = machine.gpus == 0 and all(group.is_cached for group in parts)
    share = 1 if is_small else max(1, machine.cores // min(limit, len(parts)))
    threads = runtime.threads or share
    return Schedule(parts, limit, threads, threads if machine.gpus else runtime.threads or 1)


def _by_start(group: Group, store: Store) -> list[Group]:
    """Split a group by how far its members are: a checkpoint's step, or trained."""
    parts: dict[tuple[bool, int], list[Job]] = {}
    for job in group.jobs:
        folder = store.run_dir(job.cell.cell_id, job.seed)
        position = (is_trained(folder), checkpoint_step(folder))
        parts.setdefault(position, []).append(job)
    return [Group(group.key, group.seed, tuple(jobs)) for jobs in parts.values()]
