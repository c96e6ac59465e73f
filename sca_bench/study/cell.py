"""Content-addressed cells: what enters a key, and what a group of cells may share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sca_bench.grammar import WORLD_VERSION
from sca_bench.settings import CellSettings, ScenesSplit, items_of
from sca_bench.study.fingerprint import digest_json
from sca_bench.types import FAMILIES, Family
from sca_bench.variants import SAM_PARTS, SCA_PARTS, get_variant

KEY_LENGTH = 12
FEATURES_REVISION = "3"
"""Raised whenever the code behind SAM's frozen features moves a number of them."""


@dataclass(frozen=True)
class Cell:
    """One resolved configuration with its key; the seed is kept beside it.

    Attributes:
        name: What the suite calls it.
        coordinates: Where it stands on the suite's axes.
        settings: All its settings.
        inputs: Content digest of every path setting.
        cell_id: Hash of what can change its numbers.
        training_id: Hash of what can change its trained weights; empty where nothing is trained.
        starts_from: Training of the stage before its own; empty without pretraining.
        stage: Name, where the cell is a pretraining stage itself.
    """

    name: str
    coordinates: dict[str, Any]
    settings: CellSettings
    inputs: dict[str, str]
    cell_id: str
    revision: str
    control: bool = False
    adjusted: dict[str, Any] | None = None
    training_id: str = ""
    starts_from: str = ""
    stage: str = ""


