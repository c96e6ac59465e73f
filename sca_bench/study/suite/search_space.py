"""One searched setting: what its range means for a setting of its type, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from sca_bench.errors import InputError
from sca_bench.reading import is_number
from sca_bench.settings.base import plain_types
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import check_num_cells
from sca_bench.study.suite.suite import check_cell_key
from sca_bench.study.suite.sweep_schema import Dimension
from sca_bench.study.suite.yaml_values import show_value

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Axis:
    """One searched setting.

    Attributes:
        key: Dotted name of the setting.
        kind: Whole numbers, numbers, or named values.
        choices: The values themselves, for `choices`.
    """

    key: str
    kind: Literal["int", "float", "choices"]
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def labels(self) -> tuple[Any, ...]:
        """The choices as a storage can hold them: plain values, or the text of the others."""
        if all(c is None or isinstance(c, bool | int | float | str) for c in self.choices):
            return self.choices
        return tuple(show_value(choice) for choice in self.choices)

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values whose meaning is checked before anything runs: every choice, both bounds."""
        return self.choices or (self.low, self.high)

    def value_of(self, label: Any) -> Any:
        """Return the value of the setting that a stored parameter means."""
        return self.choices[self.labels.index(label)] if self.choices else label


def read_axis(key: str, given: Dimension, said: m.Said = None) -> Axis:
    """Check one entry of `space:` against the type of the setting it names.

    Args:
        key: Dotted name of the setting.
        given: What the file says of it.
        said: Settings that say which variant all trials are of; None where they are of several.

    Raises:
        InputError: Unknown setting, or a range that the setting cannot have.
    """
    entry = f"space.{key}"
    check_cell_key(key, entry, said)
    if key.startswith("eval.split") or key == "eval":
        raise InputError(None, entry, "trials are captioned on the validation split", "leave it")
    if given.choices is not None:
        values = given.choices
        check_num_cells({key: values}, True, entry)
        if given.model_fields_set != {"choices"}:
            raise InputError(None, entry, "has a range beside choices", "give one of the two")
        if not values or any(values.count(v) > 1 for v in values):
            raise InputError(None, entry, f"{values}", "give distinct values, at least one")
        return Axis(key, "choices", choices=tuple(values))
    return _range(key, given, entry, said)


def _range(key: str, given: Dimension, entry: str, said: m.Said) -> Axis:
    low, high, step = given.low, given.high, given.step
    if low is None or high is None or low >= high:
        raise InputError(None, entry, f"low {low}, high {high}", "give low < high, or choices")
    if not all(map(is_number, (low, high, high - low, 0 if step is None else step))):
        raise InputError(None, entry, f"low {low}, high {high}, step {step}", "give finite numbers")
    kinds = {_number_kind(model, key) for model in m.holders_of(key, said)}
    if len(kinds) > 1:
        problem = "is a setting of several variants, which take different kinds of values"
        raise InputError(None, entry, problem, "name the variant in base")
    kind = kinds.pop()
    if kind is None:
        raise InputError(None, entry, "is no number", "give choices: [...]")
    if kind == "int" and not all(isinstance(v, int) for v in (low, high, step) if v is not None):
        raise InputError(None, entry, "takes whole numbers", "write low, high and step without a .")
    if given.log and (low <= 0 or step is not None):
        raise InputError(None, entry, "log needs low > 0 and no step")
    if step is not None:
        steps = (high - low) / step if step > 0 else 0.5
        if math.isinf(steps) or abs(steps - round(steps)) > _TOLERANCE:
            raise InputError(None, entry, f"high {high} is not low {low} plus steps of {step}")
    return Axis(key, kind, low, high, step, given.log)


def _number_kind(model: type[BaseModel], key: str) -> Literal["int", "float"] | None:
    taken = set(plain_types(model.model_fields[key.rpartition(".")[2]].annotation))
    if float in taken:
        return "float"
    return "int" if int in taken else None
