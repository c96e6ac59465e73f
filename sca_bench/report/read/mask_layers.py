"""SAM's predicted masks as a run left them: COCO's run lengths in, an outline out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

from sca_bench.errors import InputError
from sca_bench.reading import read_jsonl, shown
from sca_bench.study.runs.store import Store

_KEYS = ("region_id", "size", "counts")


def load_masks(root: Path, masks_file: str) -> dict[str, dict[str, Any]]:
    """Return region id -> row of a masks file; nothing where there is no such file.

    Raises:
        InputError: The file is damaged, or lies elsewhere.
    """
    path = Store(root).kept(masks_file) if masks_file else root
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        missing = [key for key in _KEYS if key not in row]
        if missing:
            fix = "delete it and run again"
            raise InputError(path, f"line {number}", f"lacks {', '.join(missing)}", fix)
        size = row["size"]
        if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
            problem = f"is {shown(size)}, expected [height, width]"
            raise InputError(path, f"line {number}: size", problem, "delete it and run again")
        rows[str(row["region_id"])] = row
    return rows


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def mask_outline(mask: NDArray[np.bool_]) -> str:
    """Return a mask's outline as the data of an SVG path; empty where nothing is in it.

    Args:
        mask: (H, W), true inside.

    Returns:
        Closed lines half-way between pixels inside and outside, in half pixels from the left top
        corner. An outline changes no colour, as a filled mask would.
    """
    levels = np.pad(np.asarray(mask, dtype=np.float64), 1)
    lines = cast(list[NDArray[np.float64]], contour_generator(z=levels).lines(0.5))
    # The middle of the first pixel is at 1 in `levels`, and at one half pixel of the picture.
    return "".join(_closed_line(np.rint(2 * line - 1).astype(int)) for line in lines)


def _closed_line(points_N2: NDArray[np.int_]) -> str:
    """Return a line whose last point is its first, with the points where it turns alone."""
    steps = np.diff(points_N2, axis=0)
    turns = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    corners = points_N2[[0, *turns]]
    (x, y), moves = corners[0], np.diff(corners, axis=0)
    return f"M{x} {y}l{' '.join(f'{right} {down}' for right, down in moves)}z"
