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

from pydantic import ConfigDict

from sca_bench.errors import InputError
from sca_bench.plugins import attribute
from sca_bench.settings.base import Settings
from sca_bench.specs.encoders import ENCODERS
from sca_bench.variants import VARIANTS, VariantSpec


class NoOptions(Settings):
    """What a variant or an encoder without settings of its own takes: nothing."""


class UnreadOptions(Settings):
    """Those of a variant that is not installed here: kept as they are, for lists and reports."""

    model_config = ConfigDict(extra="allow")


def options_of(spec: VariantSpec) -> type[Settings]:
    """Return the class of a variant's own settings; `NoOptions` where it has none.

    Raises:
        InputError: The variant names a class that cannot be used.
    """
    if not spec.options:
        return NoOptions
    kind, fault = settings_class(spec.options)
    if kind is None:
        problem = f"{spec.name!r} cannot be used: its options {spec.options} {fault}"
        raise InputError(None, "variant", problem, "repair or uninstall the package")
    return kind


def settings_class(path: str) -> tuple[type[Settings] | None, str]:
    """Return the settings class that `module:Class` names, or None and what is wrong with it."""
    try:
        kind = attribute(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another package's fault, and be it an exit
        fault = f"cannot be loaded ({type(error).__name__}: {error})"
        return None, " ".join(fault.split())
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return None, f"is {kind!r}, expected a subclass of sca_bench.settings.Settings"
    return kind, ""


class OptionsByVariant(Mapping[str, type[Settings]]):
    """Variant -> class of its own settings, loaded when it is asked for.

    Any name has a class (`NoOptions`, or `UnreadOptions` where it is not registered); what is
    listed are the variants that have settings of their own, as far as these can be used.
    """

    def __getitem__(self, name: str) -> type[Settings]:
        """Return the class that reads a variant's options.

        Raises:
            InputError: The variant names a class that cannot be used.
        """
        if name in (own := VARIANTS.own()):
            return options_of(own[name])
        spec = VARIANTS.all().get(name)
        return UnreadOptions if spec is None or spec.fault else options_of(spec)

    def __iter__(self) -> Iterator[str]:
        for name, spec in VARIANTS.all().items():
            if spec.options and not spec.fault and settings_class(spec.options)[0] is not None:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


class OptionsByEncoder(Mapping[str, type[Settings]]):
    """Image encoder -> class of its own settings, as `OptionsByVariant` has those of variants."""

    def __getitem__(self, name: str) -> type[Settings]:
        """Return the class that reads an encoder's options.

        Raises:
            InputError: The encoder names a class that cannot be used.
        """
        spec = ENCODERS.own().get(name) or ENCODERS.all().get(name)
        if spec is None or spec.fault or not spec.options:
            return NoOptions
        kind, fault = settings_class(spec.options)
        if kind is None:
            problem = f"{name!r} cannot be used: its options {spec.options} {fault}"
            raise InputError(None, "encoder.type", problem, "repair or uninstall the package")
        return kind

    def __iter__(self) -> Iterator[str]:
        for name, spec in ENCODERS.all().items():
            if spec.options and not spec.fault and settings_class(spec.options)[0] is not None:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)
