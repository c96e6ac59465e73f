"""A suite: the YAML that states a question, read, checked, and resolved into cells."""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.reading import SUITE_BYTES, read_text
from sca_bench.settings.options import options_of
from sca_bench.specs.encoders import TYPE_KEY, in_sam
from sca_bench.specs.readers import READERS
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import check_apart, check_num_cells
from sca_bench.study.suite.claims import VARIANT, parse_claim
from sca_bench.study.suite.no_difference import idle_flags, idle_rules, join_equal
from sca_bench.study.suite.profiles import (
    load_profile,
    patch_of,
    profile_names,
    read_mapping,
)
from sca_bench.study.suite.published_rows import PublishedRows, published_rows
from sca_bench.study.suite.resolve import ResolvedCell, Resolver
from sca_bench.study.suite.schema import ClaimEntry, Patch, SuiteFile
from sca_bench.study.suite.sides import check_claims, check_selector_key, find, point_of
from sca_bench.study.suite.yaml_values import fault_lines
from sca_bench.variants import get_variant

TO_EDITORS = "yaml-language-server:"
"""Begins a comment that names the schema by which an editor checks and completes a file."""
FIRST_OF_IMAGE = "first_of_image"
"""The subset that needs no file (`sca_bench.metrics.subsets`)."""
OTHER_PARTS = ("train", "seen", "val", "slot", "slot_by_objects", "cost")
"""What else begins the name of a score, before a slash."""
MOST_RUNS = 50_000
"""Cells times seeds of a suite: more than anybody runs, and planned within a minute."""
_Spec = TypeVar("_Spec", bound=BaseModel)


