"""Settings in words: what one does, what it takes, what it is in a profile, what it may change."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console

from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.output import print_json, text_table
from sca_bench.settings import CellSettings, EncoderSettings, SamSettings, kind_of
from sca_bench.settings.base import ByName, Kind, models_of
from sca_bench.settings.sentences import heading_of, sentence_of
from sca_bench.specs.encoders import ENCODERS
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.profiles import load_profile
from sca_bench.study.suite.yaml_values import show_value
from sca_bench.variants import VARIANTS

_KINDS: dict[Kind, str] = {
    "result": "changes numbers, so another value is another cell",
    "cost": "changes time or memory only; no number moves",
    "path": "a file or folder: its content counts, not its name",
    "label": "a label for people; nothing else changes",
}
_SCALARS = {bool: "true or false", int: "a whole number", float: "a number"}
_UNITS = {"px": "pixels", "gib": "GiB", "mib": "MiB", "s": "seconds"}
_REPEATED = {"data.val": "data.train", "data.test": "data.train", "pretraining": "data and train"}
"""Sections that `list settings` shows only where they are asked for -> where the same stands."""


@dataclass(frozen=True, slots=True)
class Place:
    """One field that a dotted path may mean.

    Attributes:
        model: The settings class that holds it.
        field: Its name there.
        of: Which choice brings it, such as the data set `scenes`; empty where it is always there.
    """

    model: type[BaseModel]
    field: str
    of: str = ""

    @property
    def info(self) -> FieldInfo:
        """The field."""
        return self.model.model_fields[self.field]


def places_of(path: str) -> list[Place]:
    """Return every field that a known path may mean: one for each choice that brings it."""
    *parents, field = path.split(".")
    models: list[tuple[str, type[BaseModel]]] = [("", CellSettings)]
    for part in parents:
        fields = [(of, model.model_fields.get(part)) for of, model in models]
        models = [
            (name or of, inner)
            for of, info in fields
            if info is not None
            for name, inner in _choices(info)
        ]
    return [Place(model, field, of) for of, model in models if field in model.model_fields]


def _choices(info: FieldInfo) -> list[tuple[str, type[BaseModel]]]:
    """Return the models that a field may hold, each with the name that chooses it."""
    marks = [mark for mark in info.metadata if isinstance(mark, ByName)]
    if marks:
        return [(name, model) for mark in marks for name, model in mark.models().items()]
    models = models_of(info)
    if len(models) == 1:
        return [("", models[0])]
    return [(name, model) for model in models for name in _names_of(model)]


def _names_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return what `dataset:` says where this model reads a split."""
    tag = model.model_fields.get("dataset")
    return typing.get_args(tag.annotation) if tag is not None else ("",)


def facts_of(path: str, profile: str) -> dict[str, str]:
    """Return what is to be said of one setting, label by label.

    Args:
        path: A known dotted path.
        profile: Whose default to tell.

    Raises:
        InputError: No such profile.
    """
    places = places_of(path)
    place = places[0]
    kind = kind_of(place.model, place.field)
    facts = {"setting": path, "what": _sentence(place)}
    if chosen := list(dict.fromkeys(p.of for p in places if p.of)):
        facts["belongs to"] = ", ".join(chosen)
    facts["type"] = _type_of(places, kind)
    unit = _UNITS.get(path.rpartition("_")[2], "")
    facts |= {"unit": unit} if unit and "_" in place.field else {}
    facts["default"] = _default_text(path, places, profile)
    facts["kind"] = _KINDS[kind]
    extra = place.info.json_schema_extra
    if isinstance(extra, dict) and (since := extra.get("since")):
        facts["since"] = f"version {since}"
    return {label: text for label, text in facts.items() if text}


def _sentence(place: Place) -> str:
    said = sentence_of(place.model, place.field)
    models = models_of(place.info)
    return said or (heading_of(models[0]) if len(models) == 1 else "")


def _type_of(places: list[Place], kind: Kind) -> str:
    """Return what a setting takes, whichever of its places is meant."""
    if len(places) == 1 and (names := registered_names(places[0])):
        return f"one of {', '.join(names)}"
    types_ = list(dict.fromkeys(type_text(place.info, kind) for place in places))
    tags = [typing.get_args(place.info.annotation) for place in places if place.field == "dataset"]
    if len(tags) > 1:
        each = dict.fromkeys(str(name) for names in tags for name in names)
        return f"one of {', '.join(each)}"
    return " or ".join(types_)


