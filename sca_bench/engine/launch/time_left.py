"""How long a run will still take, from the pace of its steps and what is said of each group's cost.

Costs are those of `sca_bench.study.plan.plan`: relative, so a second a unit is what is measured.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sca_bench.study.plan.plan import START_COST, Group


@dataclass(frozen=True)
class Running:
    """A group whose process is at work.

    Attributes:
        group: The group.
        elapsed_s: Since its process was started.
        step: The last step that is known.
        steps: Steps it makes in all.
        step_s: Seconds a step takes, all its runs together; None while it is too early to tell.
    """

    group: Group
    elapsed_s: float
    step: int = 0
    steps: int = 1
    step_s: float | None = None

    @property
    def unit_s(self) -> float | None:
        """Seconds a unit of cost takes; None while it is too early to tell."""
        return None if self.step_s is None else self.step_s / max(self.group.step_cost, 1e-9)

    def left_s(self, unit_s: float) -> float:
        """Return the seconds until its process ends.

        Args:
            unit_s: What a unit of cost takes elsewhere.
        """
        own_s = self.unit_s
        if own_s is None or self.step_s is None:
            return max(0.0, self.group.cost * unit_s - self.elapsed_s)
        after = self.group.cost - self.group.step_cost * self.group.steps - START_COST
        return self.step_s * (self.steps - self.step) + own_s * after


def pace(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds of a step by a run's log, from the first step of its process on.

    None where the log has no two steps of it yet.
    """
    seen: list[tuple[int, float]] = []
    for row in rows:
        if "elapsed_s" in row:
            if seen and float(row["elapsed_s"]) < seen[-1][1]:
                seen.clear()  # of a process before
            seen.append((int(row["step"]), float(row["elapsed_s"])))
    if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
        return None
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


def seconds_left(
    running: Sequence[Running],
    waiting: Sequence[Group],
    ended: Sequence[tuple[Group, float]],
    workers: int,
) -> float | None:
    """Return the seconds until the last group ends; None while it is too early to tell.

    Args:
        running: The groups at work.
        waiting: Those that have not begun; the longest first.
        ended: Those that have ended, with the seconds they took.
        workers: How many run at a time.
    """
    units = [one.unit_s for one in running if one.unit_s is not None]
    units += [took_s / group.cost for group, took_s in ended if took_s > 0]
    if not units:
        return None
    unit_s = statistics.fmean(units)
    ends = [one.left_s(unit_s) for one in running]
    ends += [0.0] * (workers - len(ends))
    heapq.heapify(ends)
    for group in waiting:
        heapq.heapreplace(ends, ends[0] + unit_s * group.cost)
    return max(ends, default=0.0)
