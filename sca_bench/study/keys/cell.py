"""Content-addressed cells: what enters a key, and what a group of cells may share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

from pydantic import BaseModel

from sca_bench.scene_grammar import WORLD_VERSION
from sca_bench.settings import AnySplit, CellSettings, Kind, SplitSettings, items_of
from sca_bench.settings.base import defaults_since
from sca_bench.specs.encoders import (
    SIZE_KEY,
    TYPE_KEY,
    EncoderSpec,
    encoder_of,
    in_sam,
    of_sam,
)
from sca_bench.specs.readers import READERS, ReaderSpec
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.types import FAMILIES, Family, Prompt
from sca_bench.variants import SCA_PARTS, VariantSpec, get_variant
from sca_bench.weight_paths import PREFIX as EMBEDDED

KEY_LENGTH = 12
FEATURES_REVISION = "3"
"""Raised whenever the code of SAM's frozen features moves a number of them."""
OPTIMISER_REVISION = "2"
"""Raised whenever the optimiser treats some module in another way. It counts where one is trained
that did not come with this package, whose own have LayerNorms only."""
OF_READER, OF_ENCODER = "reader.", "encoder."
"""Begin the names of a reader's and of an encoder's revision in a record."""
_WORLD = "world"
"""What the revision of rendered scenes is called in keys."""
_UNSAID_FEATURES = "2"
"""The revision that no key names: keys were made before it was part of them."""
_UNSAID_WORLD = "scenes-1"
"""The world of all runs whose record does not say it."""
_UNSAID_OPTIMISER = "1"
"""Likewise: RMSNorms and norms of other classes were decayed as weights are."""


@dataclass(frozen=True)
class Revisions:
    """The revisions of code that are part of a cell's key.

    Attributes:
        variant: Of the variant (`VariantSpec.revision`).
        features: Of SAM's frozen features; it counts for variants that read them.
        world: Of rendered scenes; it counts where a split is made of them.
        optimiser: Of the optimiser; it counts where a module of others is trained.
        readers: Of dataset readers of other packages that have one, by name; each counts where a
            split is read by it.
        encoders: Of image encoders of other packages, by name (`EncoderSpec.key_revision`); each
            counts where `sam.size` or `encoder.type` does, whichever names it.
    """

    variant: str
    features: str = _UNSAID_FEATURES
    world: str = _UNSAID_WORLD
    optimiser: str = _UNSAID_OPTIMISER
    readers: Mapping[str, str] = field(default_factory=dict)
    encoders: Mapping[str, str] = field(default_factory=dict)

    @property
    def beside_variant(self) -> dict[str, str]:
        """What a record keeps beside the variant's own."""
        own = {"features": self.features, "world": self.world, "optimiser": self.optimiser}
        own |= {f"{OF_READER}{name}": text for name, text in self.readers.items()}
        return own | {f"{OF_ENCODER}{name}": text for name, text in self.encoders.items()}

    def of_reader(self, spec: ReaderSpec) -> str:
        """Return the revision of a reader; empty where it had none."""
        return self.world if spec.revision_key == _WORLD else self.readers.get(spec.name, "")


def todays_revisions(variant: str, settings: CellSettings | None = None) -> Revisions:
    """Return the revisions that a run of a variant is made with now.

    Args:
        variant: Its name.
        settings: Settings of the cell, for what only some readers and encoders have.
    """
    return Revisions(
        get_variant(variant).revision,
        FEATURES_REVISION,
        WORLD_VERSION,
        OPTIMISER_REVISION,
        {} if settings is None else _reader_revisions(settings),
        {} if settings is None else _encoder_revisions(settings),
    )


def _reader_revisions(settings: CellSettings) -> dict[str, str]:
    data, stages = settings.data, settings.pretraining
    splits = [data.train, data.val, data.test, *(stage.data.train for stage in stages)]
    names = {single.dataset for split in splits if split for single in split.singles()}
    specs = [READERS.get(name) for name in sorted(names)]
    return {s.name: s.revision for s in specs if s.revision and s.revision_key != _WORLD}


def _encoder_revisions(settings: CellSettings) -> dict[str, str]:
    specs = (of_sam(settings.sam.size), in_sam(settings.encoder.type))
    return {spec.name: spec.key_revision for spec in specs if spec.key_revision}


RunSplit = Literal["train", "val", "captioned"]
"""A split by what a run does with it. `captioned` is what it captions and is scored on: the entry
of `data` that `eval.split` names."""
SPLITS: tuple[RunSplit, ...] = ("train", "val", "captioned")


