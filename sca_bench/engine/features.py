"""Frozen features of a split, computed once, kept as memory-mapped arrays.

A bank holds the SAM mixer's output for every (region, view) of one split. Its folder is named by
the key of everything the features depend on and appears under that name only when complete.
Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.errors import InputError

_ARRAYS = ("tokens_NTC", "image_tokens_NSC", "ious_NM")
_TORCH_DTYPE = {"float32": torch.float32, "float16": torch.float16}


def row_key(region_id: str, view: int) -> str:
    """Return the key of one row."""
    return f"{view}|{region_id}"


class FeatureBank:
    """Read access to the features of one split.

    Args:
        folder: A folder written by `build_bank`.

    Raises:
        InputError: The folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self._rows: dict[str, int] = index["rows"]
            self.counters: dict[str, int] = index["counters"]
            self._grid = (int(index["grid_hw"][0]), int(index["grid_hw"][1]))
            self._arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS
            }
            self._pe = torch.from_numpy(np.load(folder / "image_pe_SC.npy"))
        except (OSError, ValueError, KeyError) as error:
            fix = "delete the folder; it is computed again"
            raise InputError(folder, "", f"damaged feature cache ({error})", fix) from error

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, batch: RegionBatch) -> RegionFeatures:
        """Return the features of the batch's N regions, float32 on the batch's device."""
        views = batch.region_views()
        rows = [self._rows[row_key(r, v)] for r, v in zip(batch.region_ids, views, strict=True)]
        device = batch.region_mask_BR.device

        def take(name: str) -> Tensor:
            values = torch.from_numpy(self._arrays[name][rows])
            return values.to(device=device, dtype=torch.float32, non_blocking=True)

        return RegionFeatures(
            tokens_NTC=take("tokens_NTC"),
            image_tokens_NSC=take("image_tokens_NSC"),
            image_pe_SC=self._pe.to(device=device, dtype=torch.float32),
            ious_NM=take("ious_NM"),
            grid_hw=self._grid,
        )


def rounded(features: RegionFeatures, dtype: str) -> RegionFeatures:
    """Round features as a bank of this type would, so that a cache moves no number."""
    if dtype == "float32":
        return features
    kept = {name: getattr(features, name).to(_TORCH_DTYPE[dtype]).float() for name in _ARRAYS}
    return replace(features, **kept)


def build_bank(
    folder: Path,
    batches: Iterable[RegionBatch],
    num_rows: int,
    compute: Callable[[RegionBatch], RegionFeatures],
    *,
    dtype: str,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureBank:
    """Compute and store the features of one split.

    Args:
        folder: Where the bank will stand.
        batches: Every (region, view) of the split exactly once, with pixels.
        num_rows: Their number.
        compute: A captioner's `frozen_features`.
        dtype: Storage type, `float32` or `float16`.
        device: Where to compute.
        progress: Called with (rows done, rows in all).
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    started, cpu, done, images = time.perf_counter(), time.process_time(), 0, 0
    rows: dict[str, int] = {}
    arrays: dict[str, Any] = {}
    features: RegionFeatures | None = None
    for batch in batches:
        features = compute(batch.to(device))
        images += len(batch.image_ids)
        count = batch.num_regions
        for name in _ARRAYS:
            values = getattr(features, name).to("cpu", _TORCH_DTYPE[dtype]).numpy()
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    temporary / f"{name}.npy", "w+", values.dtype, (num_rows, *values.shape[1:])
                )
            arrays[name][done : done + count] = values
        for region_id, view in zip(batch.region_ids, batch.region_views(), strict=True):
            rows[row_key(region_id, view)] = len(rows)
        done += count
        progress(done, num_rows)
    if features is None or len(rows) != num_rows or done != num_rows:
        raise RuntimeError(f"{folder.name}: expected {num_rows} feature rows, computed {done}")
    for array in arrays.values():
        array.flush()
    np.save(temporary / "image_pe_SC.npy", features.image_pe_SC.to("cpu", torch.float32).numpy())
    index = {
        "rows": rows,
        "grid_hw": list(features.grid_hw),
        "counters": {"images": images, "regions": done},
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }
    (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return FeatureBank(folder)
