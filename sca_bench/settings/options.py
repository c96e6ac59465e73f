"""Settings of its own that a variant or an encoder brings: found by its name, read on use.

A suite gives those of a variant under `options:`; `VariantSpec.options` (or `DesignSpec.options`)
names their class. Those of an image encoder stand under `encoder.options`, and
`EncoderSpec.options` names them. Their fields have the kinds of `settings.base`: `result` enters
the cell's key, `path` by content, `cost` and `label` do not.

    from pydantic import Field
    from sca_bench.settings import Settings, of_kind

    class MyOptions(Settings):
        width: int = Field(8, ge=1)
        "Channels of the head."
        weights: str | None = of_kind("path", None)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import ConfigDict

from sca_bench.errors import InputError
from sca_bench.plugins import Registry, attribute
from sca_bench.settings.base import Settings
from sca_bench.specs.encoders import ENCODERS
from sca_bench.variants import VARIANTS


class NoOptions(Settings):
    """What a variant or an encoder without settings of its own takes: nothing."""


class UnreadOptions(Settings):
    """Those of a variant that is not installed here: kept as they are, for lists and reports."""

    model_config = ConfigDict(extra="allow")


class HasOptions(Protocol):
    """A spec of a thing that may bring settings of its own."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def options(self) -> str:
        """`module:Class` of its own settings; empty where it has none."""

    @property
    def fault(self) -> str:
        """Why it cannot be used; empty where it can."""


def options_of(spec: HasOptions, key: str = "variant") -> type[Settings]:
    """Return the class of its own settings; `NoOptions` where it has none.

    Args:
        spec: A variant, or an image encoder.
        key: The setting that names it, for the error.

    Raises:
        InputError: It names a class that cannot be used.
    """
    if not spec.options:
        return NoOptions
    kind, fault = _settings_class(spec.options)
    if kind is None:
        problem = f"{spec.name!r} cannot be used: {fault}"
        raise InputError(None, key, problem, "repair or uninstall the package")
    return kind


def fault_of_options(spec: HasOptions) -> str:
    """Return what is wrong with the class of its own settings; empty where nothing is."""
    return _settings_class(spec.options)[1] if spec.options else ""


def _settings_class(path: str) -> tuple[type[Settings] | None, str]:
    """Return the settings class that `module:Class` names, or None and what is wrong with it."""
    try:
        kind = attribute(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another package's fault, and be it an exit
        fault = f"its options {path} cannot be loaded ({type(error).__name__}: {error})"
        return None, " ".join(fault.split())
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        what = kind.__name__ if isinstance(kind, type) else type(kind).__name__
        expected = "expected a subclass of sca_bench.settings.Settings"
        return None, f"its options {path} are {what}, {expected}"
    return kind, ""


class _OptionsByName(Mapping[str, type[Settings]]):
    """Name -> class of its own settings, loaded when it is asked for.

    Any name has a class; what is listed are the names that have settings of their own, as far as
    these can be used.

    Attributes:
        registry: Where the names are registered.
        key: The setting that takes such a name.
        unknown: What reads the options of a name that nothing usable has.
    """

    registry: Registry[Any]
    key: str
    unknown: type[Settings]

    def __getitem__(self, name: str) -> type[Settings]:
        """Return the class that reads the options of what has this name.

        Raises:
            InputError: It names a class that cannot be used.
        """
        spec = self.registry.own().get(name) or self.registry.all().get(name)
        return self.unknown if spec is None or spec.fault else options_of(spec, self.key)

    def __iter__(self) -> Iterator[str]:
        for name, spec in self.registry.all().items():
            if spec.options and not spec.fault and not fault_of_options(spec):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


class OptionsByVariant(_OptionsByName):
    """Variant -> class of its own settings (`options`)."""

    registry, key, unknown = VARIANTS, "variant", UnreadOptions


class OptionsByEncoder(_OptionsByName):
    """Image encoder -> class of its own settings (`encoder.options`)."""

    registry, key, unknown = ENCODERS, "encoder.type", NoOptions
