"""Dotted paths over nested settings: look-up of known names, merging, and readable type errors."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings import CellSettings, Kind, kind_of
from sca_bench.settings.base import models_of

Nested = dict[str, Any]


def known_paths(model: type[BaseModel] = CellSettings, prefix: str = "") -> set[str]:
    """Return every dotted path of a settings model, inner nodes included."""
    paths: set[str] = set()
    for name, info in model.model_fields.items():
        path = prefix + name
        paths.add(path)
        for inner in models_of(info):
            paths |= known_paths(inner, path + ".")
    return paths


def field_of(path: str) -> tuple[type[BaseModel], str]:
    """Return the model that holds a known dotted path, and the field's name in it."""
    models: list[type[BaseModel]] = [CellSettings]
    *parents, field = path.split(".")
    for part in parents:
        models = [
            inner
            for model in models
            if part in model.model_fields
            for inner in models_of(model.model_fields[part])
        ]
    return next(model for model in models if field in model.model_fields), field


def kind_at(path: str) -> Kind:
    """Return the kind of a known setting."""
    model, field = field_of(path)
    return kind_of(model, field)


def check_path(path: str, key: str) -> None:
    """Raise an `InputError` naming the nearest known setting if `path` is not one."""
    known = known_paths()
    if path not in known:
        raise InputError(None, key, "unknown setting", did_you_mean(path, known, "list settings"))


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
    """Lay `patch` over `base`; a mapping that names another `dataset` or `type` replaces."""
    merged = dict(base)
    for key, value in patch.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and old.get(tag) != new[tag] for tag in ("dataset", "type"))


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
            return _default(parts[: number + 1], parts[number + 1 :])
        node = node[part]
    return node


def _default(path: list[str], inside: list[str]) -> Any:
    model, field = field_of(".".join(path))
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
    """Raise an `InputError` for the keys in `nested` that are no settings."""
    faults: list[InputError] = []
    for path, _ in leaves(nested):
        try:
            check_path(path, f"{prefix}{path}")
        except InputError as fault:
            faults.append(fault)
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
        raise readable(error, origin=origin) from None


def readable(
    error: ValidationError, prefix: str = "", origin: Mapping[str, str] | None = None
) -> InputError:
    """Turn the first fault of a pydantic error into an `InputError`."""
    first = error.errors()[0]
    parts = [str(p) for p in first["loc"]]
    known = known_paths()
    path = ".".join(parts)
    source = _origin_of(path, origin or {})
    message = str(first["msg"]).removeprefix("Value error, ")
    received = first.get("input")
    if first["type"] == "missing":
        return InputError(source, prefix + path, "missing", f"expected {message.lower()}")
    if first["type"] == "extra_forbidden":
        siblings = [p for p in known if p.rpartition(".")[0] == path.rpartition(".")[0]]
        return InputError(source, prefix + path, "not a setting here", did_you_mean(path, siblings))
    if isinstance(received, Mapping) or message == str(received):
        return InputError(source, prefix + path, message)
    return InputError(source, prefix + path, f"{received!r} is wrong", message)


def _origin_of(path: str, origin: Mapping[str, str]) -> str:
    while path:
        if path in origin:
            return origin[path]
        path = path.rpartition(".")[0]
    return ""
