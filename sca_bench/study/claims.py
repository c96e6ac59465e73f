"""Claims of a suite: sentences of the form `metric(axis=value) > metric(axis=value)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sca_bench.errors import InputError

Comparator = Literal[">", "<", ">=", "<="]

_SIDE = re.compile(r"\s*(?P<metric>[\w/.]+)\s*\((?P<arguments>[^()]*)\)\s*", re.ASCII)
_CLAIM = re.compile(r"(?P<left>[^<>=]*\([^()]*\))\s*(?P<how>>=|<=|>|<)(?P<right>[^<>]*)")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a claim: a metric of the cell with these coordinates."""

    metric: str
    where: dict[str, Any]

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={_shown(value)}" for key, value in self.where.items())
        return f"{self.metric}({inside})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A comparison of one metric between two cells."""

    left: Side
    comparator: Comparator
    right: Side


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


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
