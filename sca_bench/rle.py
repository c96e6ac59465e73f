"""Masks as COCO's run-length encodings, in the pixels of their image. No torch.

They are decoded here and not by pycocotools, which checks nothing: what torn run lengths leave out
it fills with whatever lay in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Rle = Mapping[str, object]
"""`{"size": [height, width], "counts": str}`, plain JSON values."""
_MOST_DIGITS = 12  # 60 bits


def encode_mask(mask_HW: NDArray[np.bool_]) -> Rle:
    """Encode a mask (H, W)."""
    return plain_rle(coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8)))


def plain_rle(packed: Mapping[str, Any]) -> Rle:
    """Return what pycocotools encoded as plain JSON values."""
    height, width = packed["size"]
    return {"size": [int(height), int(width)], "counts": packed["counts"].decode("ascii")}


def decode_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode a mask to (H, W).

    Raises:
        ValueError: As in `mask_runs`.
    """
    height, width = rle["size"]
    runs = mask_runs(rle)
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    mask: NDArray[np.bool_] = flat.reshape(width, height).T
    return mask


def mask_runs(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the lengths of a mask's runs of 0 and 1 by turns, down the columns.

    In `counts` a number has six bits a character, the lowest first; the highest bit of each says
    that more follow, and the next one of the last is the sign. From the third run on it is the
    difference to the run before the last.

    Raises:
        ValueError: They are no such numbers, or do not fill the mask.

    Source: cocoapi, `rleFrString`.
    """
    height, width = rle["size"]
    counts = str(rle["counts"])
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 0x20:
        raise ValueError(f"no run lengths: {counts[:20]!r}")
    ends = np.flatnonzero(digits & 0x20 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digit = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    if digit.max() >= _MOST_DIGITS:
        raise ValueError(f"a run length of {digit.max() + 1} digits")
    runs: NDArray[np.int64] = np.add.reduceat((digits & 0x1F) << 5 * digit, starts)
    runs -= np.where(digits[ends] & 0x10, np.int64(1) << 5 * (digit[ends] + 1), 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} pixels for a mask of {height} x {width}")
    return runs
