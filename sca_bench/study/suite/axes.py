"""Where the cells of a suite stand on its axes, and what they are called."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sca_bench.study.suite.yaml_values import show_value


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
    return [point for point in points if not any(r.items() <= point.items() for r in unless)]


def cell_name(coordinates: Mapping[str, Any], suite: str) -> str:
    """Return a cell's name: the last part of each axis, or the whole where two axes share it."""
    short = [key.rpartition(".")[2] for key in coordinates]
    keys = short if len(set(short)) == len(short) else list(coordinates)
    parts = [f"{k}={show_value(v)}" for k, v in zip(keys, coordinates.values(), strict=True)]
    return ",".join(parts) or suite
