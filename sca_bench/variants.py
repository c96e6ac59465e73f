"""The registry of model variants and baselines: names, lazy builders, facts; no torch import.

A third party registers a `VariantSpec` through the entry-point group `sca_bench.variants`, and a
design of the SCA family, which is less to write, through `sca_bench.designs` (`specs.designs`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, get_args

from sca_bench.errors import InputError, address, at
from sca_bench.plugins import Registry, attribute, fault_of_names, is_own
from sca_bench.specs.designs import DESIGNS, DesignSpec
from sca_bench.types import FAMILIES, Family, Trains

SAM_PARTS = "sca_bench.models.build:load_sam_parts"
"""Loader of SAM alone."""
SCA_PARTS = "sca_bench.models.build:load_frozen_parts"
"""Loader of SAM and a text decoder; what it returns serves as `SAM_PARTS`, too."""
SCA_BUILDER = "sca_bench.models.build:build_sca"
"""Builder of all designs of the SCA family."""
_NOT_STACKED = (
    ("text_decoder", "trainable"),
    ("text_decoder", "gradient_checkpointing"),
    ("mixer", "gradient_checkpointing"),
    ("runtime", "compile"),
)
"""Switches, by section, that leave no part to be computed for several cells at once, or that would
lose track of whose part it is."""
_NO_FILE = "settings"
"""What a builder that asks for a file gets where there is none."""
_Made = TypeVar("_Made")
_Given = ParamSpec("_Given")


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One variant, described; its code is imported on use.

    Attributes:
        name: What `variant:` names in a suite.
        builder: `module:attribute` of the function that builds the captioner; imported on use.
        parts: `module:attribute` of the function that loads what cells of a group share in
            memory (`settings -> parts`); the builder then gets it as `parts`.
        summary: One line for `list variants`.
        frozen: Stages that are never trained.
        trained: Stages that are trained.
        looks: Whether the captioner reads pixels (or features of them) at all.
        reads: Sections of the settings, or single ones (dotted), that it depends on; empty for all.
            What the engine reads for it (`engine_reads`) counts whether it is named here or not.
        ignores: Settings (or sections, dotted) that change no number of it: they leave its key.
        keys_lacked: Settings (or sections, dotted) that the keys of older revisions of it did not
            hold, each with these revisions; runs of them keep their keys.
        frozen_reads: What its `frozen_features` and its loader of parts depend on of all that it
            reads, beside images and prompts: cells that agree in this share frozen features. Empty
            for all that it reads but the recipe of training.
        has_sams_features: Whether its frozen features are those of this package's SAM with the
            cell's `mixer.image_grid` (`SamParts.region_encoder`), so that it shares them with all
            other variants that say so. Designs of the SCA family need not say it.
        design: `module:attribute` of the function that makes the parts in which SCA's variants
            differ (`mixer settings, SAM's sizes -> Design`); `build_sca` calls it, with `options=`
            where it has settings of its own.
        features: Families of frozen features it reads.
        features_as_published: Those it reads beside them with `mixer.as_published`.
        as_published: What `mixer.as_published` does; empty where it changes nothing.
        needs_boxes: Whether it cannot do with a point alone.
        needs_originals: Whether it reads images as they are stored (`original_images` of a batch).
        needs_pixels: Whether it reads SAM's input (`pixel_values_B3HW` of a batch), or features of
            it. Where not, none is made, and a batch has None there.
        published_loss: Whether its loss is the mean of single images' losses where
            `train.as_published` says so.
        stacks: Whether its captioners can be stepped together with others, which `train.stacked`
            asks for (`captioner.StacksCells`).
        trains: How it learns: by gradient steps, by one look at the captions, or not at all.
        revision: Raised whenever the variant's code changes a number; part of every cell's key.
        source: Where the design comes from.
        licence: Licence of the design's code or weights.
        options: `module:Class` of settings of its own, a subclass of `sca_bench.settings.Settings`;
            they stand under `options:` in a suite, and the builder finds an instance of the class
            in `settings.options`. They count in a cell's key unless `ignores` names them. Empty
            where it has none.
        example: `module:attribute` of a function by which `sca_bench test` tries it: it gets a
            folder, may make files in it, and returns settings by dotted path, over
            the tiny ones of `contract.captioners.cell`. Empty: these will do.
        fault: Why it cannot be used at all: a package that does not import.

    Builder, loader and design may take `where` as well, the file to name in an error: the builder
    by that name, the other two as their last argument. They need not (see `errors.at`).
    """

    name: str
    builder: str
    summary: str
    parts: str = ""
    frozen: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    looks: bool = True
    reads: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    keys_lacked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    frozen_reads: tuple[str, ...] = ()
    has_sams_features: bool = False
    design: str = ""
    features: tuple[Family, ...] = ("mixed",)
    features_as_published: tuple[Family, ...] = ()
    as_published: str = ""
    needs_boxes: bool = False
    needs_originals: bool = False
    needs_pixels: bool = True
    published_loss: bool = False
    stacks: bool = False
    trains: Trains = "gradient"
    revision: str = "1"
    source: str = ""
    licence: str = "Apache-2.0"
    options: str = ""
    example: str = ""
    fault: str = ""

    def load(self) -> Callable[..., Any]:
        """Import and return the builder: `(settings, parts) -> captioner`."""
        builder: Callable[..., Any] = attribute(self.builder)
        return where_optional(builder)

    @property
    def is_own(self) -> bool:
        """Whether all of its code comes with this package."""
        return all(map(is_own, self.named_code().values()))

    def named_code(self) -> dict[str, str]:
        """Return what it names as `module:attribute`, by field."""
        code = {"builder": self.builder, "parts": self.parts, "design": self.design}
        code["options"] = self.options
        return {field: path for field, path in code.items() if path}

    def check(self, settings: Any) -> None:
        """Refuse settings that its code would pass over, though they are to change its numbers.

        Args:
            settings: Of a cell.

        Raises:
            InputError: `train`, of a stage perhaps, asks for a loss that it does not have, or for
                cells stepped as one where they cannot be.
        """
        if self.trains != "gradient":
            return
        for number, train in enumerate((settings.train, *(s.train for s in settings.pretraining))):
            key = f"pretraining.{number - 1}.train" if number else "train"
            if train.stacked:
                self._check_stacked(settings, key)
            if "loss" in train.as_published and not self.published_loss:
                problem = f"loss: {self.name} does not say how it averages over images"
                fix = "leave `loss` out, or set published_loss=True in its entry once it does"
                raise InputError(None, f"{key}.as_published", problem, fix)

    def _check_stacked(self, settings: Any, key: str) -> None:
        """Refuse to step cells as one that cannot be."""
        if not self.stacks:
            problem = f"{self.name} cannot be stepped together with other cells"
            raise InputError(None, f"{key}.stacked", problem, "leave it out")
        for section, name in _NOT_STACKED:
            if getattr(getattr(settings, section), name):
                problem = f"cells are not stepped as one where {section}.{name} is true"
                raise InputError(None, f"{key}.stacked", problem, "leave one of the two out")

    @property
    def loads_sam(self) -> bool:
        """Whether this package's SAM computes for it, whatever it makes of that."""
        return self.parts in (SAM_PARTS, SCA_PARTS)

    @property
    def shares_sams_features(self) -> bool:
        """Whether its frozen features are those of this package's SAM; see `has_sams_features`."""
        return self.has_sams_features or (self.builder == SCA_BUILDER and self.loads_sam)

    @property
    def takes_pixels(self) -> bool:
        """Whether its batches hold SAM's input, unless frozen features are given."""
        return self.looks and self.needs_pixels

    @property
    def engine_reads(self) -> tuple[str, ...]:
        """What the engine reads of the settings to run it, whatever its own code reads.

        Images come in the size of SAM's input and are captioned in the precision of training; a
        training by steps follows the whole recipe.
        """
        reads: tuple[str, ...] = ("variant", "data", "eval.split")
        if self.looks:
            reads += ("eval", "sam.size", "train.precision")
        if self.trains == "gradient":
            reads += ("train", "pretraining", "start_from")
        return reads

    @property
    def own_reads(self) -> tuple[str, ...]:
        """What its own code reads: `reads`, and its own settings; empty for all."""
        return (*self.reads, "options") if self.reads else ()

    def families(self, settings: Any) -> tuple[Family, ...]:
        """Return the families of frozen features it reads with these settings, in fixed order."""
        also = self.features_as_published if settings.mixer.as_published else ()
        return tuple(family for family in FAMILIES if family in (*self.features, *also))

    def load_design(self) -> Callable[..., Any]:
        """Import and return the function that makes the parts of its design.

        Raises:
            InputError: It is no design of the SCA family.
        """
        if not self.design:
            raise InputError(None, "variant", f"{self.name} names no design of the SCA family")
        design: Callable[..., Any] = attribute(self.design)
        return where_optional(design)

    def load_parts(self, settings: Any, where: object = None) -> Any:
        """Load what cells with these settings share, or None.

        Args:
            settings: Of any of the cells.
            where: As for `where_optional`.
        """
        if not self.parts:
            return None
        loader: Callable[..., Any] = attribute(self.parts)
        return where_optional(loader)(settings, where=where)