def registered_names(place: Place) -> list[str]:
    """Return the names that a setting takes where a registry has them; empty for others."""
    named = (place.model, place.field)
    if named == (CellSettings, "variant"):
        return [name for name, spec in VARIANTS.all().items() if not spec.fault]
    if named not in ((SamSettings, "size"), (EncoderSettings, "type")):
        return []
    whole = named == (SamSettings, "size")  # `sam.size` names what comes with a whole SAM
    specs = ENCODERS.all().items()
    return [n for n, spec in specs if not spec.fault and (spec.dims is not None) == whole]


def type_text(info: FieldInfo, kind: Kind) -> str:
    """Return what a field takes, in words: `a number above 0`, `one of fp32, bf16, fp16`."""
    if marks := [mark for mark in info.metadata if isinstance(mark, ByName)]:
        return "; ".join(map(_by_name, marks))
    return _type(info.annotation, _limits(info.metadata), kind)


def _by_name(mark: ByName) -> str:
    names = ", ".join(mark.models())
    if not mark.beside:
        return f"a section whose `{mark.tag}` is one of {names}"
    return f"a section that depends on `{mark.tag}`" + (f", for {names}" if names else "")


def _type(annotation: Any, limits: str, kind: Kind) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0], limits or _limits(inner[1:]), kind)
    if origin in (typing.Union, types.UnionType):
        parts = [part for part in inner if part is not type(None)]
        if all(isinstance(part, type) and issubclass(part, BaseModel) for part in parts):
            names = ", ".join(name for part in parts for name in _names_of(part))
            text = f"a section whose `dataset` is one of {names}"
        else:
            text = " or ".join(_type(part, limits, kind) for part in parts)
        return f"{text}, or none" if len(parts) < len(inner) else text
    if origin is typing.Literal:
        return f"one of {', '.join(map(show_value, inner))}" if len(inner) > 1 else str(inner[0])
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"a list, each {_type(inner[0], limits, kind)}"
        return f"{len(inner)} values in a list, each {_type(inner[0], limits, kind)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    if annotation is str:
        return "a file or folder" if kind == "path" else "a text"
    return f"{_SCALARS.get(annotation, 'a value')}{limits}"


def _limits(marks: Any) -> str:
    bounds = {
        name: getattr(mark, name)
        for mark in marks
        for name in ("gt", "ge", "lt", "le")
        if getattr(mark, name, None) is not None
    }
    low = (
        f"above {bounds['gt']:g}"
        if "gt" in bounds
        else f"{bounds['ge']:g}"
        if "ge" in bounds
        else ""
    )
    high = f"below {bounds['lt']:g}" if "lt" in bounds else f"{bounds.get('le', 0):g}"
    if not bounds.keys() & {"lt", "le"}:
        return f" {low}" if "gt" in bounds else f", {low} or more" if low else ""
    if not low:
        return f" {high}" if "lt" in bounds else f" up to {high}"
    if "gt" in bounds:
        return f" {low} and {high}" if "lt" in bounds else f" {low}, up to {high}"
    return f" from {low} to {high}"


def _default_text(path: str, places: list[Place], profile: str) -> str:
    """Return what a setting is where nobody sets it: in a profile, and in the class."""
    base = load_profile(profile).base
    chosen = _chosen(base, path)
    if _is_elsewhere(places, chosen):
        return f"none in profile {profile}, whose `{path.rpartition('.')[0]}` is {chosen}"
    info = next((p.info for p in places if p.of == chosen), places[0].info)
    value = m.get(base, path)
    if value is None and all(p.of and p.of != chosen for p in places):
        return _own_defaults(places)
    if value is None and info.is_required():
        return "none: it has to be given"
    plain = "" if info.is_required() else _shown(info.get_default(call_default_factory=True))
    if value is None:
        return plain
    here = _shown(value)
    if here == plain or isinstance(value, Mapping):
        return plain
    return f"{here} in profile {profile}" + (
        f"; {plain} in a profile that says nothing" if plain else ""
    )


