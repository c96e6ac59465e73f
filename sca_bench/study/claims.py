"""Claims of a suite: sentences of the form `metric(axis=value) > metric(axis=value)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sca_bench.errors import InputError
from sca_bench.study.values import load_yaml, same_value, show_value

Comparator = Literal[">", "<", ">=", "<="]

_OUTER_COMMA = re.compile(r",(?![^\[]*\])")
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
    coordinates = parse_coordinates(found["arguments"])
    if coordinates is None:
        problem = f"cannot read {found['arguments']!r} in the claim {says!r}"
        raise InputError(where, key, problem, _FORM)
    return Side(found["metric"], coordinates)


def parse_coordinates(text: str) -> dict[str, Any] | None:
    """Read `axis=value, axis=value`; None where it has another form.

    A comma inside brackets belongs to the value, as in `data.lsj_scale=[0.1, 2.0]`.
    """
    coordinates: dict[str, Any] = {}
    for part in _OUTER_COMMA.split(text):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not (name and equals and value) or name in coordinates:
            return None
        coordinates[name] = _scalar(value)
    return coordinates


def matches(where: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Say whether a cell that is known by these names and coordinates is meant by `where`."""
    return all(key in known and same_value(known[key], value) for key, value in where.items())


def _scalar(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text
