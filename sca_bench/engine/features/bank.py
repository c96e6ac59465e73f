"""Frozen features of a split, by image content and region: read from disk, or computed.

A store (`sca_bench.engine.features.shards`) holds one family of features. Rows of image embeddings
are named by view and image content, so that whatever shows the same image to the same encoder
shares them; rows of the other families by view, region and image content. A group reads as many
stores as its cells read families; what is not there is computed when it is needed, with the same
result. Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from sca_bench.batch import KeptRows, RegionBatch, RegionFeatures, merged
from sca_bench.captioner import EmbedsImages, SharesPrefix
from sca_bench.engine.features.shards import Kind, Rows, ShardStore
from sca_bench.errors import CellError, InputError
from sca_bench.settings import FeatureSettings
from sca_bench.types import FAMILIES, Family, Region

ROWS: dict[Family, tuple[str, ...]] = {
    "mixed": ("tokens_NTC", "image_tokens_NSC", "ious_NM"),
    "prompts": ("prompt_tokens_NPC", "ious_NM"),
    "images": ("embeddings_BChw",),
    "mask_boxes": ("mask_boxes_xyxy_NM4", "ious_NM"),
}
"""Arrays with a row per region; per image in the family `images`."""
SHARED: dict[Family, tuple[str, ...]] = {
    "mixed": ("image_pe_SC",),
    "prompts": ("own_tokens_TC",),
    "images": ("embedding_pe_SC", "dense_prompt_C"),
    "mask_boxes": (),
}
"""Arrays that are the same for all rows; always kept in float32."""
SHARED_KEY = "*"
"""Key of the one row of those arrays."""
RowShapes = Mapping[str, tuple[int | None, ...]]
"""Name of an array -> shape of its rows, or of the whole array where all rows share it; None where
only a prompt decides. Arrays that are not named may have any shape."""
_WHOLE = ("mask_boxes_xyxy_NM4",)
"""Arrays of whole pixels, of which half precision would lose some; always kept in float32."""
IMAGES_AT_A_TIME = 16
"""Images that are encoded at a time: more take memory of a GPU, and no less time."""
_OTHER_OWNER = "let the variant compute them with the cell's settings, or say nothing of SAM's"
_TORCH_DTYPE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_LOADED = {name: dtype for dtype, name in _STORED.items()}


def image_key(view: int, content: str) -> str:
    """Return the key of an image's row, in one view; `content` tells images apart by bytes."""
    return f"{view}|{content}"


def region_key(view: int, content: str, region_id: str) -> str:
    """Return the key of a region's row, in one view of its image."""
    return _region_row_key(image_key(view, content), region_id)


def _region_row_key(image: str, region_id: str) -> str:
    return f"{image}|{region_id}"


class Keys:
    """Names the rows of a batch.

    Args:
        content_of: Image id -> what tells its bytes from others'; asked once for each image.
    """

    def __init__(self, content_of: Callable[[str], str]) -> None:
        self._content_of = content_of
        self._known: dict[str, str] = {}

    def content_of(self, image_id: str) -> str:
        """Return what tells an image's bytes from others'."""
        if image_id not in self._known:
            self._known[image_id] = self._content_of(image_id)
        return self._known[image_id]

    def images(self, batch: RegionBatch) -> list[str]:
        """Return the key of each of the B images."""
        views = batch.views or [0] * len(batch.image_ids)
        pairs = zip(batch.image_ids, views, strict=True)
        return [image_key(view, self.content_of(image_id)) for image_id, view in pairs]

    def regions(self, batch: RegionBatch) -> list[str]:
        """Return the key of each of the N regions."""
        whole = self.images(batch)
        pairs = zip(batch.per_region(whole), batch.region_ids, strict=True)
        return [_region_row_key(image, region_id) for image, region_id in pairs]

    def of(self, batch: RegionBatch, families: Iterable[Family]) -> dict[Family, list[str]]:
        """Return the keys of a batch's rows in the store of each family."""
        images, regions = self.images(batch), self.regions(batch)
        return {family: images if family == "images" else regions for family in families}


def to_rows(values: Tensor, dtype: torch.dtype) -> Rows:
    """Return the rows of an array as bytes of a storage type."""
    stored = values.detach().to("cpu", dtype).contiguous()
    raw = stored.reshape(len(stored), -1).view(torch.uint8).numpy()
    return Rows(raw, _STORED[dtype], tuple(values.shape[1:]))


