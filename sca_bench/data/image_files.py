"""Image files of a split: safe paths, and pixels in the frame of the annotations. No torch."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError
from sca_bench.formats.pixels import read_picture
from sca_bench.formats.texts import foreign_path
from sca_bench.settings.splits import INDEX_FOLDER
from sca_bench.types import ImageRecord
from sca_bench.walk import is_hidden

_SHORT = 60
_MOST_BYTES, _MOST_OF_PART = 3000, 255
"""Bytes of a name, and of a folder or file in it, that every system of files can look up."""


class ImageFolder:
    """Finds image files below a folder by the names that annotations give them.

    A folder that keeps the name's own subfolders (`VG_100K/2.jpg`), one that keeps only the last of
    them (`patch8/x.jpg` of `images/v1/patch8/x.jpg`) and one that holds all images side by side are
    all understood: of the name's subfolders the longest tail counts that exists.

    Args:
        folder: The folder of a split's images.
        also_in: Subfolders to look in for a file that does not lie where its name says.
    """

    def __init__(self, folder: str, also_in: tuple[str, ...] = ()) -> None:
        self._folder, self._also_in = Path(folder), also_in
        self._below: dict[tuple[str, ...], str] = {}

    def path(self, name: str, file: str | Path, *at: str | int) -> str:
        """Return where the image `name` lies.

        Args:
            name: What the annotations call it, with `/` between folders.
            file: The annotation file, for messages.
            *at: Where in that file the name stands.

        Raises:
            InputError: The name is empty, absolute, too long, climbs out of the folder, or is one
                of those that count for no key: hidden, or in an index.
        """
        if foreign := foreign_path(name):
            shown = repr(name).replace("\\\\", "\\")
            raise InputError(file, ".".join(str(part) for part in at), f"{shown} {foreign}")
        parts = PurePosixPath(name)
        if not parts.name or parts.is_absolute() or _is_none(name, parts.parts):
            problem = f"{name!r} is not the name of a file inside the images folder"
            raise InputError(file, ".".join(str(part) for part in at), problem)
        folders = parts.parts[:-1]
        if folders not in self._below:
            self._below[folders] = self._find(folders)
        path = f"{self._below[folders]}/{parts.name}"
        if self._also_in and not Path(path).exists():
            others = (f"{self._folder / below}/{parts.name}" for below in self._also_in)
            return next((other for other in others if Path(other).exists()), path)
        return path

    def _find(self, folders: tuple[str, ...]) -> str:
        """Return the folder that the name's subfolders mean, asked of the disk once for each."""
        if self._folder.is_dir():
            for start in range(len(folders) + 1):
                folder = self._folder.joinpath(*folders[start:])
                if folder.is_dir():
                    return str(folder)
        return str(self._folder.joinpath(*folders))


def _is_none(name: str, parts: tuple[str, ...]) -> bool:
    """Say whether no file that counts can be called so."""
    if any(map(_counts_not, parts)) or "\0" in name:
        return True
    if len(name) <= _SHORT:
        return False
    return len(name.encode()) > _MOST_BYTES or any(len(p.encode()) > _MOST_OF_PART for p in parts)


def _counts_not(part: str) -> bool:
    return is_hidden(part) or part == INDEX_FOLDER


def load_image_file(record: ImageRecord) -> NDArray[np.uint8]:
    """Decode an image: upright, or as it is stored where only that has the annotated size.

    Returns:
        RGB, (H, W, 3), with the size the annotations state.

    Raises:
        InputError: No such folder or file, a broken file, or a size unlike the annotated one.
    """
    path = Path(record.path)
    if not path.exists():
        raise missing_image(record)
    pixels = read_picture(path, (record.height, record.width)).pixels_HW3
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
