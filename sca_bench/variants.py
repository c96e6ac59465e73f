"""The registry of model variants and baselines: names, lazy builders, facts; no torch import.

A third party registers a `VariantSpec` through the entry-point group `sca_bench.variants`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from sca_bench.errors import InputError, did_you_mean

ENTRY_POINT_GROUP = "sca_bench.variants"


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One registry entry.

    Attributes:
        name: What `variant:` names in a suite.
        builder: `module:attribute` of the function that builds the captioner; imported on use.
        parts: `module:attribute` of the function that loads what cells of a group share in
            memory (`settings, where -> parts`); the builder then gets it as `parts`.
        summary: One line for `list variants`.
        frozen: Stages that are never trained.
        trained: Stages that are trained.
        looks: Whether the captioner reads pixels (or features of them) at all.
        reads: Sections of the settings it depends on; empty for all of them.
        trains: How it learns: by gradient steps, by one look at the captions, or not at all.
        revision: Raised whenever the variant's code changes a number; part of every cell's key.
        source: Where the design comes from.
        licence: Licence of the design's code or weights.
    """

    name: str
    builder: str
    summary: str
    parts: str = ""
    frozen: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    looks: bool = True
    reads: tuple[str, ...] = ()
    trains: Literal["gradient", "once", "never"] = "gradient"
    revision: str = "1"
    source: str = ""
    licence: str = "Apache-2.0"

    def load(self) -> Callable[..., Any]:
        """Import and return the builder: `(settings, parts, where=...) -> captioner`."""
        builder: Callable[..., Any] = _attribute(self.builder)
        return builder

    def load_parts(self, settings: Any, where: str) -> Any:
        """Load what cells with these settings share, or None."""
        return _attribute(self.parts)(settings, where) if self.parts else None


def _attribute(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


_BUILT_IN = (
    VariantSpec(
        name="sca",
        builder="sca_bench.models.build:build_sca",
        parts="sca_bench.models.build:load_frozen_parts",
        summary="Text queries over SAM tokens: the paper's main model",
        frozen=("image_encoder", "prompt_encoder", "sam_mixer", "text_decoder"),
        trained=("text_mixer", "caption_query_tokens", "task_tokens", "projection"),
        source="Huang et al., Segment and Caption Anything, CVPR 2024",
    ),
)


def all_variants() -> dict[str, VariantSpec]:
    """Return every registered variant by name, built-in ones first.

    Raises:
        InputError: Two packages register the same name.
    """
    specs = {spec.name: spec for spec in _BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spec = point.load()
        if spec.name in specs and specs[spec.name] != spec:
            second = f"registered twice, the second by {point.value}"
            raise InputError("variants", spec.name, second)
        specs[spec.name] = spec
    return specs


def get_variant(name: str, where: str = "variant") -> VariantSpec:
    """Return one variant.

    Raises:
        InputError: No such name; the nearest one is suggested.
    """
    specs = all_variants()
    if name not in specs:
        raise InputError(where, "variant", f"{name!r} is not registered", did_you_mean(name, specs))
    return specs[name]
