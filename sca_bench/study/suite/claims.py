"""Claims of a suite: sentences of the form `metric(axis=value) > metric(axis=value)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast

import yaml

from sca_bench.errors import InputError
from sca_bench.study.suite.yaml_values import load_yaml, show_value

Comparator = Literal[">", "<", ">=", "<="]

_METRIC = re.compile(r"[\w/.]+", re.ASCII)
CELL, VARIANT = "cell", "variant"
"""What else a cell can be selected by, beside its coordinates."""
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a claim: a metric of the cells with these coordinates."""

    metric: str
    where: dict[str, Any]

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={show_value(value)}" for key, value in self.where.items())
        return f"{self.metric}({inside})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A comparison of one metric between two cells, or the means of several."""

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
        given = inside[:-1].strip()
        by_name = "" if "=" in given or not given else f"; a cell by its name is {CELL}={given}"
        raise InputError(None, key, problem, _FORM + by_name)
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


def _scalar(text: str, key: str) -> Any:
    try:
        return load_yaml(text, key)
    except yaml.YAMLError:
        return text
