"""Filling the cache: every image of a split is encoded once, whoever reads what is made of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import EmbedsImages, SharesPrefix
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.features.bank import (
    ROWS,
    SHARED,
    SHARED_KEY,
    FeatureBank,
    Frozen,
    image_key,
    region_key,
    storage_dtype,
    to_rows,
)
from sca_bench.engine.features.cache import Cache
from sca_bench.engine.features.shards import Rows, ShardStore
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.types import Family

SHARD_BYTES = 64 * 2**20
"""Rows are written once so many bytes of them wait."""


class CacheFull(Exception):
    """Nothing more can be kept."""


@dataclass
class _Writer:
    """Collects rows for one store and writes them shard by shard."""

    cache: Cache
    store: ShardStore
    num_bytes: int = 0
    _facts: dict[str, Any] = field(default_factory=dict)
    _waiting: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, keys: Sequence[str], arrays: Mapping[str, Tensor], **facts: Any) -> None:
        """Add rows that the store lacks; one that comes twice is kept once.

        Args:
            keys: Key of each row.
            arrays: The rows.
            **facts: What holds for all rows that are ever added.

        Raises:
            CacheFull: There is no room.
        """
        self._facts = facts
        for row_index, key in enumerate(keys):
            if key in self.store or key in self._waiting:
                continue
            row = {name: values[row_index] for name, values in arrays.items()}
            self._waiting[key] = row
            self._bytes += sum(v.numel() * v.element_size() for v in row.values())
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            CacheFull: There is no room.
        """
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        if not waiting:
            return
        names = next(iter(waiting.values()))
        arrays = {name: _rows([row[name] for row in waiting.values()]) for name in names}
        self.write(list(waiting), arrays, self._facts)

    def write(self, keys: list[str], arrays: Mapping[str, Rows], facts: Mapping[str, Any]) -> None:
        """Write one shard.

        Raises:
            CacheFull: There is no room.
        """
        reason = self.cache.make_room(sum(rows.raw.nbytes for rows in arrays.values()))
        if reason:
            raise CacheFull(reason)
        try:
            threads = {"threads": torch.get_num_threads()}
            self.num_bytes += self.store.append(keys, arrays, {**facts, **threads})
        except OSError as error:
            raise CacheFull(f"{self.store.folder}: {error.strerror or error}") from error


def _rows(values: list[Tensor]) -> Rows:
    stacked = torch.stack(values)
    return to_rows(stacked, stacked.dtype)


