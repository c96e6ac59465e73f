"""What other packages register by entry point. One that is broken is in nobody's way; no torch.

A registry (of variants, of metrics) is a mapping from names to specs. What cannot be used stays in
it, with its fault, so that lists can show it and whoever asks for it is told why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol, TypeVar

_OWN_PACKAGES = ("sca_bench.", "baselines.")
"""What this distribution installs; its own entry points (the baselines) come before others."""


class Registered(Protocol):
    """What stands in a registry."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def fault(self) -> str:
        """Why it cannot be used; empty where it can."""


_Spec = TypeVar("_Spec", bound=Registered)


def with_plugins(
    built_in: Mapping[str, _Spec],
    points: Iterable[Any],
    kind: type[_Spec],
    fault_of: Callable[[_Spec], str],
    broken: Callable[[str, str, str], _Spec],
) -> dict[str, _Spec]:
    """Return the built-in specs and those that entry points name, by name.

    An entry point that cannot be used is kept under its own name, or, where that is taken, with
    what it points to behind it. A name that this package has means this package's. A name that
    two other packages have means neither.

    Args:
        built_in: Name -> spec; these need no entry point.
        points: The entry points of one group.
        kind: The class that a spec must be of.
        fault_of: Says what is wrong with a spec of that class; empty where nothing is.
        broken: Makes the spec that takes the place of what cannot be used, from name, what the
            entry point points to, and fault.
    """
    specs: dict[str, _Spec] = dict(built_in)
    own = dict.fromkeys(built_in, "sca_bench")
    others: dict[str, str] = {}  # name -> what registered it first
    faults: list[tuple[str, str, str]] = []
    for point in sorted(points, key=lambda point: not is_own(point.value)):
        spec, fault = _loaded(point, kind, fault_of)
        if spec is None:
            faults.append((point.name, point.value, fault))
        elif spec.name not in specs:
            specs[spec.name] = spec
            (own if is_own(point.value) else others)[spec.name] = point.value
        elif specs[spec.name] != spec and spec.name in own:
            faults.append((spec.name, point.value, "is called as one of sca_bench's own"))
        elif specs[spec.name] != spec:
            fault = f"registered twice, by {others[spec.name]} and by {point.value}"
            specs[spec.name] = broken(spec.name, point.value, fault)
    for name, value, fault in faults:
        key = name if name not in specs else f"{name} ({value})"
        line = " ".join(f"the entry point {name} = {value} {fault}".split())
        specs.setdefault(key, broken(key, value, line))
    return specs


def is_own(path: str) -> bool:
    """Say whether what `module:attribute` names comes with this distribution."""
    return path.startswith(_OWN_PACKAGES)


def _loaded(
    point: Any, kind: type[_Spec], fault_of: Callable[[_Spec], str]
) -> tuple[_Spec | None, str]:
    """Return what an entry point names, or None and what is wrong with it."""
    try:
        spec = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another package's fault, and be it an exit or a Rust panic
        return None, f"cannot be loaded ({type(error).__name__}: {error})"
    if not isinstance(spec, kind):
        return None, f"is {type(spec).__name__}, expected a {kind.__name__}"
    fault = fault_of(spec)
    return (None, fault) if fault else (spec, "")


def attribute(path: str) -> Any:
    """Import and return what `module:attribute` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
