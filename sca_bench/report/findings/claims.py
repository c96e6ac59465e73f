"""Claims of a suite: reading them, the observed difference of each, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.report.read.samples import LEVEL, Sample, Samples, unpaired
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.stats.compare import Comparison, compare_means
from sca_bench.stats.verdict import Decision, decide
from sca_bench.study.suite.claims import Comparator, parse_claim
from sca_bench.study.suite.sides import NoSuchCell, Point, averaged_axes, claim_cells, find

MARGIN_SHARE = 0.01
"""Where a claim of `no better than` names no margin: this share of the right side's score."""
ClaimVerdict = Literal["reproduced", "contradicted", "undecided", "not comparable", ""]
"""Empty for a comparison that nobody claimed anything of (`findings.best`)."""
Sides = tuple[tuple[CellRuns, ...], tuple[CellRuns, ...]]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What was observed for one claim.

    Attributes:
        id: The claim's name in the suite.
        says: The claim as the suite states it.
        metric: The metric compared.
        comparator: How the sides stand to each other, as claimed.
        verdict: What the numbers say about it.
        comparison: Difference left minus right; None where there is none.
        decision: p, margin, and what a decision would take; None where there is no comparison.
        hole: Why there is no comparison.
        note: What a reader should know.
        sides: The cells of the left and the right side, of which the means are compared where
            there are several; empty where this profile has none.
        text: The claim in the suite's own words, a clause; empty where it has none.
        averaged: Axes over which both sides are averaged.
    """

    id: str
    says: str
    metric: str
    comparator: Comparator
    verdict: ClaimVerdict
    comparison: Comparison | None = None
    decision: Decision | None = None
    hole: str = ""
    note: str = ""
    sides: Sides = ((), ())
    text: str = ""
    averaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """A claim before it is decided."""

    id: str
    says: str
    metric: str
    comparator: Comparator
    margin: float | None
    family: str
    sides: Sides
    hole: str
    mixed: str
    note: str
    text: str
    averaged: tuple[str, ...]

    @property
    def rest(self) -> tuple[Sides, str, tuple[str, ...]]:
        """What is known of it whatever its numbers say."""
        return self.sides, self.text, self.averaged


def claim_results(data: SuiteData, samples: Samples) -> list[ClaimResult]:
    """Return the observed difference and the verdict of every claim in the suite's manifest.

    A claim on cells that this profile does not have, or without numbers, stays in the list as
    undecided, with the reason; one whose sides have different signatures is not comparable. Both
    stay in their family, too, where they count with a p of one.

    Raises:
        InputError: A claim cannot be read, or a file is damaged.
    """
    claims = [_read(data, number, raw) for number, raw in enumerate(data.manifest.claims, 1)]
    compared: list[tuple[Comparison, float, str] | str] = []
    for claim in claims:
        compared.append(claim.hole or claim.mixed or _compare(claim, samples))
    decisions = decide(
        [None if isinstance(one, str) else one[0] for one in compared],
        [claim.comparator for claim in claims],
        [0.0 if isinstance(one, str) else one[1] for one in compared],
        [claim.family for claim in claims],
    )
    results = []
    for claim, one, decision in zip(claims, compared, decisions, strict=True):
        head = (claim.id, claim.says, claim.metric, claim.comparator)
        if isinstance(one, str):
            verdict: ClaimVerdict = "not comparable" if claim.mixed else "undecided"
            results.append(ClaimResult(*head, verdict, None, None, one, "", *claim.rest))
            continue
        comparison, _, note = one
        assert decision is not None
        results.append(
            ClaimResult(*head, decision.verdict, comparison, decision, "", note, *claim.rest)
        )
    return results


def _compare(claim: _Read, samples: Samples) -> tuple[Comparison, float, str] | str:
    """Return the comparison with the claim's margin and notes, or why there is none."""
    left, right = (
        [(cell, samples.of(cell, claim.metric)) for cell in side] for side in claim.sides
    )
    problem = _unpaired(left, right)
    if problem:
        return problem
    sides = [[one.resampled for _, one in side if one.resampled] for side in (left, right)]
    comparison = compare_means(sides[0], sides[1], LEVEL)
    margin = claim.margin
    if margin is None:
        score = sum(float(one.scores.mean()) for one in sides[1]) / len(sides[1])
        margin = MARGIN_SHARE * abs(score) if "=" in claim.comparator else 0.0
    notes = dict.fromkeys([claim.note, *(one.note for _, one in (*left, *right))])
    notes[_unlike_seeds(left, right)] = None
    return comparison, margin, "; ".join(filter(None, notes))


