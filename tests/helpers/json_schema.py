"""A checker of JSON values against the part of JSON Schema (draft 7) that `schema` prints."""

from __future__ import annotations

import math
import re
from typing import Any

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}
ABOUT = {"$schema", "$defs", "title", "description", "default", "kind", "since"}
"""What says nothing of a value."""


def faults_of(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> list[str]:
    """Return what is wrong with a value, each with its place.

    Raises:
        AssertionError: The schema has a word that is not known here.
    """
    if "$ref" in schema:  # what stands beside it does not count, by draft 7
        node: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        return faults_of(value, node, root, at)
    found = []
    for word, said in schema.items():
        if word not in ABOUT:
            assert word in CHECKS, f"{at}: {word} is not known here"
            found += [f"{at}: {fault}" for fault in CHECKS[word](value, said)]
    if "anyOf" in schema:
        tried = [faults_of(value, one, root, at) for one in schema["anyOf"]]
        if all(tried):
            found += max(tried, key=lambda faults: max(map(len, faults)))
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{at}: {k} is missing" for k in schema.get("required", ()) if k not in value]
        for key, inner in value.items():
            if key not in known and other is False:
                found.append(f"{at}: {key} is unknown")
            else:
                below = known.get(key, other if isinstance(other, dict) else {})
                found += faults_of(inner, below, root, f"{at}.{key}")
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        for number, inner in enumerate(value):
            item = first[number] if number < len(first) else schema.get("items", {})
            found += faults_of(inner, item, root, f"{at}.{number}")
    return found


def is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("number", "integer"):
        return False
    return isinstance(value, TYPES[kind])


def check(holds: Any, text: str) -> Any:
    return lambda value, said: () if holds(value, said) else (f"{value!r}: {text} {said}",)


def number(holds: Any) -> Any:
    def both(value: Any, said: Any) -> bool:
        return not is_of(value, "number") or math.isinf(value) or holds(value, said)

    return both


CHECKS: dict[str, Any] = {
    "type": check(is_of, "is no"),
    "enum": check(lambda value, said: value in said, "is none of"),
    "const": check(lambda value, said: value == said, "is not"),
    "pattern": check(lambda v, said: not isinstance(v, str) or re.search(said, v), "is not like"),
    "minimum": check(number(lambda value, said: value >= said), "is below"),
    "maximum": check(number(lambda value, said: value <= said), "is above"),
    "exclusiveMinimum": check(number(lambda value, said: value > said), "is not above"),
    "exclusiveMaximum": check(number(lambda value, said: value < said), "is not below"),
    "minItems": check(lambda v, said: not isinstance(v, list) or len(v) >= said, "is shorter than"),
    "maxItems": check(lambda v, said: not isinstance(v, list) or len(v) <= said, "is longer than"),
    "minProperties": check(lambda v, said: not isinstance(v, dict) or len(v) >= said, "less than"),
    **dict.fromkeys(
        ("anyOf", "properties", "additionalProperties", "required", "items", "prefixItems"),
        lambda value, said: (),
    ),
}
