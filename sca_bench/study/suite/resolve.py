"""From the layers of a suite to its cells: axes, rules, stages, paths, flags.

Order of precedence, weakest first: the profile's base, the suite's base, the suite's patch for the
profile, the axis values, `adjust` rules that match, an explicit cell's `set`, `--set`.

A cell is called by what it states: its place on the axes, or its `set`. So no rule may move an axis
value, and no flag may move either: both are refused. A flag that changes nothing of it may stay.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from sca_bench.errors import InputError, PathNotGiven, at, did_you_mean, near_name
from sca_bench.settings import CellSettings
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import axis_points, cell_name, check_num_rules
from sca_bench.study.suite.profiles import Profile
from sca_bench.study.suite.schema import Patch, PathSpec, SuiteFile
from sca_bench.study.suite.yaml_values import load_yaml, same_value, show_value
from sca_bench.variants import get_variant

NO_STAGE = "none"
"""What `pretraining` is called where there is none."""


LayerKind = Literal["profile", "base", "axes", "adjust", "cell", "flag"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What gave a setting its value.

    Attributes:
        kind: Which sort of layer; `profile` is the profile's own base, or the suite's patch of it.
        address: Where it stands: a file with a key in it, a profile, or a flag as it was given.
    """

    kind: LayerKind
    address: str


@dataclass(frozen=True)
class ResolvedCell:
    """One cell before it has a key.

    Attributes:
        name: What the suite calls it.
        coordinates: Where it stands on the axes.
        settings: All its settings.
        control: Whether it is a control.
        adjusted: What `adjust` rules gave it, and nothing over them took back.
        stated: What it is called by: its coordinates, or the settings of an explicit cell.
        origin: Dotted path -> the layer that its value is from.
        also: Its other names, where the suite names it more than once.
        ignored: Axis that moves no number of it -> the values that it stands for.
        note: Why it has other names; empty where it has none.
    """

    name: str
    coordinates: dict[str, Any]
    settings: CellSettings
    control: bool = False
    adjusted: dict[str, Any] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: Mapping[str, Layer] = field(default_factory=dict, compare=False, repr=False)
    also: tuple[str, ...] = ()
    ignored: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    note: str = ""


@dataclass
class _Layered:
    """The settings of one cell while layer is laid on layer."""

    nested: m.Nested
    origin: dict[str, Layer]

    def lay(self, nested: Mapping[str, Any], layer: Layer) -> None:
        if m.drops_options(self.nested, nested):
            self.origin = {k: v for k, v in self.origin.items() if k.split(".")[0] != "options"}
        self.nested = m.merge(self.nested, nested)
        self.origin.update({path: layer for path, _ in m.leaves(nested)})

    def lay_each(self, values: Mapping[str, Any], layer: Layer) -> None:
        for key, value in m.tags_first(values).items():
            self.lay(m.nest(key, value), layer)

    def at(self, paths: Iterable[str]) -> dict[str, Any]:
        return {path: m.get(self.nested, path) for path in paths}

    def moved(self, before: Mapping[str, Any]) -> str | None:
        """Return the first path whose value is another one than it was."""
        now = self.at(before)
        return next((k for k, v in before.items() if not same_value(v, now[k])), None)


