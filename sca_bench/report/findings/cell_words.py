"""Cells in words: `num_layers=2` is *two layers*, `eval.prompt=box` *box prompts*."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sca_bench.report.names import count_words, short_axes
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.study.suite.claims import CELL, VARIANT, Claim, Side
from sca_bench.study.suite.yaml_values import same_value, show_value

_COUNT = "num_"
_NONE = (None, "none")
_PATTERNS = {
    VARIANT: ("{}", False),
    "encoder.type": ("the {} encoder", False),
    "eval.prompt": ("{} prompts", True),
    "pretraining": ("pretraining on {}", False),
    "sam.size": ("SAM {}", False),
    "text_decoder.weights": ("{}", False),
}
"""Setting -> how a value of it is called, and whether that is a plural."""
_IN_QUOTES = ",;:<>()[]"
"""A name with one of these would not be read as a name within a sentence."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a side of a comparison is called within a sentence.

    Attributes:
        text: Its name.
        plural: Whether verbs after it are plural.
    """

    text: str
    plural: bool = False

    def verb(self, plural: str, singular: str) -> str:
        """Return the form of a verb that fits."""
        return plural if self.plural else singular


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of a claim in words.

    Attributes:
        left: The left side.
        right: The right side, without the noun that the left one has named: *two layers*, *one*.
        both: What both have in common, after a blank, such as ` at box prompts`; may be empty.
    """

    left: Phrase
    right: Phrase
    both: str = ""


def sides_in_words(claim: Claim, data: SuiteData, averaged: Iterable[str] = ()) -> Sides:
    """Return the sides of a claim in words.

    Args:
        claim: The claim.
        data: Its suite.
        averaged: Axes over which both sides are averaged.
    """
    sides = [_in_full(side, data) for side in (claim.left, claim.right)]
    axes = dict.fromkeys([*data.manifest.axes, *sides[0], *sides[1]])
    short = short_axes(key for key in axes if key not in (CELL, VARIANT))
    shared = [
        key
        for key, value in sides[0].items()
        if key != CELL and key in sides[1] and same_value(value, sides[1][key])
    ]
    own = [{k: v for k, v in side.items() if k not in shared} for side in sides]
    if not all(own):
        own, shared = sides, []
    left, right = (_phrase(side, data, short) for side in own)
    counted = [key for key in own[0] if own[0].keys() == own[1].keys() == {key}]
    if counted and _is_count(counted[0], *own[0].values(), *own[1].values()):
        number, _, _ = right.text.partition(" ")
        right = Phrase("none" if number == "no" else number, right.plural)
    both = [_words(key, sides[0][key], short).text for key in shared]
    over = [short[axis] for axis in averaged if axis in short]
    texts = [f"at {_and(both)}"] if both else []
    texts += [f"on average over {_and(over)}"] if over else []
    return Sides(left, right, "".join(f", {text}" for text in texts))


def cell_in_words(cell: CellRuns, data: SuiteData) -> Phrase:
    """Return what a cell is called within a sentence."""
    entry = cell.entry
    if not entry.coordinates or entry.control or entry.name.partition("=")[1] == "":
        return _named(entry.name)
    return _phrase(dict(entry.coordinates), data, short_axes(data.manifest.axes))


def row_names(cells: Iterable[CellRuns], data: SuiteData) -> dict[str, str]:
    """Return name -> the cell in words, as a row of a table names it; its name where two agree."""
    words = {}
    for cell in cells:
        text = cell_in_words(cell, data).text.strip('"')
        words[cell.entry.name] = text[:1].upper() + text[1:]
    each = list(words.values())
    return {name: text if each.count(text) == 1 else name for name, text in words.items()}


def _in_full(side: Side, data: SuiteData) -> dict[str, Any]:
    """Return what a side names, axes by their whole names."""
    axes = [axis for axis in data.manifest.axes if axis not in side.where]
    full = {}
    for key, value in side.where.items():
        ending = [axis for axis in axes if axis.endswith(f".{key}")]
        full[ending[0] if len(ending) == 1 else key] = value
    return full


def _phrase(where: Mapping[str, Any], data: SuiteData, short: Mapping[str, str]) -> Phrase:
    if CELL in where or not where:
        return _named(show_value(where.get(CELL, "")))
    parts = [_words(key, value, short) for key, value in where.items()]
    plural = parts[0].plural if len(parts) == 1 else True
    return Phrase(_and([part.text for part in parts]), plural)


def _named(name: str) -> Phrase:
    if any(sign in name for sign in _IN_QUOTES):
        return Phrase(f'"{name}"')
    return Phrase(name, name.islower() and name.endswith("s") and not name.endswith("ss"))


def _words(key: str, value: Any, short: Mapping[str, str]) -> Phrase:
    """Return one setting's value in words."""
    if _is_count(key, value):
        noun = key.rpartition(".")[2].removeprefix(_COUNT).replace("_", " ")
        return Phrase(count_words(value, noun.removesuffix("s")), value != 1)
    words = short.get(key, key.rpartition(".")[2].replace("_", " "))
    if value in _NONE and key != VARIANT:
        return Phrase(f"no {words}")
    if isinstance(value, bool):
        return Phrase(f"{words} {'on' if value else 'off'}")
    if isinstance(value, float):
        value = float(f"{value:.3g}")
    text = show_value(value)
    if isinstance(value, str):
        text = value.rpartition("/")[2].rpartition(":")[2] or value
    pattern, plural = _PATTERNS.get(
        key, (f"{words.replace('{', '(').replace('}', ')')} {{}}", False)
    )
    return Phrase(pattern.format(text.replace("_", " ") if plural else text), plural)


def _is_count(key: str, *values: Any) -> bool:
    counted = key.rpartition(".")[2].startswith(_COUNT)
    return counted and all(type(value) is int and value >= 0 for value in values)


def _and(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
