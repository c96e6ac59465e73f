"""Which specs a module holds, or a name is registered for, and which contract each has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sca_bench.contract.spec import SpecContract
from sca_bench.errors import InputError
from sca_bench.plugins import Registry, attribute

_HOW = "name a module, a .py file, or what is registered: see `sca_bench list`"


@dataclass(frozen=True)
class _Kind:
    """One kind of specs; each part is named as `module:attribute` and imported on use.

    Attributes:
        word: What it is called.
        spec: The class of its specs.
        registry: Where they are registered.
        contract: Their tests.
    """

    word: str
    spec: str
    registry: str
    contract: str

    def holds(self, value: object) -> bool:
        """Say whether a value is a spec of this kind; nothing is imported to tell."""
        return any(f"{k.__module__}:{k.__qualname__}" == self.spec for k in type(value).__mro__)

    def registered(self) -> Registry[Any]:
        """Return where they are registered."""
        registry: Registry[Any] = attribute(self.registry)
        return registry


KINDS = (
    _Kind(
        "variant",
        "sca_bench.variants:VariantSpec",
        "sca_bench.variants:VARIANTS",
        "sca_bench.contract.captioners.variant:VariantContract",
    ),
    _Kind(
        "design",
        "sca_bench.specs.designs:DesignSpec",
        "sca_bench.specs.designs:DESIGNS",
        "sca_bench.contract.captioners.design:DesignContract",
    ),
    _Kind(
        "metric",
        "sca_bench.metrics.spec:MetricSpec",
        "sca_bench.metrics.registry:METRICS",
        "sca_bench.contract.metric:MetricContract",
    ),
    _Kind(
        "reader",
        "sca_bench.specs.readers:ReaderSpec",
        "sca_bench.specs.readers:READERS",
        "sca_bench.contract.reader:ReaderContract",
    ),
    _Kind(
        "encoder",
        "sca_bench.specs.encoders:EncoderSpec",
        "sca_bench.specs.encoders:ENCODERS",
        "sca_bench.contract.encoder:EncoderContract",
    ),
    _Kind(
        "plot",
        "sca_bench.report.figures.registry:PlotSpec",
        "sca_bench.report.figures.registry:PLOTS",
        "sca_bench.contract.plot:PlotContract",
    ),
)
"""Every kind of specs that there is a contract for."""


@dataclass(frozen=True)
class Tested:
    """One spec with its contract.

    Attributes:
        spec: The spec.
        kind: What it is, in a word, such as `metric`.
        fault: Why it cannot be registered; nothing else is tested then.
    """

    spec: Any
    kind: str
    fault: str
    _contract: str

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.spec.name)

    def contract(self) -> type[SpecContract]:
        """Return the tests of this spec: a subclass of its kind's contract that names it."""
        base: type[SpecContract] = attribute(self._contract)
        title = f"{self.kind.title()}_{self.name}"
        return type(title, (base,), {"spec": self.spec, "__doc__": base.__doc__})


def find(target: str) -> list[Tested]:
    """Return what there is to test in a module, in a file, or under a registered name.

    Args:
        target: A module's name, a `.py` file, or the name of a variant, a metric, ...

    Raises:
        InputError: There is nothing to test, or it cannot be imported.
    """
    if target.endswith(".py"):
        return _in_module(_name_of_file(Path(target)), target)
    names = [(kind, kind.registered().own().get(target)) for kind in KINDS]
    if not any(spec for _, spec in names):
        names = [(kind, kind.registered().all().get(target)) for kind in KINDS]
    registered = _once([(kind, spec) for kind, spec in names if spec is not None])
    for _, spec in registered:
        if spec.fault:
            raise InputError(None, target, spec.fault, "repair or uninstall the package")
    if registered:
        return [_tested(kind, spec) for kind, spec in registered]
    if not _is_module(target):
        raise InputError(None, target, "no such module, and nothing is registered so", _HOW)
    return _in_module(target, target)


def check_names(tested: SpecContract) -> Iterator[str]:
    """Yield the names of a contract's tests, in the order in which they are written."""
    names = [name for base in reversed(type(tested).__mro__) for name in vars(base)]
    yield from dict.fromkeys(name for name in names if name.startswith("test_"))


def _is_module(name: str) -> bool:
    _look_here()
    try:
        return all(map(str.isidentifier, name.split("."))) and find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _look_here() -> None:
    """Have modules of the working directory found, as `python -m` has them."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _name_of_file(path: Path) -> str:
    """Return the module that a file is, after its top folder became one that is looked through."""
    if not path.is_file():
        raise InputError(path, "", "no such file", _HOW)
    parts, folder = [path.stem], path.resolve().parent
    while (folder / "__init__.py").is_file():
        parts, folder = [folder.name, *parts], folder.parent
    if parts[-1] == "__init__":
        parts.pop()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(parts)


def _in_module(name: str, where: str) -> list[Tested]:
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module of somebody else, and be it an exit
        reason = f"cannot be imported ({type(error).__name__}: {error})"
        fix = f"see that `python -c 'import {name}'` works"
        raise InputError(where, "", reason, fix) from error
    found: list[Tested] = []
    for value in vars(module).values():
        for spec in value if isinstance(value, tuple | list) else (value,):
            new = not any(spec is one.spec for one in found)
            found += [_tested(kind, spec) for kind in KINDS if new and kind.holds(spec)]
    if not found:
        kinds = ", ".join(kind.spec.partition(":")[2] for kind in KINDS)
        fix = "define one at the module's top level, such as SPEC = MetricSpec(...)"
        raise InputError(where, "", f"holds none of {kinds}", fix)
    return found


def _once(registered: list[tuple[_Kind, Any]]) -> list[tuple[_Kind, Any]]:
    """Leave out the variant that a design is: the design's contract holds the variant's."""
    kinds = {kind.word for kind, _ in registered}
    return [(k, spec) for k, spec in registered if k.word != "variant" or "design" not in kinds]


def _tested(kind: _Kind, spec: Any) -> Tested:
    return Tested(spec, kind.word, kind.registered().fault_of(spec), kind.contract)
