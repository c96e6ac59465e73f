"""SAM's predicted masks as a run left them: COCO's run lengths in, a see-through layer out."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sca_bench.errors import InputError
from sca_bench.reading import read_jsonl, shown
from sca_bench.study.runs.store import Store

_FILL, _EDGE = (0, 160, 255, 105), (0, 224, 255, 255)
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


def mask_layer(mask: np.ndarray) -> str:
    """Return a mask as a PNG data URI of its size: see-through fill, bright edge, nothing else."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    shown = Image.fromarray(mask.astype(np.uint8) + (mask & ~inner))
    colours = [(0, 0, 0, 0), _FILL, _EDGE]
    picture = shown.convert("P")
    picture.putpalette([part for colour in colours for part in colour[:3]])
    buffer = io.BytesIO()
    opacity = bytes(colour[3] for colour in colours)
    picture.save(buffer, format="PNG", optimize=True, bits=2, transparency=opacity)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
