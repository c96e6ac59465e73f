"""From the layers of a suite to its cells: axes, rules, stages, paths, flags.

Order of precedence, weakest first: the profile's base, the suite's base, the suite's patch for the
profile, the axis values, `adjust` rules that match, an explicit cell's `set`, `--set`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sca_bench.errors import InputError, PathNotGiven, at, did_you_mean
from sca_bench.settings import CellSettings
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import axis_points, cell_name
from sca_bench.study.suite.profiles import Profile
from sca_bench.study.suite.schema import Patch, PathSpec, SuiteFile
from sca_bench.study.suite.yaml_values import load_yaml, same_value
from sca_bench.variants import get_variant

NO_STAGE = "none"
"""What `pretraining` is called where there is none."""


@dataclass(frozen=True)
class ResolvedCell:
    """One cell before it has a key."""

    name: str
    coordinates: dict[str, Any]
    settings: CellSettings
    control: bool = False
    adjusted: dict[str, Any] = field(default_factory=dict)


class Resolver:
    """Merges the layers of one suite into cells and remembers where each value came from.

    Attributes:
        missing: Named paths that a cell uses and nobody has given, where that was allowed.
        used: Named paths that a cell uses, with their values.
    """

    def __init__(
        self,
        path: Path,
        spec: SuiteFile,
        patch: Patch,
        profile: str,
        scale: Profile,
        overrides: Sequence[str],
        allow_missing: bool = False,
    ) -> None:
        self.path, self.spec, self.patch = path, spec, patch
        self.adjust = spec.adjust if patch.adjust is None else patch.adjust
        self.explicit = spec.cells if patch.cells is None else patch.cells
        self.stages = {**spec.stages, **(patch.stages or {})}
        self.specs: dict[str, PathSpec] = {**scale.paths, **spec.paths}
        self.paths = {name: spec.default for name, spec in self.specs.items()}
        self.allow_missing = allow_missing
        self.missing: set[str] = set()
        self.used: dict[str, str] = {}
        self.flags: list[tuple[str, Any]] = []
        for text in overrides:
            self._take_override(text)
        self.origin: dict[str, str] = {}
        self.base: m.Nested = {}
        for source, layer in (
            (f"profile {profile}", scale.base),
            (str(path), spec.base),
            (str(path), patch.base),
        ):
            self.base = m.merge(self.base, layer)
            self.origin.update({p: source for p, _ in m.leaves(layer)})

    def _take_override(self, text: str) -> None:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise InputError("--set", text, "expected path=value")
        if key.startswith("paths."):
            name = key.removeprefix("paths.")
            if name not in self.paths:
                raise InputError("--set", key, "unknown path", did_you_mean(name, self.paths))
            self.paths[name] = raw
            return
        with at("--set"):
            m.check_path(key, key)
        try:
            with at("--set"):
                self.flags.append((key, load_yaml(raw, key)))
        except yaml.YAMLError:
            raise InputError("--set", key, f"{raw!r} is not a YAML value") from None

    def cells(self, axes: dict[str, list[Any]]) -> tuple[ResolvedCell, ...]:
        """Return the cells of the axes, then the explicit ones.

        Raises:
            InputError: A setting is wrong, two cells have one name, or none is left.
        """
        points = self._points(axes)
        cells = [self.cell(cell_name(c, self.spec.suite), c, {}, False) for c in points]
        for cell in self.explicit:
            cells.append(self.cell(cell.name, {}, cell.set, cell.control))
        if not cells:
            raise InputError(self.path, "unless", "leaves no cell of the axes", "loosen a rule")
        names = [cell.name for cell in cells]
        for name, count in Counter(names).items():
            if count > 1:
                raise InputError(self.path, "cells", f"two cells are called {name!r}")
        return tuple(cells)

    def _points(self, axes: dict[str, list[Any]]) -> list[dict[str, Any]]:
        if not axes:
            return [] if self.explicit else [{}]
        return axis_points(axes, self.spec.one_at_a_time, self.spec.unless)

    def cell(
        self, name: str, coordinates: dict[str, Any], extra: dict[str, Any], control: bool = False
    ) -> ResolvedCell:
        """Return one cell: its place on the axes, then an explicit cell's settings over the rules.

        Raises:
            InputError: A setting is wrong.
        """
        origin = dict(self.origin)
        nested = self.base

        def lay(values: dict[str, Any], source: str) -> None:
            nonlocal nested
            for key, value in values.items():
                nested = m.merge(nested, m.nest(key, value))
                origin[key] = source

        lay(coordinates, f"{self.path}: axes")
        own = f"{self.path}: cells.{name}.set"
        lay(extra, own)
        adjusted: dict[str, Any] = {}
        for rule in self.adjust:
            if all(same_value(m.get(nested, key), v) for key, v in rule.when.items()):
                lay(rule.set, f"{self.path}: adjust")
                adjusted.update(rule.set)
        lay(extra, own)  # an explicit cell has the last word over the rules
        lay(dict(self.flags), "--set")
        nested = {**nested, "pretraining": self._chain(nested)}
        with at(self.path):
            settings = m.validate(self._fill_paths(nested), origin)
        with at(origin.get("variant", self.path)):
            spec = get_variant(settings.variant)
        with at(self.path):
            spec.check(settings)
        return ResolvedCell(name, coordinates, settings, control, adjusted)

    def _chain(self, nested: m.Nested) -> list[Any]:
        """Write out the stages that `pretraining` names: the cell's own recipe, changed by each."""
        wanted = nested.get("pretraining", [])
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple):
            fix = f"name a stage, a list of stages, or {NO_STAGE}"
            raise InputError(self.path, "pretraining", f"{wanted!r} names no stage", fix)
        chain: list[Any] = []
        for name in names:
            if not isinstance(name, str):
                chain.append(name)  # written out already
                continue
            if name == NO_STAGE and len(names) == 1:
                break
            if name not in self.stages:
                fix = did_you_mean(name, [*self.stages, NO_STAGE])
                raise InputError(self.path, "pretraining", f"{name!r} is no stage", fix)
            stage = self.stages[name]
            chain.append(
                {
                    "name": name,
                    "data": stage.data,
                    "train": m.merge(nested.get("train", {}), stage.train),
                }
            )
        return chain

    def filled(self, text: str) -> str:
        """Return a path with the named paths in it (`{name}/file.json`) filled in.

        Raises:
            InputError: One is not declared, or nobody has given it.
        """
        return str(self._fill_paths(text))

    def _fill_paths(self, nested: Any) -> Any:
        if isinstance(nested, dict):
            return {key: self._fill_paths(value) for key, value in nested.items()}
        if isinstance(nested, list):
            return [self._fill_paths(value) for value in nested]
        if isinstance(nested, str):
            return re.sub(r"\{(\w+)\}", self._path, nested)
        return nested

    def _path(self, match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in self.paths:
            raise InputError(
                self.path, f"paths.{name}", "not declared", did_you_mean(name, self.paths)
            )
        value = self.paths[name]
        if value is not None:
            self.used[name] = value
            return value
        if not self.allow_missing:
            get = self.specs[name].get
            fix = f"give --set paths.{name}=PATH" + (f" ({get})" if get else "")
            raise PathNotGiven(self.path, f"paths.{name}", "not set", fix)
        self.missing.add(name)
        return f"<{name}>"
