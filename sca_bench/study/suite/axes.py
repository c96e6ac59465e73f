"""Where the cells of a suite stand on its axes, and what they are called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sca_bench.errors import InputError
from sca_bench.study.suite.yaml_values import same_value, show_value

MOST_CELLS = 2_000
"""Cells that the axes of a suite may make, before `unless` takes some away; and its own cells."""
MOST_COMPARISONS = 200_000
"""Cells times rules (of `adjust` and `unless`) of a suite: every rule looks at every cell."""


def check_num_cells(axes: Mapping[str, Sequence[Any]], one_at_a_time: bool, key: str) -> None:
    """Refuse axes that make more cells than anybody means, before they are made one by one.

    Args:
        axes: Setting -> values.
        one_at_a_time: Whether they are varied one by one, not crossed.
        key: The file's key that holds them, for the error.

    Raises:
        InputError: They make more than `MOST_CELLS`.
    """
    counts = [len(values) for values in axes.values()]
    num_cells = sum(counts) if one_at_a_time else math.prod(counts)
    if num_cells > MOST_CELLS:
        said = (" + " if one_at_a_time else " x ").join(f"{count:,}" for count in counts)
        problem = f"{said} values make {num_cells:,} cells; a suite has {MOST_CELLS:,} at most"
        fix = "give fewer values" + ("" if one_at_a_time else ", or set one_at_a_time: true")
        raise InputError(None, key, problem, fix)


def check_num_rules(num_cells: int, num_rules: int, key: str) -> None:
    """Refuse more cells, or rules for them, than anybody means.

    Args:
        num_cells: Cells of the axes and those beside them.
        num_rules: Rules that look at each.
        key: The file's key that holds the rules, for the error.

    Raises:
        InputError: There are more than `MOST_CELLS`, or rules have more than `MOST_COMPARISONS`.
    """
    if num_cells > MOST_CELLS:
        problem = f"{num_cells:,} cells in all; a suite has {MOST_CELLS:,} at most"
        raise InputError(None, "cells", problem, "give fewer")
    if num_cells * num_rules > MOST_COMPARISONS:
        problem = f"{num_rules:,} rules for {num_cells:,} cells"
        fix = f"give fewer; cells times rules are {MOST_COMPARISONS:,} at most"
        raise InputError(None, key, problem, fix)


def check_apart(keys: Iterable[str], entry: str) -> None:
    """Refuse settings of which one is a part of another: one of the two would win, in silence.

    Args:
        keys: The settings.
        entry: Key of the file that they stand under.

    Raises:
        InputError: There are two such settings.
    """
    keys = sorted(keys)
    for whole in keys:
        part = next((key for key in keys if key.startswith(f"{whole}.")), None)
        if part is not None:
            fix = "give the whole in one of them"
            raise InputError(None, f"{entry}.{part}", f"is a part of {entry}.{whole}", fix)


def axis_points(
    axes: Mapping[str, Sequence[Any]],
    one_at_a_time: bool = False,
    unless: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the coordinates of every cell on the axes: a product, or one axis at a time."""
    if one_at_a_time:
        points = [{key: value} for key, values in axes.items() for value in values]
    else:
        points = [
            dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
        ]
    return [point for point in points if not any(is_at(point, rule) for rule in unless)]


def is_at(point: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Say whether a rule of `unless` leaves out the cell at a point of the axes."""
    return all(key in point and same_value(point[key], value) for key, value in rule.items())


def cell_name(coordinates: Mapping[str, Any], suite: str) -> str:
    """Return a cell's name: the last part of each axis, or the whole where two axes share it."""
    short = [key.rpartition(".")[2] for key in coordinates]
    keys = short if len(set(short)) == len(short) else list(coordinates)
    parts = [f"{k}={show_value(v)}" for k, v in zip(keys, coordinates.values(), strict=True)]
    return ",".join(parts) or suite
