"""Masks as annotation files give them: kept unread, or read from panoptic PNGs. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError
from sca_bench.formats.pixels import read_colours


def given_mask(annotation: Mapping[str, object]) -> str:
    """Return the `segmentation` of an annotation in COCO's layout as `Region` keeps it.

    It is not looked into, since most runs need no mask; `rle.read_mask` reads it where one does.
    Nothing, and lists and objects with nothing in them, are no mask: exporters write `[[]]` for
    an annotation that has only a box.
    """
    given = annotation.get("segmentation")
    if given is None or given == {}:
        return ""
    nothing = isinstance(given, list) and all(part == [] for part in given)
    return "" if nothing else json.dumps(given, separators=(",", ":"))


def read_panoptic_png(path: Path, height: int, width: int) -> NDArray[np.int64]:
    """Read a panoptic PNG as segment ids (H, W): R + 256 G + 65536 B.

    Raises:
        InputError: No such file, damaged, or of another size than its image.
    """
    try:
        rgb = read_colours(path).astype(np.int64)
    except FileNotFoundError:
        raise InputError(path, "panoptic", "no such file", "fetch the panoptic PNGs") from None
    if rgb.shape[:2] != (height, width):
        problem = f"is {rgb.shape[1]} x {rgb.shape[0]} pixels, but its image is {width} x {height}"
        raise InputError(path, "", problem)
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    return ids