def where_optional(function: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
    """Return `function` as one that is called with `where` or without, whether it takes it or not.

    Builders, loaders and designs of other packages may take `where`, the file to name in an error;
    those of this one do not. It is taken by that name, by `*` or `**`, or under another name as
    one required argument more than there are.

    It is a decorator, too, for what other packages call and once took `where`: its callers may go
    on giving it, by name or after all other arguments. A type checker sees the function's own
    parameters, since the type of "these and one more keyword" cannot be written.

    Args:
        function: A builder, a loader of parts, or a design. What is returned takes the same
            arguments and `where`: `errors.address()` if it is not given.
    """
    parameters = inspect.signature(function).parameters.values()
    kinds = {p.kind for p in parameters}
    by_name = any(p.name == "where" and p.kind is not p.POSITIONAL_ONLY for p in parameters)
    by_name |= inspect.Parameter.VAR_KEYWORD in kinds
    in_order = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p.name for p in parameters if p.kind in in_order and p.default is p.empty]
    most = sum(p.kind in in_order for p in parameters)
    starred = inspect.Parameter.VAR_POSITIONAL in kinds
    plain: Callable[..., _Made] = function

    @functools.wraps(plain)
    def call(*arguments: Any, where: object = None, **named: Any) -> _Made:
        if where is None and not starred and len(arguments) == most + 1:
            arguments, where = arguments[:-1], arguments[-1]
        file = address() if where is None else str(where)
        with at(file):
            if by_name:
                return plain(*arguments, where=file or _NO_FILE, **named)
            more = len(set(required) - named.keys()) > len(arguments)
            if more or starred:
                return plain(*arguments, file or _NO_FILE, **named)
            return plain(*arguments, **named)

    return call


