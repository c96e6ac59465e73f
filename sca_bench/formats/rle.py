"""Masks in COCO's forms, in the pixels of their image: the one reader and writer. No torch.

A mask is given as run lengths, compressed or not, or as polygons. Run lengths are decoded here and
not by pycocotools, which checks nothing: what torn run lengths leave out it fills with whatever lay
in memory. Polygons are checked before it sees them: it walks along their edges pixel by pixel, in
32 bits, however far away they lie.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Rle = Mapping[str, object]
"""`{"size": [height, width], "counts": str}`, plain JSON values."""
_MOST_DIGITS = 12  # 60 bits
_FEWEST_NUMBERS = 6  # three points; four numbers would be read as a box by pycocotools
MOST_PIXELS = 178_956_970
"""Pixels of a mask: as many as of a picture that is read (`pixels`)."""
_MOST_CHARACTERS = 2**22
_MOST_POLYGONS, _MOST_EDGE_PX = 10_000, 2_000_000
"""Polygons of one mask, each of which is merged with all before it, and the length of their edges,
for each pixel of which pycocotools takes 100 bytes."""


def encode_mask(mask_HW: NDArray[np.bool_]) -> Rle:
    """Encode a mask (H, W)."""
    return _plain_rle(coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8)))


def _plain_rle(packed: Mapping[str, Any]) -> Rle:
    """Return what pycocotools encoded as plain JSON values."""
    height, width = packed["size"]
    return {"size": [int(height), int(width)], "counts": packed["counts"].decode("ascii")}


def read_mask(segmentation: str, height: int, width: int) -> NDArray[np.bool_]:
    """Read a mask (H, W) that a region holds (`Region.segmentation`).

    Raises:
        ValueError: As in `segmentation_rle`.
    """
    return decode_mask(segmentation_rle(segmentation, height, width))


def segmentation_rle(segmentation: str, height: int, width: int) -> Rle:
    """Return a region's mask as run lengths of its image's size, checked.

    Raises:
        ValueError: It is no mask, or one of another size than its image; says why.
    """
    try:
        given = json.loads(segmentation)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_size(height, width)
    if isinstance(given, dict):
        size = given.get("size")
        if size != [height, width]:
            problem = f"its size is {_shown(size)}, but the image is [{height}, {width}]"
            raise ValueError(f"{problem} (height, width)")
        rle = {**given, "size": [height, width]}  # as whole numbers: 80.0 is 80
        mask_runs(rle)
        return rle
    if not isinstance(given, list):
        raise ValueError(f"expected polygons or run lengths, found {_shown(given)}")
    polygons = [polygon for polygon in given if polygon != []]
    if not polygons:
        raise ValueError("it holds no polygon")
    if len(polygons) > _MOST_POLYGONS:
        raise ValueError(
            f"it holds {len(polygons):,} polygons, at most {_MOST_POLYGONS:,} are read"
        )
    for polygon in polygons:
        _check_polygon(polygon, height, width)
    if (length := sum(map(_edge_px, polygons))) > _MOST_EDGE_PX:
        problem = f"edges of {length:,.0f} pixels in all, at most {_MOST_EDGE_PX:,} are read"
        raise ValueError(f"its polygons have {problem}")
    return _plain_rle(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise ValueError(f"a mask of {height} x {width}, at most {MOST_PIXELS:,} pixels are read")


def _edge_px(polygon: list[float]) -> float:
    """Return how many pixels pycocotools walks along a polygon's edges."""
    x, y = np.array(polygon[0::2], dtype=np.float64), np.array(polygon[1::2], dtype=np.float64)
    return float(np.maximum(abs(x - np.roll(x, 1)), abs(y - np.roll(y, 1))).sum()) + x.size


def _check_polygon(polygon: object, height: int, width: int) -> None:
    """Refuse what is no polygon, or lies more than an image away from its image.

    Raises:
        ValueError: It is so; says why.
    """
    if not isinstance(polygon, list):
        raise ValueError(f"expected a polygon (a list of numbers), found {_shown(polygon)}")
    if len(polygon) < _FEWEST_NUMBERS or len(polygon) % 2:
        problem = f"an even number of at least {_FEWEST_NUMBERS} numbers, found {len(polygon)}"
        raise ValueError(f"a polygon needs {problem}")
    for place, value in enumerate(polygon):
        if type(value) is not int and not (type(value) is float and math.isfinite(value)):
            raise ValueError(f"a polygon needs finite numbers, found {_shown(value)}")
        side = height if place % 2 else width
        if not -side <= value <= 2 * side:
            problem = f"{_shown(value)} is more than an image away from one of {width} x {height}"
            raise ValueError(f"a polygon lies outside its image: {problem}")


def decode_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode run lengths to a mask (H, W).

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

    `counts` holds them as a list, or as a text (`_text_runs`).

    Raises:
        ValueError: They are no such numbers, or do not fill the mask.
    """
    height, width = rle["size"]
    _check_size(height, width)
    counts, num_pixels = rle.get("counts"), height * width
    if isinstance(counts, str):
        runs = _text_runs(counts)
    elif isinstance(counts, list):
        for run in counts:
            if type(run) is not int or not 0 <= run <= num_pixels:
                raise ValueError(f"{_shown(run)} is no run length of {height} x {width} pixels")
        runs = np.array(counts, dtype=np.int64)
    else:
        raise ValueError(f"expected run lengths in counts, found {_shown(counts)}")
    if not runs.size or runs.min() < 0 or runs.max() > num_pixels or runs.sum() != num_pixels:
        raise ValueError(f"runs of {runs.sum()} pixels for a mask of {height} x {width}")
    return runs


def _text_runs(counts: str) -> NDArray[np.int64]:
    """Return the run lengths that a text holds.

    A number has six bits a character, the lowest first; the highest bit of each says that more
    follow, and the next one of the last is the sign. From the third run on it is the difference to
    the run before the last.

    Raises:
        ValueError: It holds no numbers.

    Source: cocoapi, `rleFrString`.
    """
    if len(counts) > _MOST_CHARACTERS:
        problem = f"{len(counts):,} characters, at most {_MOST_CHARACTERS:,} are read"
        raise ValueError(f"run lengths of {problem}")
    digits = np.frombuffer(counts.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
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
    return runs


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
