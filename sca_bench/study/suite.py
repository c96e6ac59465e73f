"""A suite: the YAML that states a question, and its resolution into cells.

Order of precedence, weakest first: the profile's base, the suite's base, the suite's patch for the
profile, the axis values, `adjust` rules that match, an explicit cell's `set`, `--set`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings import CellSettings
from sca_bench.study import merge as m
from sca_bench.study.claims import parse_claim
from sca_bench.study.points import axis_points, cell_name
from sca_bench.study.published_rows import PublishedRows, published_rows
from sca_bench.study.schema import Claim, Patch, SuiteFile
from sca_bench.study.values import load_yaml
from sca_bench.variants import get_variant


@dataclass(frozen=True)
class ResolvedCell:
    """One cell before it has a key."""

    name: str
    coordinates: dict[str, Any]
    settings: CellSettings
    control: bool = False
    adjusted: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A parsed suite in one profile."""

    file: Path
    spec: SuiteFile
    profile: str
    statement: str
    header: str
    cells: tuple[ResolvedCell, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    claims: tuple[Claim, ...]
    axes: dict[str, list[Any]]
    overrides: tuple[str, ...]
    published: PublishedRows = field(default_factory=PublishedRows)


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        InputError: The file is missing or is not YAML.
    """
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = did_you_mean(path.name, near) if near else ""
        raise InputError(path, "", "no such file", fix) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        raise InputError(path, line, f"not YAML ({getattr(error, 'problem', error)})") from None


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("sca_bench") / "profiles"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith("yaml"))


@dataclass(frozen=True)
class Profile:
    """One shipped scale.

    Attributes:
        base: Settings fragment that every suite builds on.
        statement: What it says about its weights and data; shown with every result.
        paths: Named folders it needs, with defaults; None has to be given by the user.
    """

    base: dict[str, Any]
    statement: str
    paths: dict[str, str | None]


def load_profile(name: str, where: object) -> Profile:
    """Read a shipped profile; `extends` lays it over another one."""
    if name not in profile_names():
        raise InputError(where, "profile", repr(name), did_you_mean(name, profile_names()))
    path = Path(str(resources.files("sca_bench") / "profiles" / f"{name}.yaml"))
    content = read_yaml(path)
    base, statement = content["base"], " ".join(str(content.get("statement", "")).split())
    paths = content.get("paths", {})
    if parent := content.get("extends"):
        above = load_profile(parent, path)
        base, paths = m.merge(above.base, base), above.paths | paths
        statement = statement or above.statement
    m.check_keys(base, path, "base.")
    return Profile(base, statement, paths)


def load_suite(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Suite:
    """Read, check and resolve a suite.

    Args:
        path: The YAML file.
        profile: Profile to use; the suite's own default where None.
        overrides: `path=value` settings that win over everything; `paths.NAME=...` fills a
            named folder of the suite.
        seeds: Seeds to use in place of the suite's.

    Raises:
        InputError: Any fault in the file or the overrides, in one line.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(path, "", "expected a mapping with suite, question, axes, ...")
    try:
        spec = SuiteFile.model_validate(content)
    except ValidationError as error:
        raise _suite_fault(error, path) from None
    name = profile or spec.profile
    scale = load_profile(name, path if profile is None else "--profile")
    patch = spec.profiles.get(name, Patch())
    axes = spec.axes if patch.axes is None else patch.axes
    _check_suite_keys(spec, path)
    resolver = _Resolver(path, spec, patch, name, scale, overrides)
    if seeds is None:
        seeds = spec.seeds if patch.seeds is None else patch.seeds
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(path, "seeds", f"{list(seeds)}", "give distinct seeds >= 0")
    return Suite(
        file=path,
        spec=spec,
        profile=name,
        statement=scale.statement,
        header=_header(path),
        cells=resolver.cells(axes),
        seeds=tuple(seeds),
        metrics=tuple(patch.metrics or spec.metrics),
        claims=tuple(spec.claims if patch.claims is None else patch.claims),
        axes=axes,
        overrides=tuple(overrides),
        published=published_rows(spec, name, path),
    )


class _Resolver:
    """Merges the layers of one suite into cells and remembers where each value came from."""

    def __init__(
        self,
        path: Path,
        spec: SuiteFile,
        patch: Patch,
        profile: str,
        scale: Profile,
        overrides: Sequence[str],
    ) -> None:
        self.path, self.spec, self.patch = path, spec, patch
        self.adjust = spec.adjust if patch.adjust is None else patch.adjust
        self.explicit = spec.cells if patch.cells is None else patch.cells
        self.paths = scale.paths | spec.paths
        self.flags: list[tuple[str, Any]] = []
        for text in overrides:
            self._take_override(text)
        self.origin: dict[str, str] = {}
        self.base: m.Nested = {}
        for where, layer in (
            (f"profile {profile}", scale.base),
            (str(path), spec.base),
            (str(path), patch.base),
        ):
            self.base = m.merge(self.base, layer)
            self.origin.update({p: where for p, _ in m.leaves(layer)})

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
        m.check_path(key, "--set", key)
        try:
            self.flags.append((key, load_yaml(raw)))
        except yaml.YAMLError:
            raise InputError("--set", key, f"{raw!r} is not a YAML value") from None

    def cells(self, axes: dict[str, list[Any]]) -> tuple[ResolvedCell, ...]:
        points = self._points(axes)
        found = [self._cell(cell_name(c, self.spec.suite), c, {}, False) for c in points]
        for cell in self.explicit:
            found.append(self._cell(cell.name, {}, cell.set, cell.control))
        if not found:
            raise InputError(self.path, "unless", "leaves no cell of the axes", "loosen a rule")
        names = [cell.name for cell in found]
        for name in names:
            if names.count(name) > 1:
                raise InputError(self.path, "cells", f"two cells are called {name!r}")
        return tuple(found)

    def _points(self, axes: dict[str, list[Any]]) -> list[dict[str, Any]]:
        if not axes:
            return [] if self.explicit else [{}]
        return axis_points(axes, self.spec.one_at_a_time, self.spec.unless)

    def _cell(
        self, name: str, coordinates: dict[str, Any], extra: dict[str, Any], control: bool
    ) -> ResolvedCell:
        origin = dict(self.origin)
        nested = self.base

        def lay(values: dict[str, Any], where: str) -> None:
            nonlocal nested
            for key, value in values.items():
                nested = m.merge(nested, m.nest(key, value))
                origin[key] = where

        lay(coordinates, f"{self.path}: axes")
        where_set = f"{self.path}: cells.{name}.set"
        lay(extra, where_set)
        adjusted: dict[str, Any] = {}
        for rule in self.adjust:
            if all(m.get(nested, key) == value for key, value in rule.when.items()):
                lay(rule.set, f"{self.path}: adjust")
                adjusted.update(rule.set)
        lay(extra, where_set)  # an explicit cell has the last word over the rules
        lay(dict(self.flags), "--set")
        settings = m.validate(self._fill_paths(nested), origin, self.path)
        get_variant(settings.variant, origin.get("variant", str(self.path)))
        return ResolvedCell(name, coordinates, settings, control, adjusted)

    def _fill_paths(self, nested: Any) -> Any:
        if isinstance(nested, dict):
            return {key: self._fill_paths(value) for key, value in nested.items()}
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
        if value is None:
            raise InputError(
                self.path, f"paths.{name}", "not set", f"give --set paths.{name}=FOLDER"
            )
        return value


def _check_suite_keys(spec: SuiteFile, path: Path) -> None:
    """Check every key in the file, those of profiles that are not in use included."""
    m.check_keys(spec.base, path, "base.")
    for key in (k for rule in spec.unless for k in rule):
        m.check_path(key, path, f"unless.{key}")
    _check_layer(spec, path, "")
    for name, patch in spec.profiles.items():
        where = f"profiles.{name}"
        if name not in profile_names():
            fix = did_you_mean(name, profile_names())
            raise InputError(path, where, "no such profile", fix)
        m.check_keys(patch.base, path, f"{where}.base.")
        _check_layer(patch, path, f"{where}.")


def _check_layer(layer: SuiteFile | Patch, path: Path, prefix: str) -> None:
    ids = [claim.id for claim in layer.claims or ()]
    for claim in layer.claims or ():
        parse_claim(claim.says, path, f"{prefix}claims.{claim.id}")
        if ids.count(claim.id) > 1:
            raise InputError(path, f"{prefix}claims.{claim.id}", "two claims have this id")
    for key, values in (layer.axes or {}).items():
        where = f"{prefix}axes.{key}"
        _check_cell_key(key, path, where)
        if not values or any(values.count(v) > 1 for v in values):
            raise InputError(path, where, f"{values}", "give distinct values, at least one")
    for rule in layer.adjust or ():
        for key in (*rule.when, *rule.set):
            _check_cell_key(key, path, f"{prefix}adjust.{key}")
    for cell in layer.cells or ():
        for key in cell.set:
            _check_cell_key(key, path, f"{prefix}cells.{cell.name}.set.{key}")


def _check_cell_key(key: str, path: Path, where: str) -> None:
    m.check_path(key, path, where)
    if key.split(".")[0] == "runtime":
        fix = "set it in base, in a profile, or with --set"
        raise InputError(path, where, "holds for a whole run, not for one cell", fix)


def _suite_fault(error: ValidationError, path: Path) -> InputError:
    first = error.errors()[0]
    key = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        top = first["loc"][-1]
        model: type[BaseModel] = SuiteFile
        if "profiles" in first["loc"][:1]:
            model = Patch
        return InputError(path, key, "unknown key", did_you_mean(str(top), model.model_fields))
    if first["type"] == "missing":
        return InputError(path, key, "missing")
    return InputError(path, key, f"{first.get('input')!r} is wrong", str(first["msg"]))


def _header(path: Path) -> str:
    lines = itertools.takewhile(
        lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()
    )
    return "\n".join(line.lstrip("# ").rstrip() for line in lines)