def _own_defaults(places: list[Place]) -> str:
    """Return the default of each that brings a setting; one text where all have the same."""
    texts = {
        p.of: "none: it has to be given"
        if p.info.is_required()
        else _shown(p.info.get_default(call_default_factory=True))
        for p in places
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} with {of}" for of, text in texts.items())


def _chosen(base: m.Nested, path: str) -> str:
    """Return the data set that a profile has where a setting stands; empty where it has none."""
    parent = m.get(base, path.rpartition(".")[0]) if "." in path else None
    return str(parent.get("dataset", "")) if isinstance(parent, Mapping) else ""


def _is_elsewhere(places: list[Place], chosen: str) -> bool:
    """Say whether a setting belongs to other data sets than the chosen one."""
    return bool(chosen) and all(place.of and place.of != chosen for place in places)


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel | Mapping):
        return ""
    return "empty" if value in ("", (), []) else show_value(value)


def describe_setting(console: Console, path: str, profile: str) -> None:
    """Print a setting; of a section the settings in it, too."""
    for label, text in facts_of(path, profile).items():
        console.print(f"{label + ':':<11} {text}", highlight=False, markup=False, soft_wrap=True)
    inside = [other for other in sorted(m.known_paths()) if other.startswith(f"{path}.")]
    direct = [other for other in inside if "." not in other.removeprefix(f"{path}.")]
    if direct:
        console.print("")
        console.print(_table(direct, profile))
    elif not models_of(places_of(path)[0].info) and not path.endswith("options"):
        given = _given(path, profile)
        line = f"set it with --set {path}={given}, in a suite's `base`, or as one of its `axes`"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _given(path: str, profile: str) -> str:
    value = m.value_at(load_profile(profile).base, path)
    return (
        "VALUE" if value in (None, "", [], ()) or isinstance(value, Mapping) else show_value(value)
    )


def _table(paths: list[str], profile: str) -> Any:
    base = load_profile(profile).base
    table = text_table("setting", f"in profile {profile}", "what it does")
    for path in paths:
        places = places_of(path)
        value = m.value_at(base, path)
        shown = "..." if models_of(places[0].info) else "-" if value is None else _shown(value)
        if _is_elsewhere(places, _chosen(base, path)):
            shown = "-"
        table.add_row(
            path, shown, re.split(r"(?<=[a-z`)])\. ", _sentence(places[0]))[0].rstrip(".")
        )
    table.columns[0].no_wrap = True
    return table


def settings_as_json(beginning: str, profile: str) -> None:
    """Print what is known of the settings whose name begins so, as a list of objects.

    Raises:
        InputError: No setting begins so, or no such profile.
    """
    print_json([facts_of(path, profile) for path in _beginning_with(beginning, profile)])


def _beginning_with(beginning: str, profile: str) -> list[str]:
    known = sorted(m.known_paths())
    chosen = [path for path in known if path.startswith(beginning)]
    if not chosen:
        hint = did_you_mean(beginning, known)
        raise InputError("list settings", beginning, "no setting begins so", hint)
    with at("--profile"):
        load_profile(profile)
    return chosen


def print_settings(console: Console, beginning: str, profile: str) -> None:
    """Print the settings there are in groups, or only those whose name begins so.

    Raises:
        InputError: No setting begins so, or no such profile.
    """
    chosen = _beginning_with(beginning, profile)
    hidden = [part for part in _REPEATED if not beginning.startswith(part)]
    for section, paths in _groups(chosen):
        shown = [p for p in paths if not any(p.startswith(f"{part}.") for part in hidden)]
        place = places_of(section)[0]
        title = f"{section}: {_sentence(place)}" if paths != [section] else section
        console.print(title, highlight=False, markup=False, soft_wrap=True)
        console.print(_table([p for p in shown if p != section] or [section], profile))
        console.print("")
    for part in hidden:
        if any(path.startswith(f"{part}.") for path in chosen):
            console.print(
                f"below {part} stands what stands below {_REPEATED[part]}: list settings {part}"
            )


def _groups(paths: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each section at the top with the known paths below it, in the order of the settings."""
    for section in CellSettings.model_fields:
        inside = [p for p in paths if p == section or p.startswith(f"{section}.")]
        if inside:
            yield section, inside
