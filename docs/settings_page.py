"""The page of all settings: what each one does, its type, its unit, and its default by profile."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sca_bench.cli.lookup.setting_text import type_text
from sca_bench.settings import CellSettings, kind_of
from sca_bench.settings.base import ByName, models_of
from sca_bench.settings.sentences import sentence_of
from sca_bench.study.suite import merge
from sca_bench.study.suite.profiles import load_profile, profile_names
from sca_bench.study.suite.yaml_values import show_value

ABOUT = """# Every setting

Made from the settings' own classes when the site is built; `sca-bench describe NAME` prints the
same. A suite states settings under `base:`, `axes:` and `set:`, and a command with
`--set PATH=VALUE`. [Suites](../suites.md) says how these are put together.

*Kind* says what a setting may change: `result` changes scores, so another value makes another
[cell](../glossary.md#cell); `path` names a file or folder, whose content changes scores and whose
name does not; `cost` changes time or memory only; `label` changes nothing. *Default* is the value
if nobody says anything. Where a [profile](../glossary.md#profile) (the scale of a suite) says
something else, its value follows. `null` means: none."""
UNITS = {
    "px": "pixels of the original image",
    "gib": "GiB",
    "steps": "optimiser steps",
    "every": "optimiser steps",
    "tokens": "tokens",
    "batch": "images",
    "image": "regions",
    "regions": "regions",
    "images": "images",
    "layers": "layers",
    "heads": "heads",
    "dim": "channels",
    "grid": "image tokens a side",
    "margin": "share of the box's side",
    "threads": "CPU threads of a process",
    "jobs": "processes",
    "workers": "processes",
    "scale": "factor on the image's size",
    "ratio": "share of the largest rate",
    "beams": "beams",
}
"""Last word of a number's name -> what the number counts."""
_NO_UNIT = ("random_seed", "prompt_seed", "order_seed", "first_seed")


def text() -> str:
    """Return the page."""
    parts = [ABOUT, "## `variant` and single settings", *_fields(CellSettings, "")]
    for name, info in CellSettings.model_fields.items():
        models = models_of(info)
        if models and not _marks(info) and not _repeats(info):
            parts += [f"## `{name}`", _about(models[0]), *_below(models[0], f"{name}.")]
    return "\n\n".join(parts) + "\n"


def _repeats(info: FieldInfo) -> bool:
    """Say whether a field is a list of stages, which are made of what stands elsewhere."""
    return "tuple" in str(info.annotation)


def _below(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield what stands in a section, and in the sections inside it."""
    yield from _fields(model, prefix)
    readers: dict[str, type[BaseModel]] = {}
    for info in model.model_fields.values():
        for mark in _marks(info):
            readers |= {} if mark.beside else dict(mark.models())
    for dataset, reader in readers.items():
        yield f"### `dataset: {dataset}` {{ #reader-{dataset} }}"
        yield _about(reader)
        yield f"For `{prefix}train`, `{prefix}val`, `{prefix}test`, and `data.train` of a stage."
        yield from _fields(reader, "", ("dataset",), level=4, anchor=f"{dataset}-")


def _fields(
    model: type[BaseModel],
    prefix: str,
    skip: tuple[str, ...] = (),
    level: int = 3,
    anchor: str = "",
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        beside = any(mark.beside for mark in _marks(info))
        if name in skip or (models_of(info) and not _repeats(info) and not beside):
            continue
        path = f"{prefix}{name}"
        yield f"{'#' * level} `{path}` {{ #{anchor}{path.replace('.', '-')} }}"
        yield sentence_of(model, name)
        kind = kind_of(model, name)
        facts = {"type": type_text(info, kind), "unit": unit_of(name, info), "kind": f"`{kind}`"}
        facts["default"] = _default(info, "" if anchor else path)
        yield " · ".join(f"**{key}:** {value}" for key, value in facts.items() if value)


def _marks(info: FieldInfo) -> list[ByName]:
    return [mark for mark in info.metadata if isinstance(mark, ByName)]


def _default(info: FieldInfo, path: str) -> str:
    if info.is_required():
        own = "none: it has to be given"
    else:
        own = _shown(info.get_default(call_default_factory=True))
    said: dict[str, list[str]] = {}
    for profile in profile_names() if path else ():
        value = merge.get(load_profile(profile).base, path)
        if value is not None and _shown(value) != own:
            said.setdefault(_shown(value), []).append(f"`{profile}`")
    return "; ".join([own, *(f"{value} in {' and '.join(who)}" for value, who in said.items())])


def _shown(value: Any) -> str:
    if value is None:
        return "`null`"
    is_empty = isinstance(value, BaseModel) or value in ("", (), [])
    return "empty" if is_empty else f"`{show_value(value)}`"


def unit_of(name: str, info: FieldInfo) -> str:
    """Return what a number counts; empty where it has no unit, or is no number."""
    is_number = any(kind in str(info.annotation) for kind in ("int", "float"))
    if not is_number or name in _NO_UNIT:
        return ""
    return UNITS.get(name.rpartition("_")[2], "")


def _about(model: type[BaseModel]) -> str:
    return inspect.getdoc(model) or ""
