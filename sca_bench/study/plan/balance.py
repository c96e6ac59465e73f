"""Cutting groups of runs so that all workers end together, by what their members are said to cost.

Pure arithmetic over costs: what a group is, `sca_bench.study.plan.plan` knows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Part = tuple[int, tuple[int, ...]]
"""A part of a group: the number of the group, and the numbers of the members in it."""

_WORTH_IT = 0.02
"""Share of the time of all workers that a cut has to save."""
_MOST_CANDIDATES, _MOST_PIECES = 6, 6
"""What is tried of each cut: so many parts of different cost, in at most so many pieces."""


def makespan(costs: Iterable[float], workers: int) -> float:
    """Return when the last of several tasks ends that start longest first, `workers` at a time."""
    return _loads(costs, workers)[0]


def _loads(costs: Iterable[float], workers: int) -> list[float]:
    """Return how long each worker is busy, the longest first."""
    loads = [0.0] * max(1, workers)
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(loads, loads[0] + cost)
    return sorted(loads, reverse=True)


def balanced(
    groups: Sequence[Sequence[float]],
    workers: int,
    *,
    shared: Sequence[float] | None = None,
    may_cut: Sequence[bool] | None = None,
) -> list[Part]:
    """Cut groups where workers would be idle otherwise; the parts come longest first.

    Workers are idle where there are fewer groups than workers, and where the last groups leave
    some with nothing to do. Nothing else is cut, since every part pays for what its members share.

    Args:
        groups: Cost of each member of each group.
        workers: How many parts run side by side.
        shared: What each group costs beside its members, in every part again; nothing where None.
        may_cut: Whether each group may be cut; all where None.

    Returns:
        Every member of every group, once.
    """
    cutter = _Cutter(groups, shared or [0.0] * len(groups), may_cut or [True] * len(groups))
    parts: list[Part] = [(number, tuple(range(len(own)))) for number, own in enumerate(groups)]
    while len(parts) < workers:
        wide = [part for part in parts if cutter.can(part)]
        if not wide:
            break
        parts = cutter.cut(parts, max(wide, key=cutter.cost), 2)
    best, tried = parts, cutter.better(parts, workers)
    for _ in range(2 * workers):
        if tried is None:
            break
        if cutter.makespan(tried, workers) <= (1 - _WORTH_IT) * cutter.makespan(best, workers):
            best = tried
        tried = cutter.better(tried, workers)
    return sorted(best, key=lambda part: -cutter.cost(part))


@dataclass(frozen=True)
class _Cutter:
    groups: Sequence[Sequence[float]]
    shared: Sequence[float]
    may_cut: Sequence[bool]

    def cost(self, part: Part) -> float:
        number, members = part
        return self.shared[number] + sum(self.groups[number][member] for member in members)

    def makespan(self, parts: Iterable[Part], workers: int) -> float:
        return makespan(map(self.cost, parts), workers)

    def can(self, part: Part) -> bool:
        return self.may_cut[part[0]] and len(part[1]) > 1

    def better(self, parts: list[Part], workers: int) -> list[Part] | None:
        """Return the parts with one more cut, the best one; None where none helps.

        A cut that only relieves one of the busiest workers helps, since another one may follow.
        """
        loads = _loads(map(self.cost, parts), workers)
        if loads[0] <= (1 + _WORTH_IT) * sum(loads) / len(loads):
            return None
        found: list[Part] | None = None
        wide = {self.cost(part): part for part in parts if self.can(part)}  # the last of equals
        for _, part in sorted(wide.items(), reverse=True)[:_MOST_CANDIDATES]:
            for count in range(2, min(workers, len(part[1]), _MOST_PIECES) + 1):
                cut = self.cut(parts, part, count)
                new = _loads(map(self.cost, cut), workers)
                if new < loads:
                    found, loads = cut, new
        return found

    def cut(self, parts: Sequence[Part], part: Part, count: int) -> list[Part]:
        """Return the parts with one of them in several pieces of similar cost."""
        number, members = part
        pieces: list[list[int]] = [[] for _ in range(count)]
        loads = [0.0] * count
        for member in sorted(members, key=lambda m: -self.groups[number][m]):
            side = min(range(count), key=lambda n: (loads[n], len(pieces[n])))
            pieces[side].append(member)
            loads[side] += self.groups[number][member]
        position = list(parts).index(part)
        cut = [(number, tuple(piece)) for piece in pieces if piece]
        return [*parts[:position], *cut, *parts[position + 1 :]]
