"""Segmentations as annotation files give them, read into masks in original pixels. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from sca_bench.data.readers.json_files import check, get, key_path, shown
from sca_bench.errors import InputError
from sca_bench.rle import Rle, mask_runs, plain_rle


def encode_segmentation(
    segmentation: Any, height: int, width: int, file: str, *at: str | int
) -> Rle | None:
    """Encode a COCO `segmentation`: polygons, an uncompressed or a compressed run-length mask.

    Returns:
        The mask, or None where the file gives none (absent or an empty list).

    Raises:
        InputError: It is of another form, or of another size than its image.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        size = get(segmentation, "size", "a list", file, *at)
        if size != [height, width]:
            problem = f"is {shown(size)}, but the image is [{height}, {width}] (height, width)"
            raise InputError(file, key_path((*at, "size")), problem)
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            rle = {"size": [height, width], "counts": counts}
            try:
                mask_runs(rle)
            except ValueError as fault:
                problem = f"is no mask ({fault})"
                raise InputError(file, key_path((*at, "counts")), problem) from None
            return rle
        runs = get(segmentation, "counts", "a list", file, *at)
        for k, run in enumerate(runs):
            check(run, "an integer", file, *at, "counts", k)
        if min(runs, default=-1) < 0 or sum(runs) != height * width:
            problem = f"the runs do not add up to the {height * width} pixels of the image"
            raise InputError(file, key_path((*at, "counts")), problem)
        return plain_rle(coco_mask.frPyObjects(segmentation, height, width))
    for k, polygon in enumerate(check(segmentation, "a list", file, *at)):
        check(polygon, "a list", file, *at, k)
        # Four numbers would be read as a box by pycocotools.
        if len(polygon) < 6 or len(polygon) % 2:
            problem = f"a polygon needs an even number of at least 6 numbers, found {len(polygon)}"
            raise InputError(file, key_path((*at, k)), problem)
        for j, coordinate in enumerate(polygon):
            check(coordinate, "a number", file, *at, k, j)
    return plain_rle(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))


def read_panoptic_png(path: Path, height: int, width: int) -> NDArray[np.int64]:
    """Read a panoptic PNG as segment ids (H, W): R + 256 G + 65536 B.

    Raises:
        InputError: No such file, damaged, or of another size than its image.
    """
    try:
        with Image.open(path) as image:
            rgb = np.array(image.convert("RGB")).astype(np.int64)
    except FileNotFoundError:
        raise InputError(path, "panoptic", "no such file", "fetch the panoptic PNGs") from None
    except (OSError, ValueError, SyntaxError) as fault:
        raise InputError(path, "", f"cannot be decoded: {fault}", "fetch it again") from None
    if rgb.shape[:2] != (height, width):
        problem = f"is {rgb.shape[1]} x {rgb.shape[0]} pixels, but its image is {width} x {height}"
        raise InputError(path, "", problem)
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    return ids
