"""Images of a folder by their ids, for metrics that look at pixels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sca_bench.errors import InputError
from sca_bench.metrics.protocol import ImageSource

ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder_images(folder: str | Path) -> ImageSource:
    """Return a source of the images in a folder: `image_id`, or that with `.jpg`, `.png`, ...

    Args:
        folder: An id such as `VG_100K/2` is looked for in its subfolders, never outside of it.

    Raises:
        InputError: There is no such folder; the source raises it for an image that is missing or
            broken.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError("--images", str(folder), "is no folder", "name the folder of the images")

    def load(image_id: str) -> NDArray[np.uint8]:
        name = PurePosixPath(image_id)
        if name.is_absolute() or ".." in name.parts:
            raise InputError(root, image_id, "leads out of the folder of images")
        candidates = (root / f"{name}{ending}" for ending in ENDINGS)
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            tried = ", ".join(f"{image_id}{ending}" for ending in ENDINGS[1:])
            raise InputError(root, image_id, f"no such image (tried {tried})")
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"), np.uint8)
        except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as e:
            raise InputError(path, "", f"cannot be read as an image ({e})") from e

    return load
