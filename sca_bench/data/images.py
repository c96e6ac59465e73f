"""Image files: safe paths and plain decoding. No torch."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sca_bench.errors import InputError
from sca_bench.types import ImageRecord


def image_path(folder: str, name: str, file: str | Path, *at: str | int) -> str:
    """Return where the image `name` lies below `folder`.

    A folder that keeps the name's own subfolders (`VG_100K/2.jpg`, `patch8/x.jpg`) and one that
    holds all images side by side are both understood: the subfolder counts where it exists.

    Raises:
        InputError: The name is empty, absolute, or climbs out of the folder.
    """
    parts = PurePosixPath(name)
    if not parts.name or parts.is_absolute() or ".." in parts.parts:
        key = ".".join(str(part) for part in at)
        raise InputError(file, key, f"{name!r} is not the name of a file inside the images folder")
    nested, flat = Path(folder) / parts, Path(folder) / parts.name
    return str(nested if nested.parent.is_dir() or not Path(folder).is_dir() else flat)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode any image file as it is stored: RGB, (H, W, 3).

    Raises:
        InputError: No such file, or it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(path, "", "no such image") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise InputError(path, "", f"cannot be decoded: {fault}", "fetch the image again") from None


def load_image_file(record: ImageRecord) -> NDArray[np.uint8]:
    """Decode an image as it is stored (EXIF rotation is not applied: boxes refer to the file).

    Returns:
        RGB, (H, W, 3), with the size the annotations state.

    Raises:
        InputError: No such folder or file, a broken file, or a size unlike the annotated one.
    """
    path = Path(record.path)
    if not path.exists():
        raise missing_image(record)
    pixels = read_image(path)
    if pixels.shape[:2] != (record.height, record.width):
        raise InputError(
            path,
            "",
            f"is {pixels.shape[1]} x {pixels.shape[0]} pixels, but its annotations are for "
            f"{record.width} x {record.height}",
            "use the images the annotations were made for",
        )
    return pixels


def missing_image(record: ImageRecord) -> InputError:
    """Return the error for an image file that is not there: its folder's fault, or its own."""
    path = Path(record.path)
    if not path.parent.is_dir():
        return InputError(path.parent, "images", "no such folder", "name the folder in `images`")
    return InputError(
        path, "images", "no such image file", "fetch it, or leave it out with `image_ids`"
    )