@dataclass(frozen=True)
class Cell:
    """One resolved configuration with its keys; the seed is kept beside it.

    Attributes:
        name: What the suite calls it.
        coordinates: Where it stands on the suite's axes.
        identity: Its settings and the content of its files, from which its keys follow.
        starts_from: Training of the stage before its own; empty without pretraining.
        stage: Name, where the cell is a pretraining stage itself.
    """

    name: str
    coordinates: dict[str, Any]
    identity: CellIdentity
    control: bool = False
    adjusted: dict[str, Any] | None = None
    starts_from: str = ""
    stage: str = ""

    @property
    def settings(self) -> CellSettings:
        """All its settings."""
        return self.identity.settings

    @property
    def cell_id(self) -> str:
        """Hash of what can change its numbers; of a stage, of what can change its weights."""
        return self.training_id if self.stage else self.identity.cell_key

    @property
    def training_id(self) -> str:
        """Hash of what can change its trained weights; empty where nothing is trained."""
        return self.identity.training_key

    @property
    def revision(self) -> str:
        """Revision of its variant's code."""
        return self.identity.spec.revision


def keyed_values(
    settings: BaseModel, inputs: Mapping[str, str], made_with: Revisions | None = None
) -> dict[str, Any]:
    """Return all that enters keys, by dotted path: values of settings, digests of what paths name.

    A setting that was added later (`since` in `settings.base`) enters where it differs from its
    default. Of an object that was added later, each setting does.

    Args:
        settings: The settings.
        inputs: Dotted path -> content digest of the path settings that are given.
        made_with: Revisions of the code; those of today's readers where None.
    """
    keyed: dict[str, Any] = {}
    for path, kind, value in _entering(settings):
        if kind == "path" and path in inputs:
            keyed[path] = inputs[path]
        elif kind == "result" and isinstance(value, AnySplit):
            spec = READERS.get(value.dataset)
            revision = spec.revision if made_with is None else made_with.of_reader(spec)
            if revision:
                keyed[f"{path}.{spec.revision_key}"] = revision
        elif kind == "result" and not isinstance(value, BaseModel):
            keyed[path] = _plain(value)
    return keyed