@dataclass
class FillResult:
    """What filling the cache for a split came to.

    Attributes:
        encoder_forwards: Images encoded (mirrored ones count by themselves).
        sam_mixer_forwards: Regions mixed.
        images: Images of which something was kept.
        num_bytes: What that takes on disk.
        whole: Family -> whether all of it is kept, as far as this process has seen.
        notes: Lines for the user: damage that was met, and why not everything could be kept.
    """

    encoder_forwards: int = 0
    sam_mixer_forwards: int = 0
    images: int = 0
    num_bytes: int = 0
    whole: dict[Family, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counters(self) -> dict[str, int]:
        """Return what was computed, as an `Outcome` counts it."""
        return {
            "encoder_forwards": self.encoder_forwards,
            "sam_mixer_forwards": self.sam_mixer_forwards,
        }


def fill_bank(
    cache: Cache,
    bank: FeatureBank,
    owners: Mapping[Family, SharesPrefix],
    views: ViewDataset,
    settings: CellSettings,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
    part: tuple[int, int] = (0, 1),
) -> FillResult:
    """Compute and keep what a bank lacks of a split.

    Everything that is kept already is read and checked first; what is damaged is computed again.
    Where there is no room for all, the rest is left to be computed as it is needed.

    Args:
        cache: Where the bank lies.
        bank: The bank of the split, with all families that may be kept.
        owners: Who gives each family.
        views: Every (image, view) of the split; with pixels.
        settings: Of the cell whose data set it is.
        device: Where to compute.
        progress: Called with (views done, views in all).
        part: Which of several equal shares of the images this process does, and of how many.
    """
    filled = FillResult()
    mine = _share(bank, views, *part)
    for family, store in bank.stores.items():
        store.clean()
        store.verify([SHARED_KEY, *_keys(bank, family, views, mine)])
        for name, reason in store.damaged.items():
            filled.notes.append(
                f"cache: {store.folder.name}/{name} was damaged ({reason}), deleted"
            )
    wanted = [family for family in owners if family in bank.stores]
    alone = isinstance(next(iter(owners.values())), EmbedsImages)
    with_embeddings = alone and settings.features.cache == "encoder"
    positions = [p for p in _lacking(bank, wanted, views, with_embeddings) if p in mine]
    to_encode, embedded = _by_embedding(bank, views, positions) if alone else (positions, [])
    frozen = Frozen(settings.features, bank, bank.shapes)
    writers = {family: _Writer(cache, store) for family, store in bank.stores.items()}
    done = 0
    try:
        with torch.no_grad():
            for group, with_pixels in ((to_encode, True), (embedded, False)):
                for batch in loaders.view_loader(_views(views, with_pixels), group, settings):
                    _fill_batch(batch.to(device), frozen, owners, wanted, writers, bank)
                    done += len(batch.image_ids)
                    progress(done, len(positions))
                if with_pixels and "images" in writers:
                    writers["images"].flush()
                    writers["images"].store.refresh()
            for writer in writers.values():
                writer.flush()
    except CacheFull as error:
        filled.notes.append(
            f"cache: {error}; what finds no room is computed as it is needed, with the same result"
        )
    for store in bank.stores.values():
        store.refresh()
    filled.images = done
    filled.num_bytes = sum(writer.num_bytes for writer in writers.values())
    for family in bank.stores:
        of_images = family == "images"
        filled.whole[family] = not _lacking(bank, () if of_images else (family,), views, of_images)
    filled.encoder_forwards = frozen.encoder_forwards
    filled.sam_mixer_forwards = frozen.sam_mixer_forwards
    return filled


def _lacking(
    bank: FeatureBank, wanted: Sequence[Family], views: ViewDataset, embeddings: bool
) -> list[int]:
    """Return the positions of the views of which something is missing that shall be kept."""
    part = FeatureBank(bank.stores, wanted, bank.keys, bank.settings)
    region_set, images = views.dataset.region_set, bank.stores.get("images")
    lacking: list[int] = []
    for position, (image_id, view) in enumerate(views.keys):
        content = bank.keys.content_of(image_id)
        is_cached = part.has_view(view, content, region_set.regions_of(image_id))
        if embeddings and images is not None:
            is_cached = is_cached and image_key(view, content) in images
        if not is_cached:
            lacking.append(position)
    return lacking


def _keys(
    bank: FeatureBank, family: Family, views: ViewDataset, positions: Iterable[int]
) -> Iterator[str]:
    """Yield the keys of some views in the store of a family."""
    for position in positions:
        image_id, view = views.keys[position]
        content = bank.keys.content_of(image_id)
        if family == "images":
            yield image_key(view, content)
            continue
        for region in views.dataset.region_set.regions_of(image_id):
            yield region_key(view, content, region.region_id)


def _share(bank: FeatureBank, views: ViewDataset, number: int, count: int) -> set[int]:
    """Return the positions of one of several equal shares; equal images stay together.

    What is kept already does not move them: other processes may be filling theirs.
    """
    of_key: dict[str, int] = {}
    mine: set[int] = set()
    for position, (image_id, view) in enumerate(views.keys):
        key = image_key(view, bank.keys.content_of(image_id))
        if of_key.setdefault(key, len(of_key) % count) == number:
            mine.add(position)
    return mine


def _by_embedding(
    bank: FeatureBank, views: ViewDataset, positions: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the positions whose image is to be encoded, and those whose embedding will be known.

    Of equal images (the control with blank ones has no others) the first is encoded for all.
    """
    known = set[str]()
    to_encode: list[int] = []
    embedded: list[int] = []
    for position in positions:
        image_id, view = views.keys[position]
        key = image_key(view, bank.keys.content_of(image_id))
        is_known = "images" in bank.stores and (key in known or key in bank.stores["images"])
        (embedded if is_known else to_encode).append(position)
        known.add(key)
    return to_encode, embedded


def _views(views: ViewDataset, with_pixels: bool) -> ViewDataset:
    dataset, shown = copy.copy(views.dataset), copy.copy(views)
    dataset.with_pixels = with_pixels
    shown.dataset = dataset
    return shown


def _fill_batch(
    batch: RegionBatch,
    frozen: Frozen,
    owners: Mapping[Family, SharesPrefix],
    wanted: Sequence[Family],
    writers: Mapping[Family, _Writer],
    bank: FeatureBank,
) -> None:
    """Compute the families of one batch, and hand them to their writers."""
    settings = bank.settings
    first = next(iter(owners.values()))
    batch = frozen.embedded(first, batch)
    alone, keys = batch.image_embeddings_BChw, bank.keys.of(batch, writers)
    if alone is not None and "images" in writers:
        arrays = {"embeddings_BChw": alone.cpu().to(storage_dtype("embeddings_BChw", settings))}
        writers["images"].add(keys["images"], arrays)
    own = {family: owners[family] for family in wanted}
    if alone is not None and own.keys() == {"images"} and SHARED_KEY in bank.stores["images"]:
        return
    features = frozen.features(own, batch)
    if features is None:
        return
    for family in wanted:
        _write_shared(writers[family], family, features)
        if family == "images" and alone is not None:
            continue
        arrays = {n: _stored(features, n, storage_dtype(n, settings)) for n in ROWS[family]}
        writers[family].add(keys[family], arrays, first_candidate=features.first_candidate)


def _write_shared(writer: _Writer, family: Family, features: RegionFeatures) -> None:
    """Write what all rows of a family share, once."""
    if not SHARED[family] or SHARED_KEY in writer.store:
        return
    rows = {n: to_rows(features.need(n)[None], torch.float32) for n in SHARED[family]}
    writer.write([SHARED_KEY], rows, {"grid_hw": features.grid_hw} if family == "mixed" else {})
    writer.store.refresh()


def _stored(features: RegionFeatures, name: str, dtype: torch.dtype) -> Tensor:
    return features.need(name).detach().to("cpu", dtype)


def check_embeddings(captioner: SharesPrefix, settings: CellSettings) -> None:
    """Refuse settings of image embeddings for a captioner that gives none.

    Raises:
        InputError: They shall be rounded, or kept alone, and cannot be asked for.
    """
    if isinstance(captioner, EmbedsImages):
        return
    problem = f"{settings.variant} has no image encoder that could be asked alone"
    if settings.features.encoder_dtype != "float32":
        raise InputError(None, "features.encoder_dtype", problem, "leave it out")
    if settings.features.cache == "encoder":
        raise InputError(None, "features.cache", f"encoder: {problem}", "set it to all, or off")
