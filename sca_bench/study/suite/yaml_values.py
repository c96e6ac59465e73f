"""Values as a suite file writes them: reading YAML safely, and writing a value back."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import yaml

_SCIENTIFIC_BELOW = 1e-3  # learning rates read better as 1e-4 beside 5e-5


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that reads `5e-6` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_yaml(text: str) -> Any:
    """Read YAML without tags.

    Raises:
        yaml.YAMLError: It is not YAML, or names a tag.
    """
    return yaml.load(text, Loader=_Loader)


def show_value(value: Any) -> str:
    """Return a coordinate or setting in the form a suite file has it; null reads `none`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        small = 0 < abs(value) < _SCIENTIFIC_BELOW
        return f"{Decimal(repr(value)).normalize():e}" if small else repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {show_value(v)}" for k, v in sorted(value.items())) + "}"
    return str(value)


def same_value(a: Any, b: Any) -> bool:
    """Say whether two values of suite files mean the same; 1 is 1.0, but true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_value, a, b))
    return show_value(a) == show_value(b)
