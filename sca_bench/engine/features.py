"""Frozen features of a split, computed once, kept as memory-mapped arrays.

A bank holds one family of features for every (region, view) or (image, view) of one split. Its
folder is named by the key of everything the features depend on and appears under that name only
when complete. A group reads as many banks as its cells read families.
Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings, FeatureSettings
from sca_bench.types import FAMILIES, Family
from sca_bench.variants import get_variant

_ROWS: dict[Family, tuple[str, ...]] = {
    "mixed": ("tokens_NTC", "image_tokens_NSC", "ious_NM"),
    "prompts": ("prompt_tokens_NPC", "ious_NM"),
    "images": ("embeddings_BChw",),
    "mask_boxes": ("mask_boxes_xyxy_NM4", "ious_NM"),
}
"""Arrays with a row per region; per image in the family `images`."""
_SHARED: dict[Family, tuple[str, ...]] = {
    "mixed": ("image_pe_SC",),
    "prompts": ("own_tokens_TC",),
    "images": ("embedding_pe_SC", "dense_prompt_C"),
    "mask_boxes": (),
}
"""Arrays that are the same for all rows; always kept in float32."""
_WHOLE = ("mask_boxes_xyxy_NM4",)
"""Arrays of whole pixels, of which half precision would lose some; always kept in float32."""
_TORCH_DTYPE = {"float32": torch.float32, "float16": torch.float16}


def families_of(cells: Iterable[CellSettings]) -> tuple[Family, ...]:
    """Return the families of frozen features that these cells read together, in fixed order."""
    read = {f for cell in cells for f in get_variant(cell.variant).families(cell)}
    return tuple(family for family in FAMILIES if family in read)


def row_key(name: str, view: int) -> str:
    """Return the key of one row: of a region id, or of an image id, in one view."""
    return f"{view}|{name}"


def _keys(family: Family, batch: RegionBatch) -> list[str]:
    if family == "images":
        views = batch.views or [0] * len(batch.image_ids)
        return [row_key(i, v) for i, v in zip(batch.image_ids, views, strict=True)]
    return [row_key(r, v) for r, v in zip(batch.region_ids, batch.region_views(), strict=True)]


class _Stored:
    """One family of one split."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family = family
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self.rows: dict[str, int] = index["rows"]
            self.first_candidate: int = index["first_candidate"]
            grid = index["grid_hw"]
            self.grid_hw = None if grid is None else (int(grid[0]), int(grid[1]))
            self._arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ROWS[family]
            }
            self.shared = {
                name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in _SHARED[family]
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            fix = "delete the folder; it is computed again"
            raise InputError(folder, "", f"damaged feature cache ({error})", fix) from error

    def take(self, batch: RegionBatch) -> dict[str, Tensor]:
        """Return the rows of a batch and what all rows share, as they are stored."""
        rows = [self.rows[key] for key in _keys(self.family, batch)]
        taken = {name: torch.from_numpy(array[rows]) for name, array in self._arrays.items()}
        return taken | self.shared


class FeatureBank:
    """Read access to the frozen features of one split.

    Args:
        folders: Folder of each family, written by `build_banks`.

    Raises:
        InputError: A folder is damaged.
        ValueError: No family has a row per region.
    """

    def __init__(self, folders: Mapping[Family, Path]) -> None:
        if not set(folders) - {"images"}:
            raise ValueError("features of images alone know nothing of regions")
        self._stored = [_Stored(family, folder) for family, folder in folders.items()]

    def gather(self, batch: RegionBatch) -> RegionFeatures:
        """Return the features of the batch's N regions, float32 on the batch's device."""
        device = batch.region_mask_BR.device
        taken: dict[str, Any] = {}
        for stored in self._stored:
            for name, values in stored.take(batch).items():
                if name not in taken:
                    taken[name] = values.to(device=device, dtype=torch.float32, non_blocking=True)
            if stored.grid_hw is not None:
                taken["grid_hw"] = stored.grid_hw
        return RegionFeatures(
            image_index_N=batch.image_index(),
            num_images=len(batch.image_ids),
            first_candidate=self._stored[0].first_candidate,
            boxes_xyxy_input_N4=batch.prompt_boxes(),
            **taken,
        )


def bytes_of_rows(
    features: RegionFeatures, families: Iterable[Family], dtypes: FeatureSettings
) -> dict[str, int]:
    """Return what a bank keeps of one row, by family; the features may be without content."""
    return {
        family: sum(
            features.need(name)[0].numel() * (4 if name in _WHOLE else _width(family, dtypes))
            for name in _ROWS[family]
        )
        for family in families
    }


def _width(family: Family, dtypes: FeatureSettings) -> int:
    name = dtypes.dtype if family != "images" else dtypes.encoder_dtype
    return 4 if name == "float32" else 2


def rounded(features: RegionFeatures, dtype: str) -> RegionFeatures:
    """Round features as a bank of this type would, so that a cache moves no number."""
    if dtype == "float32":
        return features
    names = {name for family in FAMILIES for name in _ROWS[family]} - set(_WHOLE)
    there = {name: getattr(features, name) for name in names}
    return replace(
        features,
        **{n: t.to(_TORCH_DTYPE[dtype]).float() for n, t in there.items() if t is not None},
    )


class _Writer:
    """Fills the folder of one family; it gets its name when it is complete."""

    def __init__(self, family: Family, folder: Path, num_rows: int, dtype: str) -> None:
        self._family, self._folder, self._num_rows = family, folder, num_rows
        self._dtype = _TORCH_DTYPE[dtype]
        self._temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._rows: dict[str, int] = {}
        self._arrays: dict[str, Any] = {}

    def add(self, batch: RegionBatch, features: RegionFeatures) -> None:
        """Append the rows of a batch."""
        keys, done = _keys(self._family, batch), len(self._rows)
        for name in _ROWS[self._family]:
            dtype = torch.float32 if name in _WHOLE else self._dtype
            values = features.need(name).to("cpu", dtype).numpy()
            if name not in self._arrays:
                path, shape = self._temporary / f"{name}.npy", (self._num_rows, *values.shape[1:])
                self._arrays[name] = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
            self._arrays[name][done : done + len(keys)] = values
        self._rows.update({key: done + i for i, key in enumerate(keys)})
        if len(self._rows) != done + len(keys):
            raise RuntimeError(f"{self._folder.name}: a row came twice")

    def close(self, features: RegionFeatures, facts: dict[str, Any]) -> None:
        """Write what all rows share and give the folder its name."""
        if len(self._rows) != self._num_rows:
            found = f"expected {self._num_rows} feature rows, computed {len(self._rows)}"
            raise RuntimeError(f"{self._folder.name}: {found}")
        for array in self._arrays.values():
            array.flush()
        for name in _SHARED[self._family]:
            values = features.need(name).to("cpu", torch.float32).contiguous()
            np.save(self._temporary / f"{name}.npy", values.numpy())
        grid = features.grid_hw if self._family == "mixed" else None
        index = {
            "rows": self._rows,
            "first_candidate": features.first_candidate,
            "grid_hw": grid,
            **facts,
        }
        (self._temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._temporary.replace(self._folder)


@contextlib.contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other processes from building the same banks; wait while one of them does.

    Groups that differ in their test prompts, say, share the banks of their training split.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders):  # in one order, or two processes could wait for each other
            folder.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context((folder.parent / f".{folder.name}.lock").open("w"))
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_banks(
    folders: Mapping[Family, Path],
    batches: Iterable[RegionBatch],
    compute: Callable[[RegionBatch], RegionFeatures],
    *,
    num_regions: int,
    num_images: int,
    dtype: str,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Compute and store features of one split, all families in one pass over its images.

    Args:
        folders: Where the bank of each family will stand.
        batches: Every (image, view) of the split exactly once, with pixels and all regions.
        compute: A captioner's `frozen_features`, asked for these families.
        num_regions: Number of (region, view) pairs.
        num_images: Number of (image, view) pairs.
        dtype: Storage type, `float32` or `float16`.
        device: Where to compute.
        progress: Called with (regions done, regions in all).
    """
    writers = [
        _Writer(family, folder, num_images if family == "images" else num_regions, dtype)
        for family, folder in folders.items()
    ]
    started, cpu, done, images = time.perf_counter(), time.process_time(), 0, 0
    features: RegionFeatures | None = None
    for batch in batches:
        features = compute(batch.to(device))
        for writer in writers:
            writer.add(batch, features)
        images += len(batch.image_ids)
        done += batch.num_regions
        progress(done, num_regions)
    if features is None:
        raise RuntimeError("a split without images has no features")
    facts = {
        "counters": {"images": images, "regions": done},
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }
    for writer in writers:
        writer.close(features, facts)