def result_settings(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return dotted path -> value of every `result` setting."""
    found: dict[str, Any] = {}
    for name, kind, value in items_of(settings):
        if kind != "result":
            continue
        if isinstance(value, ScenesSplit):
            found[f"{prefix}{name}.world"] = WORLD_VERSION
        if isinstance(value, BaseModel):
            found |= result_settings(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return found


def identity(settings: CellSettings, inputs: dict[str, str]) -> dict[str, Any]:
    """Return all that enters a cell's key, flat; `explain` compares two of these."""
    spec = get_variant(settings.variant)
    values = result_settings(settings) | inputs
    values = {k: v for k, v in values.items() if not _is_in(k, spec.ignores)}
    if spec.reads:
        reads = ("variant", "eval.split", *spec.reads)  # which split is captioned always counts
        values = {k: v for k, v in values.items() if _is_in(k, reads)}
    return values | {"variant.revision": spec.revision}


def _is_in(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def cell_key(settings: CellSettings, inputs: dict[str, str]) -> str:
    """Return the key of a cell."""
    return digest_json(identity(settings, inputs))[:KEY_LENGTH]


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


def prefix_key(settings: CellSettings, inputs: dict[str, str]) -> str:
    """Return the key of the frozen prefix and of the data order: equal keys may run as a group.

    Cells whose text decoder is trained share SAM; each keeps a decoder of its own.
    """
    values = result_settings(settings) | inputs
    shared = {
        key: value
        for key, value in values.items()
        if (key.split(".")[0] in _PREFIX_SECTIONS and key not in _OWN_SETTINGS)
        or key in _PREFIX_SETTINGS + _ORDER_SETTINGS
        or key.startswith(("data.train.", "data.val.", "data.test."))
    }
    costs = [getattr(part, name) for part, name in _group_costs(settings)]
    return digest_json([shared, _prefix_code(settings), costs])[:KEY_LENGTH]


def _group_costs(settings: CellSettings) -> list[tuple[BaseModel, str]]:
    """Return the cost settings that hold for a group as a whole."""
    return [
        (settings.features, "cache"),
        (settings.train, "val_every"),
        (settings.eval, "also_train"),
    ]


def _prefix_code(settings: CellSettings) -> list[str]:
    """Return whose code computes the frozen prefix: variants with one loader share it."""
    spec = get_variant(settings.variant)
    return [spec.parts or spec.name, spec.trains, spec.revision]


def data_split(settings: CellSettings, split: str) -> str:
    """Return which entry of `data` a split is read from.

    The engine calls `test` what is captioned and scored: the split that `eval.split` names.
    """
    return settings.eval.split if split == "test" else split


def keeps(settings: CellSettings, split: str) -> bool:
    """Say whether anything frozen of a split is kept: no two jittered training draws are alike."""
    jittered = split == "train" and settings.data.lsj_scale is not None
    return settings.features.cache != "off" and not jittered


def store_keys(
    settings: CellSettings, inputs: dict[str, str], split: str, families: Iterable[Family]
) -> dict[Family, str]:
    """Return the key of each family of a split that is kept, in fixed order.

    Embeddings are kept whenever anything is: whatever else is read is computed from them.
    """
    if not keeps(settings, split):
        return {}
    kept = {"images", *(families if settings.features.cache == "all" else ())}
    return {f: features_key(settings, inputs, split, f) for f in FAMILIES if f in kept}


def features_key(
    settings: CellSettings, inputs: dict[str, str], split: str, family: Family = "mixed"
) -> str:
    """Return the key of one family of a split's frozen features.

    It covers weights, preprocessing and precision; for features of regions also the split with its
    prompts and, where something is pooled, the grid. Features of images depend on nothing of these:
    their rows are named by the images' content, whatever split shows them.
    """
    values = result_settings(settings) | inputs
    code = FEATURES_REVISION if _reads_sam(settings) else _prefix_code(settings)
    shared = _embedding_settings(values)
    if family == "images":
        return digest_json([family, shared, code])[:KEY_LENGTH]
    shared["features.dtype"] = values["features.dtype"]
    shared["prompt"] = _prompt_of(settings, split)
    if family == "mixed":
        shared["mixer.image_grid"] = values["mixer.image_grid"]
    return digest_json([family, shared, split_images(settings, inputs, split), code])[:KEY_LENGTH]


def _embedding_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings and inputs that image embeddings depend on."""
    return {
        key: value
        for key, value in values.items()
        if key.split(".")[0] in ("sam", "encoder")
        or key in ("data.blank_images", "train.precision", "features.encoder_dtype")
    }


def masks_key(settings: CellSettings, inputs: dict[str, str]) -> str:
    """Return the key of SAM's predicted masks of the regions that are captioned.

    It covers weights, preprocessing, precision and prompt; which regions these are, is kept beside.
    """
    values = result_settings(settings) | inputs
    code = FEATURES_REVISION if _reads_sam(settings) else _prefix_code(settings)
    parts = ["masks", _embedding_settings(values), _prompt_of(settings, "test"), code]
    return digest_json(parts)[:KEY_LENGTH]


def split_images(settings: CellSettings, inputs: dict[str, str], split: str) -> str:
    """Return a digest of which images and regions a split shows, in which views."""
    values = result_settings(settings) | inputs
    source = f"data.{data_split(settings, split)}."
    part = {k.removeprefix(source): v for k, v in values.items() if k.startswith(source)}
    views: list[Any] = []
    if split == "train" and settings.data.flip != "never":
        # Which images may ever be drawn mirrored depends on how many regions a draw keeps.
        views = [settings.data.flip, settings.train.regions_per_image]
    if split == "train" and settings.data.lsj_scale is not None:
        views += settings.data.lsj_scale
    return digest_json([part, views])[:KEY_LENGTH]


def _reads_sam(settings: CellSettings) -> bool:
    """Say whether the features are those of this package's SAM, whoever reads them."""
    return get_variant(settings.variant).parts in (SAM_PARTS, SCA_PARTS)


def _prompt_of(settings: CellSettings, split: str) -> list[Any]:
    """Return what prompts SAM in a split, and the seed where points are drawn."""
    prompt = settings.eval.prompt if split == "test" else settings.train.prompt
    drawn = prompt in ("random_point", "mask_point", "sam_mask_point")
    return [prompt, settings.eval.prompt_seed if drawn else None]
