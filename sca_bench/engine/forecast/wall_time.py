"""From figures to a forecast: how long a run will take, and each of its groups. No torch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sca_bench.engine.forecast.costs import GroupProbe, PlanCosts
from sca_bench.engine.forecast.forward_counts import Bank, Sizes, banks, num_validations, shape_key
from sca_bench.engine.thumbnails import MAX_IMAGES
from sca_bench.study.keys.cell import RunSplit
from sca_bench.study.plan.plan import Group
from sca_bench.study.plan.preparations import preparations
from sca_bench.study.plan.schedule import Schedule
from sca_bench.study.runs.store import Store, checkpoint_step, is_trained

RunKey = frozenset[tuple[str, int]]
"""What a group is known by: its runs."""


@dataclass(frozen=True)
class TimeForecast:
    """What a run will take, in seconds of wall time.

    Attributes:
        groups: A group's runs -> from the start of its process to its end.
        prepare_s: All preparations.
        run_s: All groups, side by side.
        rest_s: Starting, scoring and the MLflow mirror.
        memory_mib: Peak memory of all workers that run at one time, at most.
        cache_bytes: What the features that will be kept take on disk.
        cpu_share: Share of the cores that the probe runs got, on average.
    """

    groups: Mapping[RunKey, float]
    prepare_s: float
    run_s: float
    rest_s: float
    memory_mib: float
    cache_bytes: float
    cpu_share: float = 1.0

    @property
    def total_s(self) -> float:
        """From the prompt until the prompt is back."""
        return self.prepare_s + self.run_s + self.rest_s


def runs_of(group: Group) -> RunKey:
    """Return what a group is known by."""
    return frozenset((job.cell.cell_id, job.seed) for job in group.jobs)


def forecast_time(
    schedule: Schedule, store: Store, costs: PlanCosts, *, mirror: bool = True
) -> TimeForecast | None:
    """Predict what a run of a schedule takes; None where a group of it was not measured.

    Args:
        schedule: The groups and their workers.
        store: The runs folder, which knows what is trained or kept already.
        costs: What was measured.
        mirror: Whether the runs are mirrored to MLflow.
    """
    probes = {shape_key(g, schedule.threads): g for g in schedule.groups}
    if costs.overheads is None or probes.keys() - costs.probes.keys():
        return None
    sizes, over = Sizes(costs.sizes), costs.overheads
    of = {runs_of(g): costs.probes[shape_key(g, schedule.threads)] for g in schedule.groups}
    groups = {runs_of(g): group_s(g, of[runs_of(g)], store, sizes) for g in schedule.groups}
    prepare_s = _prepare_s(schedule, store, sizes, of)
    run_s = _side_by_side(schedule, groups)
    num_runs = sum(not job.cell.stage for group in schedule.groups for job in group.jobs)
    scored_s = over.score_s + over.score_more_s * max(0, num_runs - 1)
    mirrored_s = 0.0
    if mirror:
        # While runs are under way it takes its share of the cores; scores follow at the end.
        beside_s = (over.mirror_s + over.mirror_more_s * num_runs) / costs.cores
        mirrored_s = beside_s + over.mirror_more_s * num_runs
    peaks = sorted((probe.memory_mib for probe in of.values()), reverse=True)
    return TimeForecast(
        groups,
        prepare_s + over.pool_s,
        run_s,
        over.start_s + scored_s + mirrored_s,
        sum(peaks[: schedule.limit]),
        _cache_bytes(schedule, store, sizes, of),
        sum(probe.cpu_share for probe in of.values()) / len(of),
    )


def group_s(group: Group, probe: GroupProbe, store: Store, sizes: Sizes) -> float:
    """Return the seconds from the start of a group's process to its end."""
    lead = group.jobs[0]
    settings, seconds = lead.cell.settings, probe.load_s + probe.run_s
    folder = store.run_dir(lead.cell.cell_id, lead.seed)
    begun = checkpoint_step(folder)
    if lead.steps and not is_trained(folder):
        steps = lead.steps - begun
        saves = (steps - 1) // settings.runtime.checkpoint_every
        seconds += steps * probe.step_s + saves * probe.save_s
        if val := sizes.of(lead.cell, "val"):
            seconds += num_validations(settings, begun) * val.images * probe.val_s
    if lead.cell.stage:
        return seconds
    captioned: list[RunSplit] = ["captioned"]
    if settings.eval.also_train:
        captioned.append("train")
    for split in captioned:
        if size := sizes.of(lead.cell, split):
            seconds += size.images * probe.caption_s
    return seconds


def _prepare_s(
    schedule: Schedule, store: Store, sizes: Sizes, of: Mapping[RunKey, GroupProbe]
) -> float:
    """Return the time of all preparations, as many at a time as there are workers."""
    by_run = {run: probe for key, probe in of.items() for run in key}
    missing = banks(schedule.groups, store.root)
    seconds: list[float] = []
    whole = preparations(list(schedule.groups))
    for group, splits in whole:
        lead, features = group.jobs[0], 0.0
        probe = by_run[lead.cell.cell_id, lead.seed]
        one = probe.load_s + probe.prepare_s
        if captioned := sizes.of(lead.cell, "captioned"):
            one += min(captioned.images, MAX_IMAGES) * probe.thumbnail_s
        members = {job.cell.cell_id for job in group.jobs}
        for bank in missing:
            if bank.cell.cell_id in members and bank.split in splits:
                features += _views(bank, sizes) * probe.feature_s
        shares = schedule.shares(len(whole)) if features else 1
        seconds += [one + features / shares] * shares
    return _spread(seconds, schedule.limit)


def _cache_bytes(
    schedule: Schedule, store: Store, sizes: Sizes, of: Mapping[RunKey, GroupProbe]
) -> float:
    bytes_of = {cell_id: probe.bytes for key, probe in of.items() for cell_id, _ in key}
    missing = banks(schedule.groups, store.root)
    return sum(_views(bank, sizes) * bytes_of[bank.cell.cell_id] for bank in missing)


def _views(bank: Bank, sizes: Sizes) -> int:
    size = sizes.of(bank.cell, bank.split)
    return size.views if size is not None else 0


def _spread(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of several tasks ends that start in order, `workers` at a time."""
    ends = [0.0] * max(1, workers)
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def _side_by_side(schedule: Schedule, seconds: Mapping[RunKey, float]) -> float:
    """Return when the last group ends; one starts when a worker is free and its start is there."""
    waiting: list[Group] = list(schedule.groups)
    coming = {job.gives: group for group in waiting for job in group.jobs if job.gives is not None}
    running: list[tuple[float, int]] = []
    ended: set[RunKey] = set()
    now, number, order = 0.0, 0, dict[int, Group]()

    def ready(group: Group) -> bool:
        starts = (coming[t] for t in group.waits_for if t in coming)
        return all(runs_of(start) in ended for start in starts)

    while waiting or running:
        while len(running) < schedule.limit and (group := _first(waiting, ready)) is not None:
            waiting.remove(group)
            heapq.heappush(running, (now + seconds[runs_of(group)], number))
            order[number] = group
            number += 1
        if not running:
            break  # what waits for a start that nothing gives
        now, done = heapq.heappop(running)
        ended.add(runs_of(order[done]))
    return now


def _first(waiting: Sequence[Group], ready: Callable[[Group], bool]) -> Group | None:
    return next((group for group in waiting if ready(group)), None)
