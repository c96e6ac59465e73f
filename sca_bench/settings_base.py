"""What every setting has: a type, a strict reader, and a kind that says what it may change.

Every field is of one kind:

* `result` (the default) changes numbers and is part of the cell's key;
* `cost` changes time or memory only (device, workers, micro-batch);
* `path` names a file or folder: its *content* enters the key, its name does not;
* `label` is for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["result", "cost", "path", "label"]


def of_kind(kind: Kind, default: Any = ..., **limits: Any) -> Any:
    """Return a pydantic field of one kind; `limits` are pydantic's own (`ge`, `lt`, ...)."""
    return Field(default, json_schema_extra={"kind": kind}, **limits)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def kind_of(model: type[BaseModel], field: str) -> Kind:
    """Return the kind of a settings field (`result` unless it is marked otherwise)."""
    extra = model.model_fields[field].json_schema_extra
    kind = extra.get("kind", "result") if isinstance(extra, dict) else "result"
    return cast(Kind, kind)


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
