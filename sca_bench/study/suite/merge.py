"""Dotted paths over nested settings: look-up of known names, merging, and readable type errors."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings import CellSettings, Kind, kind_of
from sca_bench.settings.base import ByName, models_of
from sca_bench.specs.readers import READERS
from sca_bench.variants import get_variant

Nested = dict[str, Any]
Said = Mapping[str, Any] | BaseModel | None
MOST_FAULTS = 20
"""Faults of one file that are named, each with its nearest key and its line."""
_TAGS = ("variant", "dataset", "type")
"""Settings that say what other settings there are: beside `options`, or in the same mapping."""


def known_paths(model: type[BaseModel] = CellSettings, prefix: str = "") -> set[str]:
    """Return every dotted path of a settings model, inner nodes included.

    Settings of their own that variants bring are in it, under `options`.
    """
    paths: set[str] = set()
    for name, info in model.model_fields.items():
        path = prefix + name
        paths.add(path)
        for inner in models_of(info):
            paths |= known_paths(inner, path + ".")
    return paths


def holders_of(path: str, said: Said = None) -> list[type[BaseModel]]:
    """Return the models that have the field at the end of a dotted path; none for no setting.

    Args:
        path: The path.
        said: Settings, which say what variant it is, and so what its own settings are; without
            them the settings of every variant are looked through.
    """
    models: list[type[BaseModel]] = [CellSettings]
    *parents, field = path.split(".")
    node: Said = said
    for part in parents:
        holding = [model for model in models if part in model.model_fields]
        models = [inner for model in holding for inner in _inside(model, part, node)]
        node = None if said is None else _part(node, part) or {}
    return [model for model in models if field in model.model_fields]


def _inside(model: type[BaseModel], field: str, said: Said) -> list[type[BaseModel]]:
    """Return the models that a field may hold, beside what is said in the same settings."""
    info = model.model_fields[field]
    mark = _mark_beside(model, field)
    if mark is None or said is None:
        return models_of(info)
    found = mark.models().get(_tag(model, mark, said))
    return [] if found is None else [found]


def _mark_beside(model: type[BaseModel], field: str) -> ByName | None:
    """Return what marks a field whose model is named by another field beside it."""
    marks = (m for m in model.model_fields[field].metadata if isinstance(m, ByName))
    return next((mark for mark in marks if mark.beside), None)


def _tag(model: type[BaseModel], mark: ByName, said: Said) -> str:
    given = _part(said, mark.tag)
    return str(model.model_fields[mark.tag].default if given is None else given)


def _part(node: Said, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else getattr(node, name, None)


def kinds_at(path: str, said: Said = None) -> set[Kind]:
    """Return the kinds of a known setting; none where it is one of other variants only.

    Args:
        path: The path.
        said: As for `holders_of`. Two variants may each have a setting of one name and two kinds.
    """
    field = path.rpartition(".")[2]
    return {kind_of(model, field) for model in holders_of(path, said)}


def moves_numbers(path: str, said: Said = None) -> bool:
    """Say whether a setting may change a number: it is more than a cost or a label."""
    return bool(kinds_at(path, said) - {"cost", "label"})


def check_path(path: str, key: str, said: Said = None) -> None:
    """Refuse a path that is no setting.

    Args:
        path: The path.
        key: The file's key (or the flag) that names it, for the error.
        said: Settings that name a variant, as for `holders_of`.

    Raises:
        InputError: It is none, and the nearest one is suggested; or the variant cannot be used.
    """
    if not holders_of(path, said):
        if said is not None:
            get_variant(str(_part(said, "variant")))  # one that is missing is the fault
            raise not_its_own(path, key, said) or _unknown(path, key)
        raise _unknown(path, key)


def _unknown(path: str, key: str) -> InputError:
    return InputError(
        None, key, "unknown setting", did_you_mean(path, known_paths(), "list settings")
    )


def not_its_own(path: str, key: str, said: Said) -> InputError | None:
    """Return the error for a setting that only other variants have, or none; None otherwise.

    Args:
        path: The path, which is no setting where this is said.
        key: The file's key that names it, for the error.
        said: Settings, which say what variant it is.
    """
    parts, node = path.split("."), said
    model: type[BaseModel] = CellSettings
    for number, part in enumerate(parts[:-1]):
        if part not in model.model_fields:
            return None
        inside = _inside(model, part, node)
        mark = _mark_beside(model, part)
        if mark is not None:
            return _refused(mark, _tag(model, mark, node), inside, parts, number, key)
        model, node = inside[0] if inside else BaseModel, _part(node, part) or {}
    return None


def _refused(
    mark: ByName, name: str, own: list[type[BaseModel]], parts: list[str], number: int, key: str
) -> InputError:
    prefix, inner = ".".join(parts[: number + 1]) + ".", ".".join(parts[number + 1 :])
    others = [n for n, model in mark.models().items() if inner in known_paths(model)]
    with_it = f"it is one of {', '.join(others)}" if others else ""
    if not own or not own[0].model_fields:
        problem = f"{name} has no settings of its own"
        return InputError(None, key, problem, with_it or "leave it out")
    known = known_paths(own[0], prefix)
    fix = with_it or did_you_mean(prefix + inner, known)
    return InputError(None, key, f"{name} has no such setting", fix)


def leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) for every leaf of nested mappings."""
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path + ".")
        else:
            yield path, value