_Found = list[tuple[CellRuns, Sample]]


def _unpaired(left: _Found, right: _Found) -> str:
    """Return why the cells cannot be compared region by region; empty where they can."""
    if len(left) == len(right) == 1:
        return unpaired(left[0][1], right[0][1])
    for word, side in (("left", left), ("right", right)):
        for cell, sample in side:
            if sample.hole:
                return f"{word} side, {cell.entry.name}: {sample.hole}"
    problems = (unpaired(left[0][1], sample) for _, sample in (*left[1:], *right))
    return next(filter(None, problems), "").replace("the two sides", "its cells")


def _unlike_seeds(left: _Found, right: _Found) -> str:
    """Return what the averaged cells have of seeds, where it is not the same of all."""
    if len(left) == len(right) == 1:
        return ""
    seeds = {cell.entry.name: one.seeds for cell, one in (*left, *right)}
    if len(set(seeds.values())) == 1:
        return ""
    each = (f"{name}: {', '.join(map(str, own))}" for name, own in seeds.items())
    return f"not all cells have the same seeds ({'; '.join(each)}); each cell counts the same"


def _read(data: SuiteData, number: int, raw: dict[str, Any]) -> _Read:
    name, says = str(raw.get("id", f"claim {number}")), str(raw.get("says", ""))
    with at(data.manifest.file):
        claim = parse_claim(says, f"claims.{name}")
    cells = {cell.entry.name: cell for cell in data.cells}
    sides: Sides = ((), ())
    hole = mixed = note = ""
    averaged: list[str] = []
    metric = claim.left.metric
    try:
        left, right = claim_cells(claim, [_point(cell) for cell in data.cells])
    except NoSuchCell as error:
        hole = f"profile {data.manifest.profile} has {error.problem}"
    except InputError as error:  # a suite of before refuses it now, its manifest may hold it
        hole = error.problem
    else:
        sides = (
            tuple(cells[point.name] for point in left),
            tuple(cells[point.name] for point in right),
        )
        ids = [[cell.entry.cell_id for cell in side] for side in sides]
        mixed = data.scores.mixture(metric, [*ids[0], *ids[1]])
        averaged = averaged_axes(claim, left)
        note = _main_effect(name, averaged, sides)
    return _Read(
        name,
        says,
        metric,
        claim.comparator,
        raw.get("margin"),
        str(raw.get("family") or ""),
        sides,
        hole,
        mixed,
        note,
        str(raw.get("text") or ""),
        tuple(averaged),
    )


def _main_effect(name: str, axes: list[str], sides: Sides) -> str:
    """Return what a claim is averaged over; empty where each side is one cell."""
    if not axes:
        return ""
    left, right = map(_mean_of, sides)
    return f"{name}: a main effect, averaged over {', '.join(axes)}: left {left}, right {right}"


def _mean_of(side: Sequence[CellRuns]) -> str:
    """Return which cells a side is the mean of; one that stands for several values comes once."""
    times: dict[str, int] = {}
    for cell in side:
        times[cell.entry.name] = times.get(cell.entry.name, 0) + 1
    if len(times) == 1:
        return f"{next(iter(times))} alone, which does not read them"
    alike = len(set(times.values())) == 1
    names = (name if alike else f"{name}, {n} times" for name, n in times.items())
    return f"the mean of {len(times)} cells ({'; '.join(names)})"


def _point(cell: CellRuns) -> Point:
    entry = cell.entry
    also, ignored = tuple(entry.also), entry.ignored
    return Point(entry.name, entry.coordinates, entry.variant, entry.control, also, ignored)


def named_cells(data: SuiteData, names: Sequence[str]) -> list[str]:
    """Return the names of the cells that somebody named, by name or by coordinates.

    Args:
        data: The suite.
        names: What was given with `--rows`, each as in `reference:` of a suite.

    Raises:
        InputError: One means no cell.
    """
    points = [_point(cell) for cell in data.cells]
    found: dict[str, None] = {}
    for name in names:
        meant = find(name, points, "--rows")
        if not meant:
            fix = did_you_mean(name, [point.name for point in points])
            problem = f"{data.manifest.suite} has no such cell"
            raise InputError("--rows", name, problem, fix)
        found |= dict.fromkeys(point.name for point in meant)
    return list(found)
