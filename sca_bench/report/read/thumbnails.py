"""Test images for a page: each inlined once, with boxes and masks as layers of their own."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from sca_bench.errors import InputError
from sca_bench.files import file_name
from sca_bench.formats.pixels import read_picture
from sca_bench.formats.rle import decode_mask
from sca_bench.reading import RECORD_BYTES, read_bytes, read_json, shown, shown_text
from sca_bench.report.read.mask_layers import mask_outline
from sca_bench.study.runs.store import Store

KEPT_SIDE_PX = 480
"""No thumbnail that was kept has a longer side."""
_SMALL_PX = 160


@dataclass(frozen=True, slots=True)
class SharedImage:
    """One image, whatever number of regions show it.

    Attributes:
        id: Anchor, without the page's prefix.
        uri: Data URI.
        width: Width of the kept thumbnail, the frame of boxes and masks.
        height: Its height.
        small: Whether its pixels are to stay square when enlarged, as in rendered scenes.
    """

    id: str
    uri: str
    width: int
    height: int
    small: bool


@dataclass(frozen=True, slots=True)
class ShownMask:
    """A predicted mask as an SVG path (`mask_outline`); `source` counts the kinds of a page."""

    source: int
    outline: str


@dataclass(frozen=True, slots=True)
class Shot:
    """An image with a region in it.

    Attributes:
        image: The image.
        box_xywh: Left, top, width and height in the thumbnail's pixels.
        layers: Predicted masks.
    """

    image: SharedImage
    box_xywh: tuple[float, float, float, float]
    layers: tuple[ShownMask, ...] = ()


@dataclass(slots=True)
class Thumbnails:
    """Reads thumbnails of one runs folder.

    Attributes:
        root: The runs folder.
        side_px: Images are scaled down to this longer side.
        images: Those that were shown so far, in order.
    """

    root: Path
    side_px: int = KEPT_SIDE_PX
    images: dict[tuple[str, str], SharedImage] = field(default_factory=dict)
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _sizes: dict[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    def has(self, images_dir: str, image_id: str) -> bool:
        """Say whether a copy of the image was kept.

        Raises:
            InputError: The folder, or something in it, is a link out of the runs folder.
        """
        return bool(images_dir) and f"{file_name(image_id)}.png" in self._kept(images_dir)

    def _kept(self, images_dir: str) -> frozenset[str]:
        """Return the names of the files in a folder of thumbnails."""
        if images_dir not in self._names:
            folder = Store(self.root).own_folder(*PurePosixPath(images_dir).parts)
            found = folder.iterdir() if folder.is_dir() else ()
            self._names[images_dir] = frozenset(path.name for path in found if path.is_file())
        return self._names[images_dir]

    def shot(
        self, images_dir: str, image_id: str, box_xyxy: tuple[float, ...] | None
    ) -> tuple[Shot | None, str]:
        """Return the image with the region's box, or None and the reason.

        Args:
            images_dir: Folder of the thumbnails, relative to the runs folder.
            image_id: Image to show.
            box_xyxy: The region in original pixels; `sizes.json` gives the original size.

        Raises:
            InputError: The thumbnail or `sizes.json` is damaged.
        """
        if not images_dir:
            return None, "no thumbnails were kept for this run"
        path = self.root / images_dir / f"{file_name(image_id)}.png"
        if not self.has(images_dir, image_id):
            return None, f"no thumbnail {images_dir}/{path.name}"
        size = self._original_sizes(images_dir).get(image_id)
        if box_xyxy is None or size is None:
            return None, "the region's box or the image's original size is not known"
        image = self._shared(images_dir, image_id, path)
        ratio_x, ratio_y = image.width / size[0], image.height / size[1]
        left, top, right, bottom = box_xyxy
        corner = (left * ratio_x, top * ratio_y)
        extent = ((right - left) * ratio_x, (bottom - top) * ratio_y)
        x, y, width, height = (round(value, 2) for value in (*corner, *extent))
        return Shot(image, (x, y, width, height)), ""

    def _shared(self, images_dir: str, image_id: str, path: Path) -> SharedImage:
        key = (images_dir, image_id)
        if key not in self.images:
            try:
                image = Image.fromarray(read_picture(path).pixels_HW3)
            except InputError as error:
                raise InputError(path, "", error.problem, "delete it") from error
            uri = _encode(image, self.side_px)
            small = max(image.size) <= _SMALL_PX
            name = f"image-{len(self.images) + 1}"
            self.images[key] = SharedImage(name, uri, image.width, image.height, small)
        return self.images[key]

    def _original_sizes(self, images_dir: str) -> Mapping[str, tuple[int, int]]:
        if images_dir not in self._sizes:
            self._sizes[images_dir] = read_sizes(self.root, images_dir)
        return self._sizes[images_dir]


def read_sizes(root: Path, images_dir: str) -> Mapping[str, tuple[int, int]]:
    """Return image id -> original width and height of a folder's images; nothing where not known.

    Args:
        root: The runs folder.
        images_dir: Folder of thumbnails in it; may be empty.

    Raises:
        InputError: `sizes.json` is damaged, or lies elsewhere.
    """
    path = Store(root).kept(f"{images_dir}/sizes.json") if images_dir else root
    if not path.is_file():
        return {}
    sizes = read_json(path, RECORD_BYTES)
    if not isinstance(sizes, dict):
        raise InputError(path, "", "expected image id -> [width, height]")
    for image_id, size in sizes.items():
        sides = isinstance(size, list) and len(size) == 2
        if not sides or not all(type(side) is int and 0 < side < 2**31 for side in size):
            problem = f"is {shown(size)}, expected [width, height]"
            raise InputError(path, shown_text(image_id), problem, "delete it and run again")
    found: Mapping[str, tuple[int, int]] = sizes
    return found


def layer(row: dict[str, Any], source: int, image: SharedImage) -> ShownMask | None:
    """Return a region's mask as a layer over its image; None where it has another frame.

    Args:
        row: Row of the masks file.
        source: Number of the kind of mask.
        image: The image.

    Raises:
        InputError: The mask is damaged.
    """
    try:
        height, width = (int(side) for side in row["size"])
        if (height, width) != (image.height, image.width):
            return None
        mask = decode_mask({"size": (height, width), "counts": str(row["counts"])})
    except (ValueError, TypeError, OverflowError) as error:
        problem = f"damaged mask ({error})"
        raise InputError(None, row["region_id"], problem, "delete the file") from error
    return ShownMask(source, mask_outline(mask))


def png_uri(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(read_bytes(path, RECORD_BYTES)).decode(
        "ascii"
    )


def _encode(image: Image.Image, side_px: int) -> str:
    """Return the image, scaled down where it is larger: small ones as PNG where that is less."""
    small = max(image.size) <= _SMALL_PX
    scale = side_px / max(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    encodings = []
    fine = {"quality": 92, "subsampling": 0} if small else {"quality": 82}
    for kind, options in (("jpeg", fine), ("png", {"optimize": True})):
        if kind == "jpeg" or small:
            buffer = io.BytesIO()
            image.save(buffer, format=kind.upper(), **options)
            encodings.append((buffer.getvalue(), kind))
    encoded, kind = min(encodings, key=lambda item: len(item[0]))
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
