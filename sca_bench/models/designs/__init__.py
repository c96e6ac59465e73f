"""SCA's designs, one file each: a spec, and a function `(mixer settings, SAM's sizes) -> Design`.

Designs of other packages import from here what they are made of. Importing this package imports no
torch: the specs have to be read without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import (
        Design,
        MixerContext,
        build_text_mixer,
        mixed_context,
        refuse_changed,
        unmixed_tokens_context,
    )
    from sca_bench.models.designs.queries import CaptionQueries, LearnedQueries
    from sca_bench.specs.sam_dims import SamDims

__all__ = [
    "CaptionQueries",
    "Design",
    "LearnedQueries",
    "MixerContext",
    "SamDims",
    "build_text_mixer",
    "mixed_context",
    "refuse_changed",
    "unmixed_tokens_context",
]

_QUERIES = ("CaptionQueries", "LearnedQueries")


def __getattr__(name: str) -> Any:
    """Import what is asked for, with torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "designs.queries" if name in _QUERIES else "designs.parts"
    if name == "SamDims":
        module = "sam.dims"
    return getattr(import_module(f"sca_bench.models.{module}"), name)