@dataclass(frozen=True)
class Suite:
    """A parsed suite in one profile.

    Attributes:
        seeds: Seeds to run.
        own_seeds: Those that the file names, whatever was asked for.
        paths: Named files and folders that its cells use, with their values.
        missing: Those that nobody has given (only where that was allowed), with where to get them.
        needs: What a run of the profile takes of a machine.
        reference: Name of the cell that all others are compared with; empty without cells.
        subsets: Name -> regions scored by themselves as well: a file, or `first_of_image`.
        notes: Of rules and flags that match nothing, and of cells with several names.
    """

    file: Path
    spec: SuiteFile
    profile: str
    statement: str
    header: str
    cells: tuple[ResolvedCell, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    claims: tuple[ClaimEntry, ...]
    axes: dict[str, list[Any]]
    overrides: tuple[str, ...]
    own_seeds: tuple[int, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, float] = field(default_factory=dict)
    published: PublishedRows = field(default_factory=PublishedRows)
    reference: str = ""
    subsets: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_suite(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    allow_missing: bool = False,
) -> Suite:
    """Read, check and resolve a suite.

    Args:
        path: The YAML file.
        profile: Profile to use; the suite's own default where None.
        overrides: `path=value` settings that win over everything; `paths.NAME=...` fills a
            named folder of the suite.
        seeds: Seeds to use in place of the suite's.
        allow_missing: Leave named paths that nobody has given as `<name>`; `missing` lists them.

    Raises:
        InputError: Any fault in the file or the overrides, in one line.
    """
    path = Path(path)
    with fault_lines(path):
        return _load_suite(path, profile, overrides, seeds, allow_missing)


def _load_suite(
    path: Path,
    profile: str | None,
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    allow_missing: bool,
) -> Suite:
    spec = read_spec(path, SuiteFile, "suite, question, axes, ...", {"sweep": "use `sweep`"})
    name = profile or spec.profile
    with at(path if profile is None else "--profile"):
        scale = load_profile(name)
    patched, given = patch_of(spec.profiles, name, scale)
    patch = given or Patch()
    with at(path):
        check_suite_keys(spec)
    resolver = Resolver(path, spec, patch, name, scale, overrides, allow_missing, patched=patched)
    named_cells = resolver.cells()
    idle = idle_rules(path, spec, name, resolver)
    cells = join_equal(named_cells, resolver)
    with at(path):
        check_claims(spec, patch, cells)
    named, where = spec.reference, "reference"
    if patch.reference is not None:
        named, where = patch.reference, f"profiles.{patched}.reference"
    subsets = spec.subsets if patch.subsets is None else patch.subsets
    subsets = {key: resolver.filled(value) for key, value in subsets.items()}
    _check_subsets(subsets, path, allow_missing)
    own_seeds = spec.seeds if patch.seeds is None else patch.seeds
    _check_seeds(own_seeds, path, "seeds")
    if seeds is None:
        seeds = own_seeds
    _check_seeds(seeds, "--seeds")
    if len(cells) * len(seeds) > MOST_RUNS:
        problem = f"{len(cells):,} cells x {len(seeds):,} seeds are too many runs"
        raise InputError(path, "seeds", problem, f"give fewer; a suite has {MOST_RUNS:,} at most")
    published = published_rows(spec, patch, path)
    notes = [*idle, *idle_flags(cells, resolver), *(cell.note for cell in cells if cell.note)]
    notes += [line for cell in cells if (line := published.conflict((cell.name, *cell.also)))]
    return Suite(
        file=path,
        spec=spec,
        profile=name,
        statement=scale.statement,
        header=header_of(path),
        cells=cells,
        seeds=tuple(seeds),
        metrics=tuple(patch.metrics or spec.metrics),
        claims=tuple(spec.claims if patch.claims is None else patch.claims),
        axes=resolver.axes,
        overrides=tuple(overrides),
        own_seeds=tuple(own_seeds),
        paths=resolver.used,
        missing={name: resolver.specs[name].get for name in sorted(resolver.missing)},
        needs=scale.needs,
        published=published,
        reference=_reference(named, cells, path, where),
        subsets=subsets,
        notes=tuple(notes),
    )


def _check_seeds(seeds: Sequence[int], where: object, key: str = "") -> None:
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(where, key, f"{list(seeds)}", "give distinct seeds >= 0")


def _reference(named: str | None, cells: Sequence[ResolvedCell], path: Path, key: str) -> str:
    """Return the name of the cell that all others are compared with."""
    own = [cell for cell in cells if not cell.control] or list(cells)
    if named is None:
        return own[0].name if own else ""
    with at(path):
        matching = find(named, [point_of(cell) for cell in own], key)
    if len(matching) != 1:
        names = f" ({'; '.join(cell.name for cell in matching[:8])})" if matching else ""
        said = f"{named!r} means {len(matching)} cells of this profile{names}"
        fix = "give all coordinates, or a name" if matching else ""
        raise InputError(path, key, said, fix or did_you_mean(named, {c.name for c in own}))
    return matching[0].name


def _check_subsets(subsets: Mapping[str, str], path: Path, allow_missing: bool) -> None:
    for name, which in subsets.items():
        where = f"subsets.{name}"
        if name in OTHER_PARTS or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            fix = f"use letters, digits, _ and -, none of {', '.join(OTHER_PARTS)}"
            raise InputError(path, where, "cannot be a subset's name", fix)
        if which != FIRST_OF_IMAGE and not allow_missing and not Path(which).is_file():
            fix = f"name a file of region ids or annotations, or {FIRST_OF_IMAGE}"
            raise InputError(path, where, f"{which} is no file", fix)


def read_spec(path: Path, model: type[_Spec], keys: str, other: Mapping[str, str]) -> _Spec:
    """Read a YAML file of one kind.

    Args:
        path: The file.
        model: Its schema.
        keys: Its first keys, for people.
        other: Key that marks another kind of file -> what to do with that.

    Raises:
        InputError: It does not follow the schema, or is of the other kind.
    """
    content = read_mapping(path, keys)
    for kind, fix in other.items():
        if kind in content:
            raise InputError(path, kind, f"this is a {kind}", fix)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise schema_fault(error, path, model) from None


def check_suite_keys(spec: SuiteFile) -> None:
    """Check every key in the file, those of profiles that are not in use included.

    Raises:
        InputError: One is no setting; or it may be one of what is named and cannot be used here.
    """
    try:
        _check_keys(spec)
    except InputError:
        named = [*m.leaves(spec.base)]
        named += [(key, value) for key, values in spec.axes.items() for value in values]
        named += [leaf for cell in spec.cells for leaf in m.leaves(cell.set)]
        for key, name in named:
            if isinstance(name, str):
                _check_named(key, name)
        raise


def _check_named(key: str, name: str) -> None:
    """Refuse a name that brings settings, where nothing usable has it.

    Raises:
        InputError: It is a variant, an encoder or a reader that cannot be used here.
    """
    try:
        if key == VARIANT:
            options_of(get_variant(name))
        elif key == TYPE_KEY:
            options_of(in_sam(name), TYPE_KEY)
        elif key.rpartition(".")[2] == "dataset":
            READERS.get(name)
    except InputError as fault:
        fault.key = key
        raise


def _check_keys(spec: SuiteFile) -> None:
    m.check_keys(spec.base, "base.")
    for key in (k for rule in spec.unless for k in rule):
        m.check_path(key, f"unless.{key}")
    _check_layer(spec, "", spec.one_at_a_time)
    for name, patch in spec.profiles.items():
        if name not in profile_names():
            fix = did_you_mean(name, profile_names())
            raise InputError(None, f"profiles.{name}", "no such profile", fix)
        m.check_keys(patch.base, f"profiles.{name}.base.")
        _check_layer(patch, f"profiles.{name}.", spec.one_at_a_time)


def _check_layer(layer: SuiteFile | Patch, prefix: str, one_at_a_time: bool) -> None:
    ids = [claim.id for claim in layer.claims or ()]
    known = m.known_paths() if ids else ()
    for claim in layer.claims or ():
        parsed = parse_claim(claim.says, f"{prefix}claims.{claim.id}")
        for side in (parsed.left, parsed.right):
            for axis in side.where:
                check_selector_key(axis, f"{prefix}claims.{claim.id}", known)
        if claim.margin is not None and parsed.comparator in (">", "<"):
            fix = "leave it out, or claim <= or >="
            raise InputError(None, f"{prefix}claims.{claim.id}.margin", "has no meaning here", fix)
        if ids.count(claim.id) > 1:
            raise InputError(None, f"{prefix}claims.{claim.id}", "two claims have this id")
    check_num_cells(layer.axes or {}, one_at_a_time, f"{prefix}axes")
    check_apart(layer.axes or {}, f"{prefix}axes")
    for key, values in (layer.axes or {}).items():
        check_cell_key(key, f"{prefix}axes.{key}")
        if not values or any(values.count(v) > 1 for v in values):
            fix = "give distinct values, at least one"
            raise InputError(None, f"{prefix}axes.{key}", f"{values}", fix)
    for name, stage in (layer.stages or {}).items():
        parts = {"data": stage.data, "train": stage.train}
        m.check_keys(parts, f"{prefix}stages.{name}.")
    for number, rule in enumerate(layer.adjust or ()):
        check_apart(rule.set, f"{prefix}adjust.{number}.set")
        for key in (*rule.when, *rule.set):
            check_cell_key(key, f"{prefix}adjust.{key}")
    for cell in layer.cells or ():
        for key in cell.set:
            check_cell_key(key, f"{prefix}cells.{cell.name}.set.{key}")
        check_apart(cell.set, f"{prefix}cells.{cell.name}.set")


def check_cell_key(key: str, entry: str, said: m.Said = None) -> None:
    """Refuse a key that is no setting of one cell.

    Args:
        key: The setting.
        entry: The file's key that names it, for the error.
        said: Settings that say which variant all cells are of; None where they are of several.
    """
    m.check_path(key, entry, said)
    if key.split(".")[0] == "runtime":
        fix = "set it in base, in a profile, or with --set"
        raise InputError(None, entry, "holds for a whole run, not for one cell", fix)


def schema_fault(error: ValidationError, path: Path, model: type[BaseModel]) -> InputError:
    """Turn the faults of a file's schema into a line each, with the nearest key.

    Args:
        error: What validating the file against `model` raised.
        path: The file.
        model: Schema of the whole file.
    """
    faults: dict[str, InputError] = {}
    for detail in error.errors()[: m.MOST_FAULTS]:
        key = ".".join(str(p) for p in detail["loc"])
        faults.setdefault(key, _schema_fault(detail, key, path, model))
    first, *first.others = faults.values()
    return first


def _schema_fault(detail: Any, key: str, path: Path, model: type[BaseModel]) -> InputError:
    if detail["type"] == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        return InputError(path, key, "unknown key", did_you_mean(str(detail["loc"][-1]), known))
    if detail["type"] == "missing":
        return InputError(path, key, "missing")
    return InputError(path, key, f"{detail.get('input')!r} is wrong", m.in_words(detail))


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    """Return the keys that may stand at a place of a file: indices and names lead into models."""
    models = [model]
    for part in location:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        if fields:  # else an index of a list, or a name in a mapping: the models stay
            models = [inner for info in fields for inner in _models_under(info.annotation)]
    return {name for m in models for name in m.model_fields}


def _models_under(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models_under(part)]


def header_of(path: Path) -> str:
    """Return the comment at the top of a file, without what it says to editors."""
    text = read_text(path, SUITE_BYTES)
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    said = [line.lstrip("# ").rstrip() for line in lines]
    return "\n".join(line for line in said if not line.startswith(TO_EDITORS))
