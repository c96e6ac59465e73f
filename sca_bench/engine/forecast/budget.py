"""A budget of wall time: what does not fit is not started. No torch."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sca_bench.engine.forecast.costs import PlanCosts
from sca_bench.engine.forecast.wall_time import RunKey, forecast_time, runs_of
from sca_bench.errors import InputError
from sca_bench.output import in_words
from sca_bench.study.plan.plan import Group, Training
from sca_bench.study.plan.schedule import Schedule
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.trained_index import TrainedIndex

_FORM = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> float:
    """Return the seconds of a budget: `90m`, `2h`, `1h30m` or `45s`.

    Raises:
        InputError: It is none of those.
    """
    match = _FORM.fullmatch(text.replace(" ", ""))
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600.0 * hours + 60.0 * minutes + seconds
    if not total:
        raise InputError("--budget", text, "is no duration", "write 45s, 90m, 2h or 1h30m")
    return total


@dataclass
class Budget:
    """What is left of a budget, and which groups it is enough for.

    Attributes:
        until: Time (monotonic) at which it is used up.
        schedule: The groups, as the run spreads them.
        store: The runs folder.
        costs: What was measured of them.
        postponed: Name of a run that was not started -> why.
    """

    until: float
    schedule: Schedule
    store: Store
    costs: PlanCosts
    postponed: dict[str, str] = field(default_factory=dict)
    _seconds: dict[RunKey, float] = field(default_factory=dict)
    _scoring_s: float = 0.0
    _lost: set[Training] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Predict every group.

        Raises:
            InputError: The time of a group is not known.
        """
        forecast = forecast_time(self.schedule, self.store, self.costs)
        if forecast is None or self.costs.overheads is None:
            why = "; ".join(self.costs.notes) or "a group could not be measured"
            raise InputError("--budget", "", f"the time of this suite is not known: {why}")
        over = self.costs.overheads
        self._seconds = dict(forecast.groups)
        self._start_s, self._scoring_s = over.start_s, forecast.rest_s - over.start_s

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    def choose(self) -> list[Group]:
        """Return the groups that fit, with their preparations, and postpone the others.

        The longest come first, as they would start; a shorter one may fit where a longer does not.
        """
        chosen: list[Group] = []
        index = TrainedIndex(self.store)
        given: set[Training] = set()
        for group in _givers_first(self.schedule.groups):
            if any(t not in given and index.find(*t) is None for t in group.waits_for):
                self._postpone(group, "what it starts from was not started")
                continue
            tried = replace(self.schedule, groups=(*chosen, group))
            forecast = forecast_time(tried, self.store, self.costs)
            if forecast is None or forecast.total_s - self._start_s > self.left_s:
                self._too_long(group)
                continue
            chosen.append(group)
            given |= {job.gives for job in group.jobs if job.gives is not None}
        return chosen

    def affords(self, group: Group) -> bool:
        """Say whether a group that could start now fits; postpone it otherwise."""
        seconds = self._seconds.get(runs_of(group), 0.0)
        if group.waits_for & self._lost:
            self._postpone(group, "what it starts from was not started")
        elif seconds + self._scoring_s > self.left_s:
            self._too_long(group)
        else:
            return True
        return False

    def _too_long(self, group: Group) -> None:
        seconds = self._seconds.get(runs_of(group), 0.0)
        self._postpone(
            group,
            f"its group takes about {in_words(seconds)}, with what else is to be done too much for "
            f"the {in_words(max(0.0, self.left_s))} that are left",
        )

    def _postpone(self, group: Group, reason: str) -> None:
        for job in group.jobs:
            self.postponed[job.name] = reason
            if job.gives is not None:
                self._lost.add(job.gives)

    def still_coming(self, groups: Iterable[Group]) -> list[Group]:
        """Return the groups that do not wait for a postponed one, and postpone the others."""
        left = list(groups)
        while late := [group for group in left if group.waits_for & self._lost]:
            for group in late:
                self._postpone(group, "what it starts from was not started")
            left = [group for group in left if group not in late]
        return left


def _givers_first(groups: Iterable[Group]) -> list[Group]:
    """Order groups so that none comes before one whose trainings it starts from."""
    waiting, ordered = list(groups), list[Group]()
    while waiting:
        coming = {job.gives for group in waiting for job in group.jobs}
        ready = [group for group in waiting if not group.waits_for & coming]
        ordered += ready or waiting  # a group may wait for one of its own: that is not ours to say
        waiting = [group for group in waiting if group not in ordered]
    return ordered
