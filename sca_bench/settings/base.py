"""What every setting has: a type, a strict reader, and a kind that says what it may change.

A number is never read from a truth value or a text, nor a truth value from anything else.

Every field is of one kind:

* `result` (the default) changes numbers and is part of the cell's key;
* `cost` changes time or memory only (device, workers, micro-batch);
* `path` names a file or folder: its *content* enters the key, its name does not;
* `label` is for people.

Keys outlive code. A setting that is added to settings in use is marked with the version that adds
it: `of_kind("result", 0.0, since="0.2")`. Such a setting enters a key only where it differs from
its default, and that default must mean "as before": then every older run keeps its key. Where it
cannot mean that, numbers move, and a revision (of the variant, of the features) is raised as well.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

Kind = Literal["result", "cost", "path", "label"]
UNKNOWN_NAME = "unknown_name"
"""Type of the fault of a name that no registry has."""


def of_kind(kind: Kind, default: Any = ..., *, since: str = "", **limits: Any) -> Any:
    """Return a pydantic field of one kind.

    Args:
        kind: What it may change.
        default: Its default; required where left out.
        since: Version that added it to settings in use; such a field needs a default.
        **limits: Pydantic's own (`ge`, `lt`, ...).

    Raises:
        ValueError: A field that was added later has no default.
    """
    if not since:
        return Field(default, json_schema_extra={"kind": kind}, **limits)
    if default is ... and "default_factory" not in limits:
        raise ValueError(f"a setting added in {since} needs a default that means 'as before'")
    return Field(default, json_schema_extra={"kind": kind, "since": since}, **limits)


class StrictScalars(BaseModel):
    """Base of what is read from YAML: `true` is no 1, `1` is no true, and no text is either."""

    @model_validator(mode="before")
    @classmethod
    def _scalars_are_what_they_say(cls, given: Any) -> Any:
        # Not a validator of fields: what tells the members of a union apart may not have one.
        faults: list[InitErrorDetails] = []
        for name, value in given.items() if isinstance(given, Mapping) else ():
            info = cls.model_fields.get(name)
            expected = info and _expected_instead(value, info.annotation)
            if expected:
                kind = PydanticCustomError("other_scalar", expected)
                faults.append({"type": kind, "loc": (name,), "input": value})
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return given


def _expected_instead(value: Any, annotation: Any) -> str:
    """Say what a field takes where a value, or an item of it, is another kind of scalar."""
    if isinstance(value, list | tuple):
        inner = [t for part in plain_types(annotation) for t in typing.get_args(part)]
        found = (_expected_instead(item, inner[0]) for item in value) if inner else ()
        return next(filter(None, found), "")
    taken = set(plain_types(annotation))
    if not taken & {bool, int, float} or type(value) in taken:
        return ""
    if isinstance(value, bool) or (isinstance(value, str) and taken & {int, float}):
        return "expected a number" if float in taken else "expected a whole number"
    if isinstance(value, str | int | float) and bool in taken:
        return "expected true or false"
    return ""


def plain_types(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, those inside unions and `Annotated` included."""
    if typing.get_origin(annotation) is typing.Annotated:
        return plain_types(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [t for part in typing.get_args(annotation) for t in plain_types(part)]
    return [annotation]


class Settings(StrictScalars):
    """Base of all settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


@functools.cache
def kind_of(model: type[BaseModel], field: str) -> Kind:
    """Return the kind of a settings field (`result` unless it is marked otherwise)."""
    extra = model.model_fields[field].json_schema_extra
    kind = extra.get("kind", "result") if isinstance(extra, dict) else "result"
    return cast(Kind, kind)


@functools.cache
def defaults_since(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return field -> default of every field that was added later (`since`)."""
    return {
        name: info.get_default(call_default_factory=True)
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and "since" in info.json_schema_extra
    }


def items_of(settings: BaseModel) -> Iterator[tuple[str, Kind, Any]]:
    """Yield (name, kind, value) of every field; a tuple of settings counts item by item.

    The third of a tuple called `parts` has the name `parts.2`. An empty tuple is one value.
    """
    for name in type(settings).model_fields:
        kind, value = kind_of(type(settings), name), getattr(settings, name)
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from ((f"{name}.{i}", kind, item) for i, item in enumerate(value))
        else:
            yield name, kind, value


class ByName:
    """Marks an annotation whose models a registry has: a name says which one reads a mapping.

    It stands in `Annotated[Base, ByName(...)]`. The registry is asked when something is read, so
    that nothing has to be imported to define the settings. `models_of` lists the models.

    Attributes:
        tag: Field that holds the name: of the mapping itself, or of the settings it stands in.
        models: Returns name -> model.
        beside: Whether the tag stands beside the mapping, in the settings that hold it; there it
            has to come before this field. What a name without a model is given is read as `Base`.
        why_none: Says of a name without a model why it has none, or which is the nearest.
    """

    def __init__(
        self,
        tag: str,
        models: Callable[[], Mapping[str, type[Settings]]],
        beside: bool = False,
        why_none: Callable[[Any], str] | None = None,
    ) -> None:
        self.tag, self.models, self.beside = tag, models, beside
        self.why_none = why_none or self._names

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return what pydantic reads such a value with; it is written as what it is."""

        def read(given: Any, info: core_schema.ValidationInfo) -> Any:
            if not self.beside and type(given) in self.models().values():
                return given
            if not isinstance(given, Mapping | Settings):
                raise PydanticCustomError("mapping", "expected a mapping of settings")
            if self.beside:
                model = self.models().get(info.data.get(self.tag, ""), source)
                if type(given) is model:
                    return given
                plain = given.model_dump() if isinstance(given, Settings) else given
                return model.model_validate(plain)
            assert isinstance(given, Mapping)
            if self.tag not in given:
                raise _fault("missing", self.tag, "Field required", given)
            name = given[self.tag]
            model = self.models().get(name) if isinstance(name, str) else None
            if model is None:
                raise _fault(UNKNOWN_NAME, self.tag, self.why_none(name), given)
            return model.model_validate(given)

        return core_schema.with_info_plain_validator_function(read)

    def _names(self, name: Any) -> str:
        return f"expected one of {', '.join(self.models())}"


def _fault(kind: str, field: str, message: str, given: Mapping[str, Any]) -> ValidationError:
    """Return a fault of one field of a mapping that no model has read."""
    fault = PydanticCustomError(kind, message)  # type: ignore[arg-type]
    details: InitErrorDetails = {"type": fault, "loc": (field,), "input": given.get(field)}
    return ValidationError.from_exception_data("settings", [details])


def models_of(info: FieldInfo) -> list[type[BaseModel]]:
    """Return the models that a field may hold, those of a registry included."""
    marked = [m for m in info.metadata if isinstance(m, ByName)]
    if marked:
        return [model for mark in marked for model in mark.models().values()]
    return _models_in(info.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *marks = typing.get_args(annotation)
        named = [mark.models().values() for mark in marks if isinstance(mark, ByName)]
        return [m for models in named for m in models] or _models_in(inner)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [m for part in typing.get_args(annotation) for m in _models_in(part)]
    return []
