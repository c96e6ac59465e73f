"""Claims of a suite: reading them, and the observed difference behind each (no verdict)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sca_bench.errors import InputError
from sca_bench.report.collect import CellRuns, SuiteData
from sca_bench.report.intervals import Estimate, RegionMeans, difference_estimate, region_means
from sca_bench.report.names import show_value

Comparator = Literal[">", "<", ">=", "<="]

_SIDE = re.compile(r"\s*(?P<metric>[\w/.]+)\s*\((?P<arguments>[^()]*)\)\s*", re.ASCII)
_CLAIM = re.compile(r"(?P<left>[^<>=]*\([^()]*\))\s*(?P<how>>=|<=|>|<)(?P<right>[^<>]*)")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a claim: a metric of the cell with these coordinates."""

    metric: str
    where: dict[str, Any]

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={show_value(value)}" for key, value in self.where.items())
        return f"{self.metric}({inside})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A comparison of one metric between two cells."""

    left: Side
    comparator: Comparator
    right: Side


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What was observed for one claim.

    Attributes:
        id: The claim's name in the suite.
        says: The claim as the suite states it.
        metric: The metric compared.
        estimate: Difference left minus right with its interval, or why there is none.
    """

    id: str
    says: str
    metric: str
    estimate: Estimate


def parse_claim(says: str, where: object = "claim", key: str = "says") -> Claim:
    """Read `metric(axis=value, ...) > metric(axis=value, ...)`; comparators are > < >= <=.

    Values are YAML scalars, so `12`, `1e-4`, `true`, `none` (as a word) and `box` mean what they
    mean in a suite file.

    Raises:
        InputError: It has another form, or compares two different metrics.
    """
    found = _CLAIM.fullmatch(says.strip())
    if found is None:
        raise InputError(where, key, f"cannot read the claim {says!r}", _FORM)
    left = _side(found["left"], says, where, key)
    right = _side(found["right"], says, where, key)
    if left.metric != right.metric:
        problem = f"compares {left.metric} with {right.metric}"
        raise InputError(where, key, problem, "a claim compares one metric between two cells")
    how: Comparator = found["how"]  # type: ignore[assignment]
    return Claim(left, how, right)


_FORM = "expected metric(axis=value) > metric(axis=value), with one of > < >= <="


def _side(text: str, says: str, where: object, key: str) -> Side:
    found = _SIDE.fullmatch(text)
    if found is None:
        raise InputError(where, key, f"cannot read {text.strip()!r} in the claim {says!r}", _FORM)
    coordinates: dict[str, Any] = {}
    for part in found["arguments"].split(","):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not (name and equals and value) or name in coordinates:
            problem = f"cannot read {part.strip()!r} in the claim {says!r}"
            raise InputError(where, key, problem, _FORM)
        coordinates[name] = _scalar(value)
    return Side(found["metric"], coordinates)


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def claim_results(data: SuiteData) -> list[ClaimResult]:
    """Return the observed difference of every claim in the suite's manifest.

    A claim on cells that this profile does not have stays in the list, with the reason.

    Raises:
        InputError: A claim cannot be read, or a file is damaged.
    """
    cache: dict[tuple[str, str], RegionMeans] = {}
    results = []
    for number, raw in enumerate(data.manifest.claims, start=1):
        name, says = raw.get("id", f"claim {number}"), raw.get("says", "")
        claim = parse_claim(says, data.manifest.file, f"claims.{name}")
        sides = [_cells_of(data, side) for side in (claim.left, claim.right)]
        problem = next((reason for _, reason in sides if reason), "")
        if problem:
            estimate = Estimate(None, hole=problem)
        else:
            means = [
                _cached(data, cell, claim.left.metric, cache)
                for cell, _ in sides
                if cell is not None
            ]
            estimate = difference_estimate(*means)
        results.append(ClaimResult(name, says, claim.left.metric, estimate))
    return results


def _cached(
    data: SuiteData, cell: CellRuns, metric: str, cache: dict[tuple[str, str], RegionMeans]
) -> RegionMeans:
    key = (cell.entry.cell_id, metric)
    if key not in cache:
        cache[key] = region_means(data, cell, metric)
    return cache[key]


def _cells_of(data: SuiteData, side: Side) -> tuple[CellRuns | None, str]:
    """Return the one cell a side means, or the reason why there is not exactly one."""
    found = [cell for cell in data.cells if _matches(cell, side)]
    found = [cell for cell in found if not cell.entry.control] or found
    if len(found) == 1:
        return found[0], ""
    if not found:
        return None, f"profile {data.manifest.profile} has no cell for {side}"
    names = ", ".join(cell.entry.name for cell in found)
    return None, f"{side} means {len(found)} cells ({names})"


def _matches(cell: CellRuns, side: Side) -> bool:
    known = {"cell": cell.entry.name, "variant": cell.entry.variant, **cell.entry.coordinates}
    return all(key in known and _same(known[key], value) for key, value in side.where.items())


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return show_value(a) == show_value(b)
    return bool(a == b)
