"""Suites and sweeps as JSON Schema: what pydantic says of their files, with the settings in it."""

from __future__ import annotations

import inspect
import re

from pydantic import BaseModel

from sca_bench.cli.schema.setting_schema import SETTINGS, Schema, SettingSchemas, without_titles
from sca_bench.metrics.registry import all_metrics
from sca_bench.study.suite.profiles import profile_names
from sca_bench.study.suite.schema import (
    Adjust,
    ClaimEntry,
    ExplicitCell,
    Patch,
    PathSpec,
    Stage,
    SuiteFile,
)
from sca_bench.study.suite.sweep_schema import (
    Confirm,
    Dimension,
    Named,
    Objective,
    SweepFile,
    SweepPatch,
)

_DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that YAML editors know best."""
_DOTTED, _AXES, _SPACE, _METRIC = "dotted", "axes", "space", "metric"
_ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", re.M)


def suite_schema() -> Schema:
    """Return the JSON Schema (draft 7) of a suite's YAML file."""
    models = (Adjust, ClaimEntry, ExplicitCell, Patch, PathSpec, Stage)
    return _file_schema(SuiteFile, models, "A suite of sca_bench")


def sweep_schema() -> Schema:
    """Return the JSON Schema (draft 7) of a sweep's YAML file."""
    models = (Confirm, Dimension, Named, Objective, PathSpec, Stage, SweepPatch)
    return _file_schema(SweepFile, models, "A sweep of sca_bench")


def _file_schema(top: type[BaseModel], models: tuple[type[BaseModel], ...], title: str) -> Schema:
    settings = SettingSchemas()
    schema = without_titles(top.model_json_schema())
    definitions: dict[str, Schema] = schema.pop("$defs")
    for model in models:
        _describe(definitions[model.__name__], model)
    _describe(schema, top)
    definitions |= settings.definitions
    definitions[_DOTTED] = _by_name(settings.paths)
    definitions[_METRIC] = _metric()
    if top is SuiteFile:
        values = {
            path: {"type": "array", "minItems": 1, "items": one}
            for path, one in settings.paths.items()
        }
        definitions[_AXES] = _by_name(values)
    else:
        definitions[_SPACE] = _by_name(dict.fromkeys(settings.paths, _ref("Dimension")))
    for owner in (schema, *(definitions[model.__name__] for model in models)):
        for field, inside in _INSIDE.items():
            if field in owner["properties"]:
                _put(owner["properties"], field, inside)
    stage = definitions["Stage"]["properties"]
    stage["data"] |= settings.paths["data"]
    stage["train"] |= settings.paths["train"]
    if top is SuiteFile:
        for name, field in (("Adjust", "when"), ("Adjust", "set"), ("ExplicitCell", "set")):
            _put(definitions[name]["properties"], field, _ref(_DOTTED))
        schema["properties"]["unless"]["items"] = _ref(_DOTTED)
    patch = _ref("Patch" if top is SuiteFile else "SweepPatch")
    profiles = schema["properties"]["profiles"]
    profiles |= {
        "properties": dict.fromkeys(profile_names(), patch),
        "additionalProperties": False,
    }
    schema["properties"]["profile"] |= {"enum": profile_names()}
    return {"$schema": _DRAFT, "title": title, **schema, "$defs": definitions}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_INSIDE: dict[str, Schema] = {
    "base": _ref(SETTINGS),
    _AXES: _ref(_AXES),
    _SPACE: _ref(_SPACE),
    "metrics": {"type": "array", "items": _ref(_METRIC)},
    "paths": {
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}, _ref("PathSpec")]},
    },
}
"""Field of a file or of a profile's part -> what may stand there; pydantic knows less of it."""


def _put(properties: dict[str, Schema], field: str, inside: Schema) -> None:
    """Give a field its content; a profile's part may leave it out, or say null as well."""
    old = properties[field]
    kept = {key: old[key] for key in ("description", "minItems", "minProperties") if key in old}
    may_be_null = {"type": "null"} in old.get("anyOf", ())
    properties[field] = kept | ({"anyOf": [inside, {"type": "null"}]} if may_be_null else inside)


def _by_name(settings: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": settings, "additionalProperties": False}


def _metric() -> Schema:
    """Return the names of metrics, and the beginnings of those that name a phrase."""
    usable = {name: spec for name, spec in all_metrics().items() if not spec.fault}
    prefixes = [spec.prefix for spec in usable.values() if spec.prefix]
    patterns = [{"type": "string", "pattern": f"^{re.escape(prefix)}."} for prefix in prefixes]
    return {"anyOf": [{"enum": list(usable)}, *patterns]}


def _describe(schema: Schema, model: type[BaseModel]) -> None:
    """Say of a mapping and its keys what its class says of itself and its attributes."""
    text = inspect.getdoc(model) or ""
    about, _, listed = text.partition("\n\nAttributes:\n")
    schema["description"] = " ".join(about.split())
    for name, said in _ENTRY.findall(listed):
        if name in schema["properties"]:
            own = schema["properties"][name]
            schema["properties"][name] = {"description": " ".join(said.split()), **own}