def _plain(value: Any) -> Any:
    """Return a setting's value as JSON has it; -0.0, which computes what 0.0 does, is 0.0."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value


def _entering(
    settings: BaseModel, prefix: str = "", before: BaseModel | None = None
) -> Iterator[tuple[str, Kind, Any]]:
    """Yield (dotted path, kind, value) of what enters keys: objects, then what they hold.

    Args:
        settings: The settings.
        prefix: Path of the object they are, with a dot at the end.
        before: What that object is by default, where it was added later as a whole.
    """
    defaults = defaults_since(type(settings)) if before is None else dict(before)
    for name, kind, value in items_of(settings):
        field = name.partition(".")[0]
        if field in defaults and getattr(settings, field) == defaults[field]:
            continue
        yield f"{prefix}{name}", kind, value
        if isinstance(value, BaseModel) and kind == "result":
            inner = defaults.get(name)
            same = type(inner) is type(value)
            yield from _entering(value, f"{prefix}{name}.", inner if same else None)


def _is_in(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


_PREFIX_SECTIONS = ("sam", "encoder", "text_decoder", "crop", "features", "eval")
_PREFIX_SETTINGS = (
    "mixer.image_grid",
    "data.blank_images",
    "data.flip",
    "data.lsj_scale",
    "data.lsj_as_published",
    "data.permute_captions",
    "train.prompt",
    "train.precision",
)
_OWN_SETTINGS = ("eval.select",)
"""Settings inside those sections that each cell of a group may have for itself."""
_ORDER_SETTINGS = ("train.steps", "train.images_per_batch", "train.regions_per_image")
_EVALUATION = ("eval.", "data.val.", "data.test.")
"""What changes no trained weight."""
_RECIPE = ("variant", "data", "train", "pretraining")
_SHOWN = ("eval.split", "eval.prompt", "eval.prompt_seed")
"""What frozen features depend on by split only: images and prompts; beside them, and beside the
recipe, they may depend on whatever a variant reads."""


@dataclass(frozen=True)
class CellIdentity:
    """What makes a cell the same cell: its settings, and the content of the files they name.

    Made once, where both are known, and carried along wherever the cell goes. All keys follow from
    it; each is worked out when it is first asked for.

    Attributes:
        settings: All its settings.
        inputs: Dotted path of every path setting -> content digest.
        made_with: Revisions of the code of an older run; today's where None.
    """

    settings: CellSettings
    inputs: dict[str, str]
    made_with: Revisions | None = None

    @classmethod
    def stored(
        cls, settings: dict[str, Any], inputs: dict[str, str], made_with: Revisions | None = None
    ) -> CellIdentity:
        """Return the identity of a cell whose settings come from a file: `CellSettings.stored`."""
        return cls(CellSettings.stored(settings), inputs, made_with)

    @cached_property
    def spec(self) -> VariantSpec:
        """Its variant.

        Raises:
            InputError: No variant of that name is registered.
        """
        return get_variant(self.settings.variant)

    @cached_property
    def revisions(self) -> Revisions:
        """Revisions of the code that its keys are made with."""
        return self.made_with or todays_revisions(self.settings.variant, self.settings)

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Families of frozen features that it reads, in fixed order."""
        return self.spec.families(self.settings)

    @cached_property
    def values(self) -> dict[str, Any]:
        """Dotted path -> what enters keys (`keyed_values`)."""
        values = keyed_values(self.settings, self.inputs, self.revisions)
        for key in (SIZE_KEY, TYPE_KEY):
            if revision := self.revisions.encoders.get(values[key]):
                values[f"{key}.revision"] = revision
        return values

    @cached_property
    def encoder(self) -> EncoderSpec:
        """What its images are made ready for, with nothing left open.

        A captioner that does not depend on `encoder.type` gets images as for SAM's own.
        """
        settings = self.settings
        name = settings.encoder.type if self._counts(TYPE_KEY) else "sam"
        return encoder_of(settings.sam.size, name)

    @cached_property
    def key_values(self) -> dict[str, Any]:
        """All that enters the cell's key, flat; `explain` compares two of these."""
        values = {k: v for k, v in self.values.items() if self._counts(k)}
        values["variant.revision"] = self.revisions.variant
        if self.spec.loads_sam and self.revisions.features != _UNSAID_FEATURES:
            values["features.revision"] = self.revisions.features
        if self._trains_modules_of_others and self.revisions.optimiser != _UNSAID_OPTIMISER:
            values["optimiser.revision"] = self.revisions.optimiser
        return values

    def _counts(self, key: str) -> bool:
        """Say whether a setting enters the cell's key: its variant reads it, or the engine does."""
        spec, revision = self.spec, self.revisions.variant
        if any(revision in older and _is_in(key, (name,)) for name, older in spec.keys_lacked):
            return False
        if _is_in(key, spec.engine_reads):
            return True
        if key == "train.prompt" and spec.looks and self.settings.eval.also_train:
            return True  # training regions are captioned by the prompt of training
        reads = spec.own_reads
        return (not reads or _is_in(key, reads)) and not _is_in(key, spec.ignores)

    @cached_property
    def cell_key(self) -> str:
        """Key of the cell."""
        return digest_json(self.key_values)[:KEY_LENGTH]

    @cached_property
    def training_key(self) -> str:
        """Key of the trained weights; empty for a variant without gradient steps."""
        if self.spec.trains != "gradient":
            return ""
        values = self.key_values
        of_training = {k: v for k, v in values.items() if not f"{k}.".startswith(_EVALUATION)}
        if self.settings.train.prompt == "random_point":
            of_training["train.prompt_seed"] = self.settings.eval.prompt_seed
        return digest_json(["training", of_training])[:KEY_LENGTH]

    @cached_property
    def prefix_key(self) -> str:
        """Key of the frozen prefix and of the data order: equal keys may run as a group.

        Cells whose text decoder is trained share SAM; each keeps a decoder of its own.
        """
        shared = {
            key: value
            for key, value in self.values.items()
            if (key.split(".")[0] in _PREFIX_SECTIONS and key not in _OWN_SETTINGS)
            or key in _PREFIX_SETTINGS + _ORDER_SETTINGS
            or key.startswith(("data.train.", "data.val.", "data.test."))
        }
        # Cost settings that hold for a group as a whole.
        settings = self.settings
        costs = [settings.features.cache, settings.train.val_every, settings.eval.also_train]
        return digest_json([shared, self._prefix_code, costs])[:KEY_LENGTH]

    @cached_property
    def _prefix_code(self) -> list[Any]:
        """Whose code computes the frozen prefix, and with which settings of its own.

        Variants with SAM's features share it whatever the revisions of their own code are; a
        loader of parts of their own may read settings of their own. Any other variant has a prefix
        of its own: what it computes is known to its code alone.
        """
        spec = self.spec
        if spec.shares_sams_features:
            shared = [spec.parts or spec.name, spec.trains, self.revisions.features]
            own = {} if spec.loads_sam else self._read_for_features("options")
            return [*shared, own] if own else shared
        code: list[Any] = [spec.name, spec.trains, self.revisions.variant]
        if spec.loads_sam:
            code.append(self.revisions.features)
        own = self._read_for_features()
        return [*code, own] if own else code

    def _read_for_features(self, *sections: str) -> dict[str, Any]:
        """Return what a variant's own code may read for its frozen features and shared parts.

        Args:
            *sections: The sections to look at; all where none is given.
        """
        reads = self.spec.frozen_reads
        return {
            key: value
            for key, value in self.values.items()
            if self._counts(key)
            and not _is_in(key, _RECIPE + _SHOWN)
            and (not sections or _is_in(key, sections))
            and (not reads or _is_in(key, reads))
        }

    @property
    def _trains_modules_of_others(self) -> bool:
        """Whether it trains by gradient what may have norms that no module of this package has."""
        decoder = self.settings.text_decoder
        given = decoder.trainable and not decoder.weights.startswith(EMBEDDED)
        given = given and self.spec.parts == SCA_PARTS
        return self.spec.trains == "gradient" and (given or not self.spec.is_own)

    @property
    def features_code(self) -> str | list[Any]:
        """Whose code computes the frozen features, and with which settings of its own."""
        shares = self.spec.shares_sams_features
        return self.revisions.features if shares else self._prefix_code

    def data_split(self, split: RunSplit) -> str:
        """Return which entry of `data` a split is read from."""
        return self.settings.eval.split if split == "captioned" else split

    @overload
    def split_settings(self, split: Literal["train", "captioned"]) -> SplitSettings: ...
    @overload
    def split_settings(self, split: RunSplit) -> SplitSettings | None: ...
    def split_settings(self, split: RunSplit) -> SplitSettings | None:
        """Return the entry of `data` that a split is read from; None without validation."""
        settings: SplitSettings | None = getattr(self.settings.data, self.data_split(split))
        return settings

    def prompt(self, split: RunSplit) -> Prompt:
        """Return what a region is prompted with in a split."""
        return (self.settings.eval if split == "captioned" else self.settings.train).prompt

    def caches(self, split: RunSplit) -> bool:
        """Say whether frozen features of a split are cached: no two jittered draws are alike."""
        jittered = split == "train" and self.settings.data.lsj_scale is not None
        return self.settings.features.cache != "off" and not jittered

    def store_keys(self, split: RunSplit, families: Iterable[Family]) -> dict[Family, str]:
        """Return the key of each family of a split that is kept, in fixed order.

        Embeddings are kept whenever anything is: whatever else is read is computed from them.
        """
        if not self.caches(split):
            return {}
        cached = {"images", *(families if self.settings.features.cache == "all" else ())}
        return {f: self.features_key(split, f) for f in FAMILIES if f in cached}

    def features_key(self, split: RunSplit, family: Family = "mixed") -> str:
        """Return the key of one family of a split's frozen features.

        It covers weights, preprocessing and precision; for features of regions also the split with
        its prompts and, where something is pooled, the grid. Features of images depend on nothing
        of these: their rows are named by the images' content, whatever split shows them.
        """
        shared, code = self._embedding_settings(), self.features_code
        if family == "images":
            return digest_json([family, shared, code])[:KEY_LENGTH]
        shared["features.dtype"] = self.values["features.dtype"]
        shared["prompt"] = self._seeded_prompt(split)
        if family == "mixed":
            shared["mixer.image_grid"] = self.values["mixer.image_grid"]
        return digest_json([family, shared, self.split_images(split), code])[:KEY_LENGTH]

    @cached_property
    def masks_key(self) -> str:
        """Key of SAM's predicted masks of the regions that are captioned.

        It covers weights, preprocessing, precision and prompt; which regions these are, is kept
        beside.
        """
        prompt = self._seeded_prompt("captioned")
        parts = ["masks", self._embedding_settings(), prompt, self.features_code]
        return digest_json(parts)[:KEY_LENGTH]

    def split_images(self, split: RunSplit) -> str:
        """Return a digest of which images and regions a split shows, in which views."""
        source = f"data.{self.data_split(split)}."
        part = {k.removeprefix(source): v for k, v in self.values.items() if k.startswith(source)}
        data = self.settings.data
        views: list[Any] = []
        if split == "train" and data.flip != "never":
            # Which images may ever be drawn mirrored depends on how many regions a draw keeps.
            views = [data.flip, self.settings.train.regions_per_image]
        if split == "train" and data.lsj_scale is not None:
            views += data.lsj_scale
        return digest_json([part, views])[:KEY_LENGTH]

    def _embedding_settings(self) -> dict[str, Any]:
        """Return the settings and inputs that image embeddings depend on."""
        return {
            key: value
            for key, value in self.values.items()
            if key.split(".")[0] in ("sam", "encoder")
            or key in ("data.blank_images", "train.precision", "features.encoder_dtype")
        }

    def _seeded_prompt(self, split: RunSplit) -> list[Any]:
        """Return what prompts SAM in a split, and the seed where points are drawn."""
        prompt = self.prompt(split)
        drawn = prompt in ("random_point", "mask_point", "sam_mask_point")
        return [prompt, self.settings.eval.prompt_seed if drawn else None]


def families_of(cells: Iterable[CellIdentity]) -> tuple[Family, ...]:
    """Return the families of frozen features that these cells read together, in fixed order."""
    read = {family for cell in cells for family in cell.families}
    return tuple(family for family in FAMILIES if family in read)
