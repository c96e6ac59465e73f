"""The registry of designs: what the text decoder's prefix is made of; no torch.

A design answers one question: what does the text decoder's prefix know of a region? All else (SAM,
the projection, the text decoder, training) is one assembly that all designs share. A registered
design is a variant of the same name (`sca_bench.variants`).

A third party registers a `DesignSpec` through the entry-point group `sca_bench.designs`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sca_bench.plugins import Registry, fault_of_names
from sca_bench.types import Family

PAPER = "Huang et al., Segment and Caption Anything, CVPR 2024"
"""Where the built-in designs come from."""


@dataclass(frozen=True, slots=True)
class DesignSpec:
    """One design, described; its code is imported on use.

        SPEC = DesignSpec(
            name="first_tokens",
            summary="Text queries that see SAM's own tokens only",
            design="my_package.design:first_tokens",
            options="my_package.settings:FirstTokens",
        )

    Attributes:
        name: What `variant:` names in a suite.
        summary: One line for `list variants`.
        design: `module:attribute` of the function that makes its parts:
            `(mixer settings, SAM's sizes) -> sca_bench.models.designs.Design`. With `options` it is
            called with `options=` as well, an instance of that class. It may take the file to name
            in an error as its last argument, too.
        options: `module:Class` of its own settings, a subclass of `sca_bench.settings.Settings`;
            they stand under `options:` in a suite. Empty where it has none.
        trained: Stages that are trained, for `describe`.
        features: Families of frozen features it reads (`sca_bench.types.Family`).
        features_as_published: Those it reads beside them with `mixer.as_published`.
        as_published: What `mixer.as_published` does; empty where it changes nothing.
        ignores: Settings (or sections, dotted) that change no number of it: they leave its key.
        keys_lacked: Settings (or sections, dotted) that the keys of older revisions of it did not
            hold, each with these revisions; runs of them keep their keys.
        needs_boxes: Whether it cannot do with a point alone.
        revision: Raised whenever its code changes a number; part of every cell's key.
        source: Where the design comes from.
        licence: Licence of its code.
        example: `module:attribute` of a function by which `sca_bench test` tries it: it gets a
            folder, may make files in it, and returns settings by dotted path, over
            the tiny ones of `contract.captioners.cell`. Empty: these will do.
        fault: Why it cannot be used at all: a package that does not import.
    """

    name: str
    summary: str
    design: str
    options: str = ""
    trained: tuple[str, ...] = ("text_mixer", "caption_query_tokens", "projection", "task_tokens")
    features: tuple[Family, ...] = ("mixed",)
    features_as_published: tuple[Family, ...] = ()
    as_published: str = ""
    ignores: tuple[str, ...] = ()
    keys_lacked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    needs_boxes: bool = False
    revision: str = "1"
    source: str = ""
    licence: str = "Apache-2.0"
    example: str = ""
    fault: str = ""


def _fault_of(spec: DesignSpec) -> str:
    code = {"design": spec.design, **({"options": spec.options} if spec.options else {})}
    return fault_of_names("design", spec.name, code)


def _broken(name: str, value: str, fault: str) -> DesignSpec:
    return DesignSpec(name, fault, value, licence="-", fault=fault)


_FILES = ("text_query", "split_mixer", "sam_query", "sam_query_v1", "mask_heads", "roi_align")
"""The built-in designs: files of `sca_bench.models.designs`, each with a `SPEC`."""

DESIGNS = Registry(
    "sca_bench.designs",
    DesignSpec,
    "variant",
    own=[f"sca_bench.models.designs.{file}:SPEC" for file in _FILES],
    fault_of=_fault_of,
    broken=_broken,
)
"""Every design by name: this package's own first, then those of entry points."""
