"""Frozen features of a split, by image content and region: read from disk, or computed.

A store (`sca_bench.engine.features.shards`) holds one family of features. Rows of image embeddings
are named by view and image content, so that whatever shows the same image to the same encoder
shares them; rows of the other families by view, region and image content. A group reads as many
stores as its cells read families; what is not there is computed when it is needed, with the same
result. Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sca_bench.batch import RegionBatch, RegionFeatures, merged
from sca_bench.captioner import EmbedsImages, SharesPrefix
from sca_bench.engine.features.shards import Rows, ShardStore
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
        self.content_of = functools.cache(content_of)

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


def from_rows(rows: Rows) -> Tensor:
    """Return stored rows as a tensor of their type."""
    raw, dtype, shape = rows
    return torch.from_numpy(raw).view(_LOADED[dtype]).reshape(len(raw), *shape)


def storage_dtype(name: str, features: FeatureSettings) -> torch.dtype:
    """Return the type that an array is rounded to and kept in."""
    if name in _WHOLE:
        return torch.float32
    wanted = features.encoder_dtype if name in ROWS["images"] else features.dtype
    return _TORCH_DTYPE[wanted]


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
        self._shared: dict[Family, dict[str, Any]] = {}

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

    def features(self, batch: RegionBatch) -> RegionFeatures | None:
        """Return the features of the batch's N regions, float32 on its device; None if some miss.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        if not batch.region_ids or not self.knows_regions:
            return None
        keys = self.keys.of(batch, self.families)
        if not all(self._has(family, names) for family, names in keys.items()):
            return None
        device = batch.region_mask_BR.device
        taken: dict[str, Any] = {}
        for family, names in keys.items():
            rows = self.stores[family].take(names)
            for name, values in {**_tensors(rows), **self._of_all(family)}.items():
                if name in (*ROWS[family], *SHARED[family]) and name not in taken:
                    taken[name] = values.to(device=device, dtype=torch.float32, non_blocking=True)
        first = next(family for family in self.families if family != "images")
        first_candidate = self.stores[first].facts(keys[first][0]).get("first_candidate", 1)
        if "mixed" in self.families:
            taken["grid_hw"] = self._grid_hw()
        features = RegionFeatures(
            image_index_N=batch.image_index(),
            num_images=len(batch.image_ids),
            first_candidate=first_candidate if isinstance(first_candidate, int) else 1,
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

    def _of_all(self, family: Family) -> dict[str, Tensor]:
        if family not in self._shared:
            tensors: dict[str, Tensor] = {}
            if SHARED[family]:
                rows = self.stores[family].take([SHARED_KEY])
                tensors = {name: values[0] for name, values in _tensors(rows).items()}
            self._shared[family] = tensors
        return self._shared[family]

    def embeddings(self, batch: RegionBatch) -> list[Tensor | None]:
        """Return the embedding (C, h, w) of each image, float32, or None where it is not kept.

        Raises:
            DamagedRow: A row does not fit its checksum.
        """
        store = self.stores.get("images")
        if store is None:
            return [None] * len(batch.image_ids)
        keys = self.keys.images(batch)
        cached = [key for key in dict.fromkeys(keys) if key in store]
        embeddings: dict[str, Tensor] = {}
        if cached:
            values = _tensors(store.take(cached))["embeddings_BChw"].to(batch.region_mask_BR.device)
            embeddings = dict(zip(cached, values.float(), strict=True))
        return [embeddings.get(key) for key in keys]


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


def _tensors(rows: Mapping[str, Rows]) -> dict[str, Tensor]:
    return {name: from_rows(values) for name, values in rows.items()}


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
        parts = self.bank.embeddings(batch) if self.bank else [None] * len(batch.image_ids)
        missing = [position for position, part in enumerate(parts) if part is None]
        if missing:
            if batch.pixel_values_B3HW is None:
                raise ValueError("an image is to be encoded, and there are no pixels")
            pixels_B3HW = batch.pixel_values_B3HW
            if len(missing) < len(parts):
                pixels_B3HW = pixels_B3HW[missing]
            new_BChw = captioner.embed_images(pixels_B3HW).float()
            self.encoder_forwards += len(missing)
            if len(missing) == len(parts):
                return replace(batch, image_embeddings_BChw=new_BChw)
            for position, part in zip(missing, new_BChw, strict=True):
                parts[position] = part
        return replace(
            batch, image_embeddings_BChw=torch.stack([p for p in parts if p is not None])
        )

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