def _taken(store: ShardStore, keys: Sequence[str], *, pinned: bool = False) -> dict[str, Tensor]:
    """Return stored rows as tensors of their type, each copied once from the mapped file."""
    tensors: dict[str, Tensor] = {}

    def room(name: str, num_rows: int, kind: Kind) -> NDArray[np.uint8]:
        dtype, shape = kind
        tensors[name] = _empty((num_rows, *shape), _LOADED[dtype], pinned)
        raw: NDArray[np.uint8] = tensors[name].reshape(num_rows, -1).view(torch.uint8).numpy()
        return raw

    store.take(keys, room)
    return tensors


def _empty(shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> Tensor:
    """Return memory that a batch may travel in: page-locked, or shared by a loader's process."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype, pin_memory=pinned)
    new_shared: Any = getattr(torch.UntypedStorage, "_new_shared", None)  # torch may rename it
    if new_shared is None:
        return torch.empty(shape, dtype=dtype)  # is copied once more on its way
    shared = new_shared(math.prod(shape) * dtype.itemsize)  # as torch's own `default_collate`
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(dtype).reshape(shape)


def storage_dtype(name: str, features: FeatureSettings) -> torch.dtype:
    """Return the type that an array is rounded to and kept in."""
    if name in _WHOLE:
        return torch.float32
    wanted = features.encoder_dtype if name in ROWS["images"] else features.dtype
    return _TORCH_DTYPE[wanted]


class Embeddings(NamedTuple):
    """The embeddings of some images of a batch.

    Attributes:
        rows_KChw: Each once, float32 on the batch's device; None where there is none.
        places: For each of the B images the place of its row, or None.
    """

    rows_KChw: Tensor | None
    places: tuple[int | None, ...]

    def of_all_images(self) -> Tensor | None:
        """Return those of the B images, (B, C, h, w); None if one has none."""
        if self.rows_KChw is None or None in self.places:
            return None
        if self.places == tuple(range(len(self.rows_KChw))):
            return self.rows_KChw
        return torch.stack([self.rows_KChw[place] for place in self.places if place is not None])


class FeatureBank:
    """Read access to what is kept of one split's frozen features.

    Args:
        stores: Store of each family that the cells read; `images` besides, where embeddings are
            kept.
        families: The families that the cells read.
        keys: Names the rows.
        settings: How features are rounded.
        shapes: What the cells expect of the features, as far as that is known.

    Raises:
        InputError: A store holds other arrays than the cells expect.
    """

    def __init__(
        self,
        stores: Mapping[Family, ShardStore],
        families: Sequence[Family],
        keys: Keys,
        settings: FeatureSettings,
        shapes: RowShapes | None = None,
    ) -> None:
        self.stores, self.families, self.keys = dict(stores), tuple(families), keys
        self.settings, self.shapes = settings, shapes or {}
        for family, store in self.stores.items():
            self._refuse_other_content(family, store)
        self._shared: dict[tuple[Family, torch.device], dict[str, Tensor]] = {}

    def _refuse_other_content(self, family: Family, store: ShardStore) -> None:
        """Refuse a store that was filled with something else than its key says."""
        for name, kinds in store.kinds().items():
            shared = name in SHARED[family]
            dtype = torch.float32 if shared else storage_dtype(name, self.settings)
            strange = next((k for k in kinds if not self._fits(name, k, _STORED[dtype])), None)
            if strange is None and len(kinds) == 1:
                continue
            holds = " and ".join(f"{kind} {list(shape)}" for kind, shape in sorted(kinds))
            expected = f"{_STORED[dtype]} {_said(self.shapes.get(name))}"
            problem = f"these {family} features hold {holds}, but the cells expect {expected}"
            fix = f"delete them: python -m sca_bench cache clear {store.folder.name}"
            raise InputError(store.folder, name, problem, fix)

    def _fits(self, name: str, kind: tuple[str, tuple[int, ...]], dtype: str) -> bool:
        return kind[0] == dtype and _has_shape(kind[1], self.shapes.get(name))

    @property
    def threads(self) -> set[int]:
        """With how many CPU threads its rows were computed, as far as their writers said."""
        said = set[Any]().union(*(store.stated("threads") for store in self.stores.values()))
        return {number for number in said if isinstance(number, int)}

    @property
    def knows_regions(self) -> bool:
        """Whether all that the cells read is kept; image embeddings alone know no regions."""
        return self.families != ("images",) and all(f in self.stores for f in self.families)

    def has_view(self, view: int, content: str, regions: Iterable[Region]) -> bool:
        """Say whether every row that the cells read of one view of an image is there."""
        named = [region_key(view, content, region.region_id) for region in regions]
        whole = [image_key(view, content)]
        return all(self._has(f, whole if f == "images" else named) for f in self.families)

    def _has(self, family: Family, keys: list[str]) -> bool:
        store = self.stores[family]
        shared = not SHARED[family] or SHARED_KEY in store
        return shared and all(key in store for key in keys)

    def read(self, batch: RegionBatch, *, pinned: bool = False) -> KeptRows:
        """Read what is kept of a batch's regions, or else of its images, from the disk.

        Args:
            batch: The batch, on the host.
            pinned: Read into page-locked memory; without effect in a loader's own process, whose
                batches are copied there once they have arrived.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        keys = self.keys.of(batch, self.families)
        complete = bool(batch.region_ids) and self.knows_regions
        if not (complete and all(self._has(family, names) for family, names in keys.items())):
            return self._read_embeddings(batch, pinned)
        taken: dict[str, Tensor] = {}
        for family, names in keys.items():
            for name, rows in _taken(self.stores[family], names, pinned=pinned).items():
                if name in ROWS[family]:
                    taken.setdefault(name, rows)
        first = next(family for family in self.families if family != "images")
        candidate = self.stores[first].facts(keys[first][0]).get("first_candidate", 1)
        return KeptRows(taken, candidate if isinstance(candidate, int) else 1)

    def _read_embeddings(self, batch: RegionBatch, pinned: bool) -> KeptRows:
        store = self.stores.get("images")
        if store is None:
            return KeptRows()
        keys = self.keys.images(batch)
        kept = [key for key in dict.fromkeys(keys) if key in store]
        if not kept:
            return KeptRows()
        embeddings_KChw = _taken(store, kept, pinned=pinned)["embeddings_BChw"]
        places = {key: place for place, key in enumerate(kept)}
        of_images = tuple(places.get(key) for key in keys)
        return KeptRows(embeddings_KChw=embeddings_KChw, embedding_of=of_images)

    def attach(self, batch: RegionBatch, *, pinned: bool = False) -> RegionBatch:
        """Return a batch with what is kept of it; loaders do it before the step that needs it.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        return replace(batch, kept=self.read(batch, pinned=pinned))

    def features(self, batch: RegionBatch) -> RegionFeatures | None:
        """Return the features of the batch's N regions, float32 on its device; None if some miss.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        kept = batch.kept or self.read(batch)
        if not kept.features:
            return None
        device = batch.region_mask_BR.device
        taken: dict[str, Any] = {}
        for family in self.families:
            taken |= self._of_all(family, device)
        for name, rows in kept.features.items():
            # Moved before it is widened: half the bytes, and no copy of it on the host.
            taken[name] = rows.to(device, non_blocking=True).to(torch.float32)
        if "mixed" in self.families:
            taken["grid_hw"] = self._grid_hw()
        features = RegionFeatures(
            image_index_N=batch.image_index(),
            num_images=len(batch.image_ids),
            first_candidate=kept.first_candidate,
            boxes_xyxy_input_N4=batch.prompt_boxes(),
            **taken,
        )
        return rounded(features, self.settings)

    def _grid_hw(self) -> tuple[int, int]:
        store = self.stores["mixed"]
        grid = store.facts(SHARED_KEY).get("grid_hw")
        if not isinstance(grid, list) or len(grid) != 2:
            problem = "does not say how many tokens an image has; delete it: cache clear"
            raise CellError(f"{store.folder}: {problem} {store.folder.name}")
        return int(grid[0]), int(grid[1])

    def _of_all(self, family: Family, device: torch.device) -> dict[str, Tensor]:
        """Return the arrays that all rows of a family share; they are moved to a device once."""
        if (family, device) not in self._shared:
            rows = _taken(self.stores[family], [SHARED_KEY]) if SHARED[family] else {}
            self._shared[family, device] = {
                name: values[0].to(device, torch.float32)
                for name, values in rows.items()
                if name in SHARED[family]
            }
        return self._shared[family, device]

    def embeddings(self, batch: RegionBatch) -> Embeddings:
        """Return the embeddings of the batch's images that are kept.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        kept = batch.kept
        if kept is None or kept.features:
            kept = self._read_embeddings(batch, False)
        if kept.embeddings_KChw is None:
            return Embeddings(None, (None,) * len(batch.image_ids))
        there_KChw = kept.embeddings_KChw.to(batch.region_mask_BR.device, non_blocking=True)
        return Embeddings(there_KChw.to(torch.float32), kept.embedding_of)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a loader's process needs to read the same rows."""
        return self.__dict__ | {"_shared": {}}


def _has_shape(shape: Sequence[int], expected: Sequence[int | None] | None) -> bool:
    """Say whether a shape is the expected one; where nothing is known, any is."""
    if expected is None:
        return True
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(e in (None, size) for size, e in pairs)


def _said(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "rows of one shape"
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def refuse_other_features(features: RegionFeatures, shapes: RowShapes) -> None:
    """Refuse frozen features that are not what the key of a cell says.

    Raises:
        InputError: Whoever computed them did it with other settings than the cell has.
    """
    per_row = {name for names in ROWS.values() for name in names}
    for name, expected in shapes.items():
        values: Tensor | None = getattr(features, name)
        if values is None:
            continue
        shape = tuple(values.shape[1:] if name in per_row else values.shape)
        if not _has_shape(shape, expected):
            problem = f"frozen features of {list(shape)}, but the cell's settings say"
            raise InputError(None, name, f"{problem} {_said(expected)}", _OTHER_OWNER)


def bytes_of_rows(
    features: RegionFeatures, families: Iterable[Family], settings: FeatureSettings
) -> dict[str, int]:
    """Return what a store keeps of one row, by family; the features may be without content."""
    return {
        family: sum(
            features.need(name)[0].numel() * storage_dtype(name, settings).itemsize
            for name in ROWS[family]
        )
        for family in families
    }


def rounded(features: RegionFeatures, settings: FeatureSettings) -> RegionFeatures:
    """Round features as a bank of this type would, so that a cache moves no number."""
    if settings.dtype == "float32":
        return features
    names = {name for family in FAMILIES for name in ROWS[family]} - set(_WHOLE)
    there = {name: getattr(features, name) for name in names}
    dtype = _TORCH_DTYPE[settings.dtype]
    return replace(features, **{n: t.to(dtype).float() for n, t in there.items() if t is not None})


@dataclass
class Frozen:
    """Computes frozen features, and counts what it costs.

    Attributes:
        settings: How features are rounded.
        bank: Where embeddings may already be; none where None.
        shapes: What the cells expect of the features, as far as that is known.
        encoder_forwards: Images encoded so far.
        sam_mixer_forwards: Regions mixed so far.
    """

    settings: FeatureSettings
    bank: FeatureBank | None = None
    shapes: RowShapes = field(default_factory=dict)
    encoder_forwards: int = 0
    sam_mixer_forwards: int = 0

    def embedded(self, captioner: SharesPrefix, batch: RegionBatch) -> RegionBatch:
        """Return a batch with the embeddings of its images, kept ones and new ones.

        A captioner whose encoder cannot be asked alone gets its batch back as it is.

        Raises:
            ValueError: An image is to be encoded, and there are no pixels.
        """
        if batch.image_embeddings_BChw is not None:
            return batch
        if not isinstance(captioner, EmbedsImages):
            self.encoder_forwards += len(batch.image_ids)
            return batch
        kept = Embeddings(None, (None,) * len(batch.image_ids))
        if self.bank is not None:
            kept = self.bank.embeddings(batch)
        if (all_BChw := kept.of_all_images()) is not None:
            return replace(batch, image_embeddings_BChw=all_BChw)
        missing = [position for position, place in enumerate(kept.places) if place is None]
        if batch.pixel_values_B3HW is None:
            raise ValueError("an image is to be encoded, and there are no pixels")
        pixels_B3HW = batch.pixel_values_B3HW
        if kept.rows_KChw is not None:
            pixels_B3HW = pixels_B3HW[missing]
        parts = pixels_B3HW.split(IMAGES_AT_A_TIME)
        new_BChw = torch.cat([captioner.embed_images(part).float() for part in parts])
        self.encoder_forwards += len(missing)
        if kept.rows_KChw is None:
            return replace(batch, image_embeddings_BChw=new_BChw)
        new = iter(new_BChw)
        parts = [next(new) if p is None else kept.rows_KChw[p] for p in kept.places]
        return replace(batch, image_embeddings_BChw=torch.stack(parts))

    def features(
        self, owners: Mapping[Family, SharesPrefix], batch: RegionBatch
    ) -> RegionFeatures | None:
        """Return families of features, each by the captioner that gives it; None for none.

        Raises:
            InputError: They are not what the cells expect.
        """
        features: RegionFeatures | None = None
        for captioner in dict.fromkeys(owners.values()):
            families = [family for family, owner in owners.items() if owner is captioner]
            more = captioner.frozen_features(batch, families=families)
            refuse_other_features(more, self.shapes)
            features = more if features is None else merged(features, more)
            self.sam_mixer_forwards += batch.num_regions
        return None if features is None else rounded(features, self.settings)
