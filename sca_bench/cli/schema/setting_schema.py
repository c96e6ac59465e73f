"""The settings of a cell as JSON Schema: nested as in `base`, and by dotted names as in `axes`.

A suite states some settings only and profiles state the others, so nothing is required here. What
may stand in a mapping that a name chooses (a split by its `dataset`) is what any of the choices
takes; which of them go together, `check` knows.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from sca_bench.cli.lookup.setting_text import Place, registered_names
from sca_bench.settings import CellSettings
from sca_bench.settings.base import ByName, models_of
from sca_bench.settings.sentences import heading_of, sentence_of

Schema = dict[str, Any]
SETTINGS = "settings"
"""Name of the definition of all settings."""
_Models = tuple[type[BaseModel], ...]


class SettingSchemas:
    """Definitions of every section of the settings: by its class, or where it first stands.

    Attributes:
        definitions: Name -> schema of a section, for `$defs`.
        paths: Dotted name of a setting -> what refers to its schema.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self.paths: dict[str, Schema] = {}
        self._names: dict[_Models, str] = {}
        self._section((CellSettings,), "")
        for path, place in _places(self.definitions, SETTINGS):
            self.paths[path] = {"$ref": f"#/$defs/{place}"}

    def _section(self, models: _Models, path: str) -> Schema:
        """Return what refers to a mapping that any of some classes reads."""
        if models not in self._names:
            alone = models[0].__name__ if len(models) == 1 and path else ""
            name = self._names[models] = alone or path or SETTINGS
            section: Schema = {"type": "object", "additionalProperties": False}
            self.definitions[name] = section
            if len(models) == 1 and (heading := heading_of(models[0])):
                section["description"] = heading
            fields = dict.fromkeys(field for model in models for field in model.model_fields)
            section["properties"] = {
                field: self._field(
                    [model for model in models if field in model.model_fields],
                    field,
                    f"{path}.{field}" if path else field,
                )
                for field in fields
            }
        return {"$ref": f"#/$defs/{self._names[models]}"}

    def _field(self, holders: Sequence[type[BaseModel]], field: str, path: str) -> Schema:
        """Return the schema of a field that several classes may have."""
        found: list[Schema] = []
        for holder in holders:
            for schema in self._choices(holder, field, path):
                if schema not in found:
                    found.append(schema)
        schema = _any_of(found)
        said = next(filter(None, (sentence_of(holder, field) for holder in holders)), "")
        return {"description": said, **schema} if said else schema

    def _choices(self, holder: type[BaseModel], field: str, path: str) -> Iterator[Schema]:
        info = holder.model_fields[field]
        names = registered_names(Place(holder, field))
        if names:
            yield {"enum": names}
        elif any(isinstance(mark, ByName) and mark.beside for mark in info.metadata):
            yield self._own(tuple(models_of(info)), path)
        elif models := tuple(models_of(info)):
            yield self._section(models, path)
            if type(None) in typing.get_args(info.annotation):
                yield {"type": "null"}
        elif models := _listed(info):
            item = self._section(models, path)
            if path == "pretraining":  # a suite names its stages, which stand under `stages`
                yield {"type": "string"}
                item = {"anyOf": [{"type": "string"}, item]}
            yield {"type": "array", "items": item}
        else:
            yield _scalar(info)

    def _own(self, models: _Models, path: str) -> Schema:
        """Return the schema of settings that variants or encoders bring: any that one has."""
        fields = dict.fromkeys(field for model in models for field in model.model_fields)
        own: Schema = {"type": "object", "additionalProperties": False}
        own["properties"] = {
            field: self._field(
                [model for model in models if field in model.model_fields],
                field,
                f"{path}.{field}",
            )
            for field in fields
        }
        return own


def _places(
    definitions: dict[str, Schema], name: str, above: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, place below `$defs`) of every setting in a section and below it."""
    yield from _below(definitions, definitions[name], name, above)


def _below(
    definitions: dict[str, Schema], section: Schema, place: str, above: str
) -> Iterator[tuple[str, str]]:
    for field, schema in section["properties"].items():
        path, here = f"{above}{field}", f"{place}/properties/{field}"
        yield path, here
        for one in (schema, *schema.get("anyOf", ())):
            if "$ref" in one:
                yield from _places(definitions, one["$ref"].removeprefix("#/$defs/"), f"{path}.")
            elif "properties" in one:
                yield from _below(definitions, one, here, f"{path}.")


def _listed(info: FieldInfo) -> _Models:
    """Return the settings that a list of settings holds; none for other fields."""
    inner = typing.get_args(info.annotation)[:1]
    if typing.get_origin(info.annotation) is not tuple or not inner:
        return ()
    return tuple(models_of(FieldInfo.from_annotation(inner[0])))


def _scalar(info: FieldInfo) -> Schema:
    """Return what pydantic says of a number, a text, a choice, or a list of these."""
    annotation: Any = info.annotation
    for mark in info.metadata:
        annotation = Annotated[annotation, mark]
    schema: Schema = without_titles(TypeAdapter(annotation).json_schema())
    return schema


def _any_of(found: Sequence[Schema]) -> Schema:
    """Return one schema that takes what any of several takes; words become one list."""
    words = [word for one in found for word in _words(one)]
    others = [one for one in found if not _words(one)]
    if words:
        others.insert(0, {"enum": list(dict.fromkeys(words))})
    return dict(others[0]) if len(others) == 1 else {"anyOf": others}


def _words(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of the names of fields."""
    if isinstance(schema, dict):
        return {
            key: without_titles(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [without_titles(item) for item in schema] if isinstance(schema, list) else schema