def nest(path: str, value: Any) -> Nested:
    """Turn `a.b: v` into `{a: {b: v}}`."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return typing.cast(Nested, value)


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Nested:
    """Lay `patch` over `base`; a mapping that names another `dataset` or `type` replaces.

    Where the patch names another `variant`, the `options` of the one below go: they were its own.
    """
    merged = dict(base)
    if drops_options(base, patch):
        del merged["options"]
    for key, value in patch.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def drops_options(base: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Say whether a layer changes the variant whose `options` the layers below give."""
    given = "options" in base and "variant" in base and "variant" in patch
    return given and base["variant"] != patch["variant"]


def tags_first(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of one layer, so that none is lost to a tag that comes after it."""
    return dict(sorted(values.items(), key=lambda item: not is_tag(item[0])))


def is_tag(path: str) -> bool:
    """Say whether a setting says what other settings there are."""
    return path.rpartition(".")[2] in _TAGS


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and old.get(tag) != new[tag] for tag in _TAGS[1:])


def get(nested: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None."""
    node: Any = nested
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def value_at(nested: Mapping[str, Any], path: str) -> Any:
    """Return the value of a known setting: what `nested` says, else its default."""
    parts = path.split(".")
    node: Any = nested
    for number, part in enumerate(parts):
        if not isinstance(node, Mapping):
            return None  # of an object that is not there
        if part not in node:
            return _default(nested, parts[: number + 1], parts[number + 1 :])
        node = node[part]
    return node


def _default(nested: Mapping[str, Any], path: list[str], inside: list[str]) -> Any:
    holders = holders_of(".".join(path), nested)
    if not holders:
        return None  # one of other variants
    model, field = holders[0], path[-1]
    if inside and _mark_beside(model, field) is not None:
        return _default(nested, [*path, inside[0]], inside[1:])
    info = model.model_fields[field]
    if info.is_required():
        return None
    value = info.get_default(call_default_factory=True)
    for part in inside:
        value = getattr(value, part, None)
    if isinstance(value, BaseModel):
        return value.model_dump()
    return list(value) if isinstance(value, tuple) else value


def check_keys(nested: Mapping[str, Any], prefix: str) -> None:
    """Raise an `InputError` for the keys in `nested` that are no settings.

    Where `nested` names a variant, `options` are settings of that one.
    """
    faults: list[InputError] = []
    for path, _ in leaves(nested):
        try:
            check_path(path, f"{prefix}{path}", nested if "variant" in nested else None)
        except InputError as fault:
            faults.append(fault)
        if len(faults) == MOST_FAULTS:
            break
    if faults:
        first, *first.others = faults
        raise first


def validate(nested: Mapping[str, Any], origin: Mapping[str, str]) -> CellSettings:
    """Build `CellSettings`; the first fault becomes one line naming where the value came from.

    Args:
        nested: Merged settings.
        origin: Dotted path -> the file (or flag) that set it, as far as that is known.
    """
    try:
        return CellSettings.model_validate(nested)
    except ValidationError as error:
        raise readable(error, origin=origin, said=nested) from None


def readable(
    error: ValidationError,
    prefix: str = "",
    origin: Mapping[str, str] | None = None,
    said: Said = None,
) -> InputError:
    """Turn the first fault of a pydantic error into an `InputError`.

    Args:
        error: The error.
        prefix: What stands before its key.
        origin: As for `validate`.
        said: The settings that were read.
    """
    first = error.errors()[0]
    parts = [str(p) for p in first["loc"]]
    path = ".".join(parts)
    source = _origin_of(path, origin or {})
    message = in_words(first)
    received = first.get("input")
    if first["type"] == "missing":
        return InputError(source, prefix + path, "missing", f"expected {message.lower()}")
    if first["type"] == "extra_forbidden":
        if said is not None and (refused := not_its_own(path, prefix + path, said)):
            refused.where = source
            return refused
        fix = did_you_mean(path, _siblings(path, said))
        return InputError(source, prefix + path, "not a setting here", fix)
    if isinstance(received, Mapping) or message == str(received):
        return InputError(source, prefix + path, message)
    return InputError(source, prefix + path, f"{received!r} is wrong", message)


_WORDS = {
    "list_type": "expected a list, such as [{received}]",
    "tuple_type": "expected a list, such as [{received}]",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping of settings",
    "string_type": "expected a text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "finite_number": "expected a finite number",
    "greater_than": "expected a number above {gt:g}",
    "greater_than_equal": "expected {ge:g} or more",
    "less_than": "expected a number below {lt:g}",
    "less_than_equal": "expected {le:g} or less",
    "literal_error": "expected {expected}",
    "too_short": "expected {min_length} or more of them",
}
"""Pydantic's kinds of faults, in the words of this package."""


def in_words(detail: Mapping[str, Any]) -> str:
    """Return what one fault that pydantic found says was expected."""
    words = _WORDS.get(str(detail["type"]))
    if words is None:
        return str(detail["msg"]).removeprefix("Value error, ")
    return words.format(**{"received": detail.get("input"), **detail.get("ctx", {})})


def _siblings(path: str, said: Said) -> list[str]:
    """Return the settings that may stand beside a path: of a split, those of its own reader."""
    parent = path.rpartition(".")[0]
    node = get(said, parent) if isinstance(said, Mapping) else None
    name = node.get("dataset") if isinstance(node, Mapping) else None
    spec = READERS.all().get(name) if isinstance(name, str) else None
    if spec is not None and not spec.fault:
        return [f"{parent}.{field}" for field in spec.settings.model_fields]
    return [known for known in known_paths() if known.rpartition(".")[0] == parent]


def _origin_of(path: str, origin: Mapping[str, str]) -> str:
    while path:
        if path in origin:
            return origin[path]
        path = path.rpartition(".")[0]
    return ""
