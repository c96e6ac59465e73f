"""Registries: everything of one kind that can be added, by name; no torch.

A thing of a known kind (a variant, a design, a metric, a reader, an encoder, a plot) is described
by a spec. This package lists its own specs by address, `module:attribute`; another package names
one by an entry point. Both are loaded when somebody first asks. What cannot be used stays in the
registry, with its fault, so that lists can show it and whoever asks for it is told why: a package
that is broken is in nobody's way.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, Protocol, TypeVar

from sca_bench.errors import InputError, did_you_mean

_OWN_PACKAGES = ("sca_bench.", "baselines.")
"""What this distribution installs; its own entry points (the baselines) come before others."""


_MODULE_ATTRIBUTE = re.compile(r"[\w.]+:\w+")


class Registered(Protocol):
    """What stands in a registry."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def fault(self) -> str:
        """Why it cannot be used; empty where it can."""


_Spec = TypeVar("_Spec", bound=Registered)


class Registry(Generic[_Spec]):
    """What is registered of one kind, by name: this package's own first.

    Attributes:
        group: The entry-point group that other packages register in.
        find: Finds entry points (`importlib.metadata.entry_points`); a test gives another one.
    """

    def __init__(
        self,
        group: str,
        kind: type[_Spec],
        key: str,
        own: Sequence[str],
        *,
        fault_of: Callable[[_Spec], str],
        broken: Callable[[str, str, str], _Spec],
        listed: str = "",
    ) -> None:
        """Name what there is to load; nothing is imported yet.

        Args:
            group: The entry-point group.
            kind: The class of its specs.
            key: The setting that names one, such as `variant`, for errors.
            own: `module:attribute` of this package's specs, or of tuples of them, in their order.
            fault_of: Says what is wrong with a spec of that class; empty where nothing is.
            broken: Makes the spec that takes the place of what cannot be used, from name, what the
                entry point points to, and fault.
            listed: What `list` calls them; as the group where empty.
        """
        self.group, self.find = group, entry_points
        self._listed = listed or group.rpartition(".")[2]
        self._kind, self._key, self._addresses = kind, key, tuple(own)
        self._fault_of, self._broken = fault_of, broken
        self._own: dict[str, _Spec] | None = None
        self._all: tuple[Any, dict[str, _Spec]] | None = None
        self._also: dict[str, _Spec] = {}

    def own(self) -> Mapping[str, _Spec]:
        """Return this package's own, for which no installed package is looked through.

        Raises:
            ValueError: Two of them have one name, or one is wrong: a fault of this package.
        """
        if self._own is None:
            specs: dict[str, _Spec] = {}
            for address in self._addresses:
                named = attribute(address)
                for spec in named if isinstance(named, tuple) else (named,):
                    if not isinstance(spec, self._kind) or self._fault_of(spec):
                        raise ValueError(f"{address} is no {self._kind.__name__} that can be used")
                    if spec.name in specs:
                        raise ValueError(f"{self.group}: two are called {spec.name!r}")
                    specs[spec.name] = spec
            self._own = specs
        return self._own

    def all(self) -> dict[str, _Spec]:
        """Return every one by name; an entry point that cannot be used is in it, with its fault."""
        finders = self._finders()
        if self._all is None or self._all[0] != finders:
            self._all = (finders, self._found())
        return {**self._all[1], **self._also}

    def fault_of(self, spec: _Spec) -> str:
        """Say why a spec could not be registered; empty where it could."""
        taken = self.own().get(spec.name)
        if taken is not None and taken != spec:
            return f"is called {spec.name!r} as one of sca_bench's own"
        return self._fault_of(spec)

    @contextlib.contextmanager
    def also(self, spec: _Spec) -> Iterator[None]:
        """Have a spec inside as if a package had registered it, in place of one of its name.

        Raises:
            ValueError: It could not be registered.
        """
        if fault := self.fault_of(spec):
            raise ValueError(f"{self.group}: {spec.name}: {fault}")
        before = self._also
        self._also = {**before, spec.name: spec}
        try:
            yield
        finally:
            self._also = before

    def _finders(self) -> tuple[Any, ...]:
        """Return what finds entry points here; what is found is kept as long as it is the same."""
        return (self.find,)

    def _found(self) -> dict[str, _Spec]:
        """Look through the installed packages; it takes milliseconds."""
        points = self.find(group=self.group)
        return with_plugins(self.own(), points, self._kind, self._fault_of, self._broken)

    def get(self, name: str) -> _Spec:
        """Return one that can be used.

        Raises:
            InputError: No such name, and the nearest one is suggested; or its entry point cannot be
                used.
        """
        own = self.own()
        if name in own:
            return own[name]
        specs = self.all()
        if name not in specs:
            usable = (other for other, spec in specs.items() if not spec.fault)
            problem = f"{name!r} is not registered"
            fix = did_you_mean(name, usable, f"list {self._listed}")
            raise InputError(None, self._key, problem, fix)
        spec = specs[name]
        if spec.fault:
            fix = "repair or uninstall the package"
            raise InputError(None, self._key, f"{name!r} cannot be used: {spec.fault}", fix)
        return spec


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
    for point in sorted(points, key=lambda point: (not is_own(point.value), point.value)):
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


def fault_of_names(what: str, name: object, code: Mapping[str, object]) -> str:
    """Return what is wrong with a spec's name or with what it names; empty where nothing is.

    Args:
        what: The kind of thing, for the text.
        name: What it is asked for by.
        code: Field -> the `module:attribute` that it holds.
    """
    if not isinstance(name, str) or not name.strip():
        return f"names its {what} {name!r}, expected a text"
    for field, path in code.items():
        if not is_address(path):
            return f"has {field} {path!r}, expected 'module:attribute'"
    return ""


def is_address(path: object) -> bool:
    """Say whether something has the form `module:attribute`."""
    return isinstance(path, str) and _MODULE_ATTRIBUTE.fullmatch(path) is not None


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
    try:
        fault = fault_of(spec)
    except Exception as error:  # a field of a type that nobody expects there
        fault = f"has a field of a wrong type ({type(error).__name__}: {error})"
    return (None, fault) if fault else (spec, "")


def attribute(path: str) -> Any:
    """Import and return what `module:attribute` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
