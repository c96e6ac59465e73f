"""The kinds of things that have names: where each kind is listed, and how one of it is described.

Everything that can be added lies in a registry, so one piece of code lists and describes it all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sca_bench.plugins import Registry, attribute
from sca_bench.settings.options import fault_of_options

REGISTRIES = {
    "variants": "sca_bench.variants:VARIANTS",
    "designs": "sca_bench.specs.designs:DESIGNS",
    "metrics": "sca_bench.metrics.registry:METRICS",
    "datasets": "sca_bench.specs.readers:READERS",
    "encoders": "sca_bench.specs.encoders:ENCODERS",
    "plots": "sca_bench.report.figures.registry:PLOTS",
}
"""What `list` calls a kind -> the address of its registry."""

_LABELS = {"summary": "what", "trains": "learns", "computes": "code"}
_UNSAID = ("name", "fault", "options", "settings", "summary", "renamed", "keys_lacked")
"""Fields of specs that are said otherwise, or only to code."""


def registry(kind: str) -> Registry[Any]:
    """Return the registry of a kind."""
    found: Registry[Any] = attribute(REGISTRIES[kind])
    return found


def specs_of(kind: str) -> Mapping[str, Any]:
    """Return every spec of a kind by name, those that cannot be used with their fault."""
    return registry(kind).all()


def summary_of(spec: Any) -> str:
    """Return the one line that a list has of a spec: what is wrong with it, or what it is."""
    own = fault_of_options(spec) if getattr(spec, "options", "") else ""
    said = (spec.fault, own, getattr(spec, "summary", ""), getattr(spec, "title", ""))
    return next((str(text) for text in said if text), "")


def facts_of(spec: Any) -> dict[str, str]:
    """Return what a spec says of itself, by its fields; what it leaves empty is left out."""
    facts: dict[str, str] = {"what": summary_of(spec)}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name in _UNSAID or field.name.startswith("_"):
            continue
        text = _text(value)
        if text and text != facts["what"]:
            facts[_LABELS.get(field.name, field.name.replace("_", " "))] = text
    return facts


def _text(value: Any) -> str:
    """Return a field's value in words; empty where it says nothing."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, tuple | list | frozenset):
        inner = [_text(item) for item in value]
        return ", ".join(text for text in inner if text)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return ""