class Resolver:
    """Merges the layers of one suite into cells and remembers where each value came from.

    Attributes:
        missing: Named paths that a cell uses and nobody has given, where that was allowed.
        used: Named paths that a cell uses, with their values.
        axes: The axes of the profile.
        adjust: The rules of the profile.
        matched: Numbers of the rules that some cell has matched so far.
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
        *,
        patched: str = "",
        axes_key: str = "",
    ) -> None:
        """Read the flags, and lay the layers that all cells share.

        Args:
            path: The suite's file.
            spec: What it says.
            patch: What it says for the profile.
            profile: The profile's name.
            scale: What that says.
            overrides: Flags, as they were given.
            allow_missing: Leave named paths that nobody has given as `<name>`.
            patched: Name of the profile that the patch is written for; empty where there is none.
            axes_key: Key of the file that holds the axes, for errors; as in a suite if not given.
        """
        self.path, self.spec, self.patch = path, spec, patch
        own = f"profiles.{patched}."
        self.axes = spec.axes if patch.axes is None else patch.axes
        self.axes_key = axes_key or ("axes" if patch.axes is None else f"{own}axes")
        self.adjust_key = "adjust" if patch.adjust is None else f"{own}adjust"
        self.cells_key = "cells" if patch.cells is None else f"{own}cells"
        self.adjust = spec.adjust if patch.adjust is None else patch.adjust
        self.explicit = spec.cells if patch.cells is None else patch.cells
        self.stages = {**spec.stages, **(patch.stages or {})}
        self.specs: dict[str, PathSpec] = {**scale.paths, **spec.paths}
        self.paths = {name: spec.default for name, spec in self.specs.items()}
        self.allow_missing = allow_missing
        self.missing: set[str] = set()
        self.used: dict[str, str] = {}
        self.matched: set[int] = set()
        self.given_paths: set[str] = set()
        self.flags: list[tuple[str, Any, str]] = []
        for text in overrides:
            self._take_override(text)
        self.flags.sort(key=lambda flag: not m.is_tag(flag[0]))
        self.base = _Layered({}, {})
        for layer, nested in (
            (Layer("profile", f"profile {profile}"), scale.base),
            (Layer("base", str(path)), spec.base),
            (Layer("profile", f"{path}: {own}base"), patch.base),
        ):
            self.base.lay(nested, layer)

    def _take_override(self, text: str) -> None:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise InputError("--set", text, "expected path=value")
        if key.startswith("paths."):
            name = key.removeprefix("paths.")
            if name not in self.paths:
                raise InputError("--set", key, "unknown path", did_you_mean(name, self.paths))
            self.paths[name] = raw
            self.given_paths.add(name)
            return
        with at("--set"):
            m.check_path(key, key)
        try:
            with at("--set"):
                self.flags.append((key, load_yaml(raw, key), text))
        except yaml.YAMLError:
            raise InputError("--set", key, f"{raw!r} is not a YAML value") from None

    def cells(self) -> tuple[ResolvedCell, ...]:
        """Return the cells of the axes, then the explicit ones.

        Raises:
            InputError: A setting is wrong, two cells have one name, or none is left.
        """
        self._check_size()
        cells = [self.cell(cell_name(c, self.spec.suite), c, {}, False) for c in self._points()]
        for cell in self.explicit:
            cells.append(self.cell(cell.name, {}, cell.set, cell.control))
        if not cells:
            raise InputError(self.path, "unless", "leaves no cell of the axes", "loosen a rule")
        names = [cell.name for cell in cells]
        for name, count in Counter(names).items():
            if count > 1:
                raise InputError(self.path, "cells", f"two cells are called {name!r}")
        return tuple(cells)

    def _check_size(self) -> None:
        counts = [len(values) for values in self.axes.values()]
        on_axes = (sum if self.spec.one_at_a_time else math.prod)(counts) if counts else 0
        rules = [(len(self.adjust), self.adjust_key), (len(self.spec.unless), "unless")]
        num_rules, key = max(rules)
        with at(self.path):
            check_num_rules(on_axes + len(self.explicit), num_rules, key)

    def _points(self) -> list[dict[str, Any]]:
        if not self.axes:
            return [] if self.explicit else [{}]
        return axis_points(self.axes, self.spec.one_at_a_time, self.spec.unless)

    def cell(
        self, name: str, coordinates: dict[str, Any], extra: dict[str, Any], control: bool = False
    ) -> ResolvedCell:
        """Return one cell: its place on the axes, then an explicit cell's settings over the rules.

        Raises:
            InputError: A setting is wrong, or a rule or flag changes what the cell is called by.
        """
        layers, adjusted, moved = self._layered(name, coordinates, extra)
        for number, key in moved:
            place = f"{self.axes_key}.{key}"
            problem = f"changes {key}, which {place} states for cell {name}"
            fix = "leave it out, or make an explicit cell of the exception"
            raise InputError(self.path, f"{self.adjust_key}.{number}.set", problem, fix)
        self._lay_flags(layers, name, coordinates, extra)
        origin = layers.origin
        nested = {**layers.nested, "pretraining": self._chain(layers.nested)}
        with at(self.path):
            addresses = {path: layer.address for path, layer in origin.items()}
            settings = m.validate(self._fill_paths(nested), addresses)
        with at(origin["variant"].address if "variant" in origin else self.path):
            spec = get_variant(settings.variant)
        with at(self.path):
            spec.check(settings)
        left = {k: v for k, v in adjusted.items() if _kinds(k, v, origin) == {"adjust"}}
        stated = {**coordinates, **extra}
        return ResolvedCell(name, coordinates, settings, control, left, stated, origin)

    def place(self, cell: str, key: str, coordinates: Mapping[str, Any]) -> str:
        """Return where the file says what a cell states: a value of an axis, or a cell's own."""
        own = f"{self.cells_key}.{cell}.set.{key}"
        return f"{self.axes_key}.{key}" if key in coordinates else own

    def before_flags(self) -> Iterator[m.Nested]:
        """Yield the settings of every cell as the file has them; `matched` grows meanwhile."""
        for point in self._points():
            yield self._layered("", point, {})[0].nested
        for cell in self.explicit:
            yield self._layered(cell.name, {}, cell.set)[0].nested

    def _layered(
        self, name: str, coordinates: dict[str, Any], extra: dict[str, Any]
    ) -> tuple[_Layered, dict[str, Any], list[tuple[int, str]]]:
        """Lay everything but the flags.

        Returns:
            The layers, what rules have set, and (rule, axis) where a rule moved what an axis says.
        """
        layers = _Layered(self.base.nested, dict(self.base.origin))
        own = Layer("cell", f"{self.path}: {self.cells_key}.{name}.set")
        layers.lay_each(coordinates, Layer("axes", f"{self.path}: {self.axes_key}"))
        layers.lay_each(extra, own)
        said = [path for k, v in coordinates.items() for path, _ in m.leaves(m.nest(k, v))]
        adjusted: dict[str, Any] = {}
        moved: list[tuple[int, str]] = []
        for number, rule in enumerate(self.adjust):
            if not all(
                same_value(m.value_at(layers.nested, key), v) for key, v in rule.when.items()
            ):
                continue
            self.matched.add(number)
            before = layers.at(said)
            layers.lay_each(rule.set, Layer("adjust", f"{self.path}: {self.adjust_key}.{number}"))
            adjusted.update(rule.set)
            if (path := layers.moved(before)) is not None:
                key = next(k for k in coordinates if f"{path}.".startswith(f"{k}."))
                moved.append((number, key))
        layers.lay_each(extra, own)  # an explicit cell has the last word over the rules
        return layers, adjusted, moved

    def _lay_flags(
        self,
        layers: _Layered,
        name: str,
        coordinates: Mapping[str, Any],
        extra: Mapping[str, Any],
    ) -> None:
        for key, value, text in self.flags:
            before = layers.at({**coordinates, **extra})
            layers.lay(m.nest(key, value), Layer("flag", "--set"))
            if (moved := layers.moved(before)) is not None:
                place = f"{self.path}: {self.place(name, moved, coordinates)}"
                problem = f"changes what {place} states, {show_value(before[moved])} in cell {name}"
                raise InputError("--set", text, problem, "leave it out, or change the file")

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
            near = near_name(name, self.paths)
            fix = (
                f"write `paths: {{{name}: null}}` into the file, then give --set paths.{name}=PATH"
            )
            problem = f"a path is written as {{{name}}}, and nothing declares it"
            fix = f"did you mean {near}? Else {fix}" if near else fix
            raise InputError(self.path, f"paths.{name}", problem, fix)
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


def _kinds(key: str, value: Any, origin: Mapping[str, Layer]) -> set[str]:
    """Return the kinds of layers that a setting's value, or the parts of one, come from."""
    paths = [path for path, _ in m.leaves(m.nest(key, value))]
    return {origin[path].kind for path in paths if path in origin}
