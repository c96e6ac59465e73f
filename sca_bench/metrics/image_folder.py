"""Images of a folder by their ids, for metrics that look at pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError
from sca_bench.formats.pixels import counted, read_picture
from sca_bench.metrics.rows import CaptionRow

ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp", ".bmp")


class FolderImages:
    """A source of the images in a folder: `image_id`, or that with `.jpg`, `.png`, ...

    A picture is read upright, or as it is stored where only that holds its boxes (`pixels`).

    Args:
        folder: An id such as `VG_100K/2` is looked for in its subfolders, never outside of it.
        rows: The rows whose boxes say how large an image is at least.

    Raises:
        InputError: There is no such folder; a call raises it for an image that is missing or
            broken.
    """

    def __init__(self, folder: str | Path, rows: Sequence[CaptionRow] = ()) -> None:
        self._root = Path(folder).expanduser()
        if not self._root.is_dir():
            raise InputError("--images", str(folder), "is no folder", "name the folder of images")
        self._holds_hw: dict[str, tuple[float, float]] = {}
        for row in rows:
            if row.box_xyxy is not None:
                height, width = self._holds_hw.get(row.image_id, (0.0, 0.0))
                far = (max(height, row.box_xyxy[3]), max(width, row.box_xyxy[2]))
                self._holds_hw[row.image_id] = far
        self._notes: dict[str, tuple[str, ...]] = {}

    def __call__(self, image_id: str) -> NDArray[np.uint8]:
        """Return an image's pixels, RGB (H, W, 3)."""
        name = PurePosixPath(image_id)
        if name.is_absolute() or ".." in name.parts:
            raise InputError(self._root, image_id, "leads out of the folder of images")
        candidates = (self._root / f"{name}{ending}" for ending in ENDINGS)
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            tried = ", ".join(f"{image_id}{ending}" for ending in ENDINGS[1:])
            raise InputError(self._root, image_id, f"no such image (tried {tried})")
        picture = read_picture(path, holds_hw=self._holds_hw.get(image_id, (0.0, 0.0)))
        self._notes[image_id] = picture.notes
        return picture.pixels_HW3

    def notes(self) -> list[str]:
        """Return, as at most one line, what was done to images that were read so far."""
        line = counted(self._notes.values())
        return [f"images: {line}"] if line else []
