"""Claims of a suite: sentences of the form `metric(axis=value) > metric(axis=value)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import yaml

from sca_bench.errors import InputError
from sca_bench.study.suite.yaml_values import load_yaml, same_value, show_value

Cell = TypeVar("Cell")
Comparator = Literal[">", "<", ">=", "<="]

_METRIC = re.compile(r"[\w/.]+", re.ASCII)
_OPEN, _CLOSE = "([{", ")]}"


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


def parse_claim(says: str, key: str = "says") -> Claim:
    """Read `metric(axis=value, ...) > metric(axis=value, ...)`; comparators are > < >= <=.

    Values are YAML, so `12`, `1e-4`, `true`, `null`, `none` (a word), `box` and `[0.1, 2.0]` mean
    what they mean in a suite file. A name with a comma outside parentheses, or with one of the
    signs of this form, stands in quotes: `cell="SAM query, as published"`.

    Raises:
        InputError: It has another form, or compares two different metrics.
    """
    sides = _split(says, (">=", "<=", ">", "<"))
    if len(sides) != 2:
        raise InputError(None, key, f"cannot read the claim {says!r}", _FORM)
    (_, left_text), (how, right_text) = sides
    left = _side(left_text, says, key)
    right = _side(right_text, says, key)
    if left.metric != right.metric:
        problem = f"compares {left.metric} with {right.metric}"
        raise InputError(None, key, problem, "a claim compares one metric between two cells")
    return Claim(left, cast(Comparator, how), right)


_FORM = "expected metric(axis=value) > metric(axis=value), with one of > < >= <="


def _split(text: str, signs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Cut a text at the signs outside quotes and brackets: (sign before it, part), in order."""
    parts, sign, start, depth, quote = [], "", 0, 0, ""
    at = 0
    while at < len(text):
        letter = text[at]
        sign_here = next((s for s in signs if text.startswith(s, at)), "")
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and text[:at].rstrip().endswith(("=", "[", ",")):
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif sign_here and depth == 0:
            parts.append((sign, text[start:at].strip()))
            sign, start = sign_here, at + len(sign_here)
            at = start
            continue
        at += 1
    return [*parts, (sign, text[start:].strip())]


def _side(text: str, says: str, key: str) -> Side:
    metric, bracket, inside = text.partition("(")
    metric = metric.strip()
    if not (bracket and inside.endswith(")") and _METRIC.fullmatch(metric)):
        raise InputError(None, key, f"cannot read {text!r} in the claim {says!r}", _FORM)
    coordinates = parse_coordinates(inside[:-1], key)
    if coordinates is None:
        problem = f"cannot read {inside[:-1]!r} in the claim {says!r}"
        raise InputError(None, key, problem, _FORM)
    return Side(metric, coordinates)


def parse_coordinates(text: str, key: str = "") -> dict[str, Any] | None:
    """Read `axis=value, axis=value`; None where it has another form.

    A comma inside quotes or brackets belongs to the value, as in `data.lsj_scale=[0.1, 2.0]`.

    Args:
        text: What is read.
        key: Where it stands in a file, for errors.

    Raises:
        InputError: A value is a number that may mean two things (`load_yaml`).
    """
    coordinates: dict[str, Any] = {}
    for _, part in _split(text, (",",)):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not (name and equals and value) or name in coordinates:
            return None
        coordinates[name] = _scalar(value, f"{key}: {name}" if key else name)
    return coordinates


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Several values that a cell is known by: its names, or those of an axis it does not read."""

    values: tuple[Any, ...]


def known_as(
    names: Sequence[str],
    variant: str,
    coordinates: Mapping[str, Any],
    ignored: Mapping[str, Sequence[Any]],
) -> dict[str, Any]:
    """Return all that a cell is known by, for `meant_cells`.

    Args:
        names: Its names.
        variant: Its variant.
        coordinates: Where it stands on the axes.
        ignored: Axis that it does not read -> the values that it stands for.
    """
    several = {axis: AnyOf(tuple(values)) for axis, values in ignored.items()}
    return {"cell": AnyOf(tuple(names)), "variant": variant, **coordinates, **several}


def matches(where: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Say whether a cell that is known by these names and coordinates is meant by `where`."""
    return all(key in known and _is(known[key], value) for key, value in where.items())


def _is(known: Any, value: Any) -> bool:
    values = known.values if isinstance(known, AnyOf) else (known,)
    return any(same_value(one, value) for one in values)


def meant_cells(
    where: Mapping[str, Any],
    cells: Iterable[Cell],
    known: Callable[[Cell], Mapping[str, Any]],
    axes: Callable[[Cell], Collection[str]],
) -> list[Cell]:
    """Return the cells that a side of a claim may mean; exactly one where it is clear.

    Cells that stand on all the axes named go first: `variant=sca` is the axis' cell, not every cell
    of that variant.

    Args:
        where: The side's coordinates.
        cells: The cells to choose from.
        known: Names and coordinates by which a cell is known.
        axes: Names of the axes on which a cell stands.
    """
    matching = [cell for cell in cells if matches(where, known(cell))]
    return [cell for cell in matching if where.keys() <= set(axes(cell))] or matching


def _scalar(text: str, key: str) -> Any:
    try:
        return load_yaml(text, key)
    except yaml.YAMLError:
        return text