_FROZEN = ("image_encoder", "prompt_encoder", "sam_mixer", "text_decoder")
_NO_BASELINE = ("baseline", "crop")
"""Sections of the settings that only captioners outside the SCA family read."""


@functools.cache
def variant_of(design: DesignSpec) -> VariantSpec:
    """Return the variant that a design is: its parts, in the assembly of the SCA family."""
    return VariantSpec(
        name=design.name,
        builder=SCA_BUILDER,
        parts=SCA_PARTS,
        summary=design.summary,
        frozen=_FROZEN,
        trained=design.trained,
        ignores=(*_NO_BASELINE, *design.ignores),
        keys_lacked=design.keys_lacked,
        design=design.design,
        features=design.features,
        features_as_published=design.features_as_published,
        as_published=design.as_published,
        needs_boxes=design.needs_boxes,
        published_loss=True,
        stacks=True,
        revision=design.revision,
        source=design.source,
        licence=design.licence,
        options=design.options,
        example=design.example,
        fault=design.fault,
    )


class _Variants(Registry[VariantSpec]):
    """The variants that entry points name, and every design."""

    def own(self) -> Mapping[str, VariantSpec]:
        """Return the built-in designs; baselines are entry points, of this package."""
        if self._own is None:
            self._own = {name: variant_of(design) for name, design in DESIGNS.own().items()}
        return self._own

    def _finders(self) -> tuple[Any, ...]:
        return (self.find, DESIGNS.find)

    def _found(self) -> dict[str, VariantSpec]:
        """Return the built-in designs, what entry points name, and designs of others."""
        found = super()._found()
        for name, design in DESIGNS.all().items():
            spec, other = variant_of(design), found.get(name)
            if other is None:
                found[name] = spec
            elif other != spec and all(map(is_own, other.named_code().values())):
                key, fault = f"{name} ({design.design})", "is called as one of sca_bench's own"
                found[key] = _broken(key, design.design, f"the design {design.design} {fault}")
            elif other != spec:
                fault = f"registered twice, as a variant and as a design ({design.design})"
                found[name] = _broken(name, design.design, fault)
        return found


def all_variants() -> dict[str, VariantSpec]:
    """Return every registered variant by name, built-in ones first.

    An entry point that cannot be used stays in it, with its fault; see `plugins`.
    """
    return VARIANTS.all()


def get_variant(name: str) -> VariantSpec:
    """Return one variant that can be used.

    Raises:
        InputError: No such name, and the nearest one is suggested; or its entry point cannot be
            used.
    """
    return VARIANTS.get(name)


def _fault_of(spec: VariantSpec) -> str:
    fault = fault_of_names("variant", spec.name, {"builder": spec.builder, **spec.named_code()})
    if not fault and spec.trains not in get_args(Trains):
        return f"has trains {spec.trains!r}, expected one of {', '.join(get_args(Trains))}"
    return fault


def _broken(name: str, value: str, fault: str) -> VariantSpec:
    return VariantSpec(name, value, fault, trains="never", licence="-", fault=fault)


VARIANTS = _Variants(
    "sca_bench.variants", VariantSpec, "variant", own=(), fault_of=_fault_of, broken=_broken
)
"""Every variant and baseline by name; a registered design is a variant of the same name."""
