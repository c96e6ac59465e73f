"""The page of all settings: what each one does, its type, its unit, and its default by profile."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sca_bench.settings import CellSettings, kind_of
from sca_bench.settings.base import models_of
from sca_bench.study.suite import merge
from sca_bench.study.suite.profiles import load_profile, profile_names

KINDS = {
    "result": "changes numbers, so another value makes another cell",
    "cost": "changes time or memory only",
    "path": "names a file or folder; its content changes numbers, its name does not",
    "label": "is for people; it changes nothing",
}
"""Kind of a setting -> what it may change."""
UNITS = {
    "_px": "pixels",
    "_gib": "GiB",
    "_ratio": "share of the learning rate",
    "steps": "optimiser steps",
    "_every": "optimiser steps",
    "_tokens": "tokens",
    "seed": "",
    "images_per_batch": "images",
    "regions_per_image": "regions",
    "eval_regions": "regions",
    "_dim": "channels",
    "image_grid": "positions a side",
    "margin": "share of the box's side",
    "threads": "CPU threads",
    "jobs": "processes",
    "workers": "processes",
    "lsj_scale": "factor on the image's size",
    "weight": "relative share",
    "num_": "count",
}
"""End or beginning of a number's name -> what it is counted in; the first that fits."""


def text() -> str:
    """Return the page."""
    parts = [
        "# Every setting",
        "Made from the settings' own classes when the site is built. A suite states settings below"
        " `base:`, `axes:` and `set:`, a command with `--set PATH=VALUE`; "
        "[Suites](../suites.md) says how they are put together.",
        "*Kind* says what a setting may change: "
        + "; ".join(f"`{kind}` {meaning}" for kind, meaning in KINDS.items())
        + ". *Default* is the value of the class; a [profile](../glossary.md#profile) that states"
        " another one is named with its own. The same facts are printed by `sca-bench describe`.",
    ]
    parts += ["## The cell itself", *_leaves(CellSettings, "")]
    for name, info in CellSettings.model_fields.items():
        inner = models_of(info)
        if inner and name != "data":
            parts += _section(inner[0], name)
    parts += _section(typing.cast("type[BaseModel]", CellSettings.model_fields["data"].annotation), "data")
    splits = models_of(merge.field_of("data.train")[0].model_fields["train"])
    for model in splits:
        tag = typing.get_args(model.model_fields["dataset"].annotation)[0]
        parts += [
            f"### `dataset: {tag}`",
            _doc(model),
            "Below `data.train`, `data.val` and `data.test`, and below a stage's `data.train`.",
            *_leaves(model, "data.train.", skip=("dataset",), level=4, anchor=f"{tag}."),
        ]
    return "\n\n".join(parts) + "\n"


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    yield f"## `{path}`"
    yield _doc(model)
    yield from _leaves(model, f"{path}.")
    for name, info in model.model_fields.items():
        if models_of(info) and not any("dataset" in m.model_fields for m in models_of(info)):
            for inner in models_of(info):
                if not set(inner.model_fields) <= {"train"} and inner.__name__ != "TrainSettings":
                    yield from _leaves(inner, f"{path}.{name}.")


def _leaves(
    model: type[BaseModel],
    prefix: str,
    skip: tuple[str, ...] = (),
    level: int = 3,
    anchor: str = "",
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if name in skip or models_of(info):
            continue
        path = f"{prefix}{name}"
        ident = f"{anchor or prefix}{name}".replace(".", "-")
        yield f"{'#' * level} `{path}` {{ #{ident} }}"
        yield sentence(model, name)
        facts = [f"**Type:** {type_in_words(info)}"]
        if unit := unit_of(name, info):
            facts.append(f"**Unit:** {unit}")
        facts.append(f"**Kind:** `{kind_of(model, name)}`")
        facts.append(f"**Default:** {_default(info, '' if anchor else path)}")
        yield " · ".join(facts)


def _default(info: FieldInfo, path: str) -> str:
    own = "required" if info.is_required() else _value(info.get_default(call_default_factory=True))
    said = []
    for profile in profile_names() if path else ():
        value = merge.get(load_profile(profile).base, path)
        if value is not None and _value(value) != own:
            said.append(f"{_value(value)} in `{profile}`")
    return "; ".join([own, *said])


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return "empty" if value == "" else f"`{value}`"


def type_in_words(info: FieldInfo) -> str:
    """Return what a setting takes, in words: kinds of values, choices and limits."""
    limits = []
    for mark in info.metadata:
        for kind, sign, at in ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le"), (Lt, "<", "lt")):
            if isinstance(mark, kind):
                limits.append(f"{sign} {getattr(mark, at)}")
    return ", ".join([_words(info.annotation), *limits])


def _words(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value or repr(value)}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in inner)
    if origin is tuple:
        kinds = [_words(part) for part in inner if part is not Ellipsis]
        return f"list of {kinds[0]}" if Ellipsis in inner else f"list: {', '.join(kinds)}"
    plain = {
        int: "whole number",
        float: "number",
        bool: "true or false",
        str: "text",
        type(None): "null",
    }
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


def unit_of(name: str, info: FieldInfo) -> str:
    """Return what a number is counted in; empty where it has no unit."""
    words = _words(info.annotation)
    if "number" not in words:
        return ""
    fits = (u for part, u in UNITS.items() if name.endswith(part) or name.startswith(part))
    return next(fits, "")


def sentence(model: type[BaseModel], field: str) -> str:
    """Return what stands below a field in its class."""
    for base in model.__mro__:
        if field in getattr(base, "__annotations__", {}) and issubclass(base, BaseModel):
            return _docstrings(base).get(field, "")
    return ""


@functools.cache
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0].body  # type: ignore[attr-defined]
    return {
        first.target.id: " ".join(second.value.value.split())
        for first, second in zip(body, body[1:], strict=False)
        if isinstance(first, ast.AnnAssign)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }


def _doc(model: type[BaseModel]) -> str:
    return inspect.getdoc(model) or ""
