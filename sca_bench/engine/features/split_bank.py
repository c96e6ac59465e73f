"""The bank of a split's frozen features, and which of its images still need pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.engine.features.bank import FeatureBank, Keys, RowShapes, image_key
from sca_bench.engine.features.cache import Cache
from sca_bench.errors import InputError
from sca_bench.formats.pixels import PictureDigests
from sca_bench.scene_grammar import WORLD_VERSION
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import CellIdentity, RunSplit
from sca_bench.types import Family


@dataclass(frozen=True)
class _Content:
    """Tells the images of a split apart by their pixels, scenes by their world."""

    region_set: RegionSet
    blank_images: bool
    digests: PictureDigests

    def __call__(self, image_id: str) -> str:
        if self.blank_images:
            return "blank"
        record = self.region_set.images[image_id]
        path = record.path
        if not path:
            return f"{WORLD_VERSION}:{image_id}"
        try:
            return self.digests.of(Path(path), (record.height, record.width))
        except FileNotFoundError as error:
            raise InputError(path, "", "no such image") from error
        except OSError as error:
            raise InputError(path, "", f"cannot be read ({error.strerror})") from error


def content_of(region_set: RegionSet, settings: CellSettings, digests: PictureDigests) -> Keys:
    """Return what names the rows of a split; a loader's process can have a copy of it."""
    return Keys(_Content(region_set, settings.data.blank_images, digests))


def open_bank(
    cache: Cache,
    cell: CellIdentity,
    split: RunSplit,
    region_set: RegionSet,
    families: Sequence[Family],
) -> FeatureBank:
    """Open what is kept of a split's frozen features.

    Raises:
        InputError: A store does not hold what its key says.
    """
    stores = {family: cache.store(key) for family, key in cell.store_keys(split, families).items()}
    keys = content_of(region_set, cell.settings, PictureDigests(cache.digests))
    return FeatureBank(stores, families, keys, cell.settings.features, sams_shapes(cell))


def sams_shapes(cell: CellIdentity) -> RowShapes:
    """Return the shapes of SAM's features by a cell's settings; none for features of others."""
    if not cell.spec.shares_sams_features:
        return {}
    dims = sam_dims(cell.settings.sam.size)
    width, num_masks = dims.embed_dim, dims.num_mask_tokens - 1
    num_tokens = (cell.settings.mixer.image_grid or dims.grid) ** 2
    return {
        "tokens_NTC": (None, width),
        "image_tokens_NSC": (num_tokens, width),
        "image_pe_SC": (num_tokens, width),
        "ious_NM": (num_masks,),
        "prompt_tokens_NPC": (None, width),
        "own_tokens_TC": (1 + dims.num_mask_tokens, width),
        "embeddings_BChw": (width, dims.grid, dims.grid),
        "embedding_pe_SC": (dims.grid**2, width),
        "dense_prompt_C": (width,),
        "mask_boxes_xyxy_NM4": (num_masks, 4),
    }


def needs_pixels(bank: FeatureBank, views: ViewDataset) -> bool:
    """Say whether images have to be loaded: neither all embeddings nor all features are kept."""
    return not (_has_embeddings(bank, views) or _has_features(bank, views))


def _has_embeddings(bank: FeatureBank, views: ViewDataset) -> bool:
    store = bank.stores.get("images")
    if store is None:
        return False
    return all(image_key(view, bank.keys.content_of(image)) in store for image, view in views.keys)


def _has_features(bank: FeatureBank, views: ViewDataset) -> bool:
    if not bank.knows_regions:
        return False
    return all(
        bank.has_view(view, bank.keys.content_of(image), views.dataset.region_set.regions_of(image))
        for image, view in views.keys
    )
