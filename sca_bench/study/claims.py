"""Claims of a suite: sentences of the form `metric(axis=value) > metric(axis=value)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast

import yaml

from sca_bench.errors import InputError

Comparator = Literal[">", "<", ">=", "<="]

_METRIC = re.compile(r"[\w/.]+", re.ASCII)
_OPEN, _CLOSE = "([{", ")]}"


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

    Values are YAML, so `12`, `1e-4`, `true`, `null`, `none` (a word), `box` and `[0.1, 2.0]` mean
    what they mean in a suite file. A name with a comma outside parentheses, or with one of the
    signs of this form, stands in quotes: `cell="SAM query, as published"`.

    Raises:
        InputError: It has another form, or compares two different metrics.
    """
    sides = _split(says, (">=", "<=", ">", "<"))
    if len(sides) != 2:
        raise InputError(where, key, f"cannot read the claim {says!r}", _FORM)
    (_, left_text), (how, right_text) = sides
    left = _side(left_text, says, where, key)
    right = _side(right_text, says, where, key)
    if left.metric != right.metric:
        problem = f"compares {left.metric} with {right.metric}"
        raise InputError(where, key, problem, "a claim compares one metric between two cells")
    return Claim(left, cast(Comparator, how), right)


_FORM = "expected metric(axis=value) > metric(axis=value), with one of > < >= <="


def _split(text: str, signs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Cut a text at the signs outside quotes and brackets: (sign before it, part), in order."""
    parts, sign, start, depth, quote = [], "", 0, 0, ""
    at = 0
    while at < len(text):
        letter = text[at]
        found = next((s for s in signs if text.startswith(s, at)), "")
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and text[:at].rstrip().endswith(("=", "[", ",")):
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif found and depth == 0:
            parts.append((sign, text[start:at].strip()))
            sign, start = found, at + len(found)
            at = start
            continue
        at += 1
    return [*parts, (sign, text[start:].strip())]


def _side(text: str, says: str, where: object, key: str) -> Side:
    metric, bracket, inside = text.partition("(")
    metric = metric.strip()
    if not (bracket and inside.endswith(")") and _METRIC.fullmatch(metric)):
        raise InputError(where, key, f"cannot read {text!r} in the claim {says!r}", _FORM)
    coordinates: dict[str, Any] = {}
    for _, part in _split(inside[:-1], (",",)):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not (name and equals and value) or name in coordinates:
            problem = f"cannot read {part!r} in the claim {says!r}"
            raise InputError(where, key, problem, _FORM)
        coordinates[name] = _scalar(value)
    return Side(metric, coordinates)


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
