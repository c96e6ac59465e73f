"""Test images for the page: scaled, with the region's box, as data URIs of limited size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, UnidentifiedImageError

from sca_bench.errors import InputError
from sca_bench.report.collect import load_json
from sca_bench.study.store import file_name

LONG_SIDE_PX = 320
TOTAL_BYTES = 4 * 2**20
_BOX_COLOUR = "#FFD400"
_EDGE_COLOUR = "#000000"


@dataclass(slots=True)
class Thumbnails:
    """Reads thumbnails of one runs folder and keeps count of what the page may still hold.

    Attributes:
        root: The runs folder.
        bytes_left: Encoded bytes that may still be inlined.
    """

    root: Path
    bytes_left: int = TOTAL_BYTES
    _sizes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def has(self, images_dir: str, image_id: str) -> bool:
        """Say whether a copy of the image was kept."""
        path = self.root / images_dir / f"{file_name(image_id)}.png"
        return bool(images_dir) and path.is_file()

    def data_uri(
        self, images_dir: str, image_id: str, box_xyxy: tuple[float, ...] | None
    ) -> tuple[str, str]:
        """Return the image with the region's box as a data URI, or an empty one and the reason.

        Args:
            images_dir: Folder of the thumbnails, relative to the runs folder.
            image_id: Image to show.
            box_xyxy: The region in original pixels; `sizes.json` gives the original size.

        Raises:
            InputError: The thumbnail or `sizes.json` is damaged.
        """
        if not images_dir:
            return "", "no thumbnails were kept for this run"
        path = self.root / images_dir / f"{file_name(image_id)}.png"
        if not path.is_file():
            return "", f"no thumbnail {images_dir}/{path.name}"
        size = self._original_sizes(images_dir).get(image_id)
        if box_xyxy is None or size is None:
            return "", "the region's box or the image's original size is not known"
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(path, "", f"not an image ({error})", "delete it") from error
        encoded, kind = _encode(_draw(image, (float(size[0]), float(size[1])), box_xyxy))
        if len(encoded) > self.bytes_left:
            return "", f"left out: the page holds at most {TOTAL_BYTES // 2**20} MiB of images"
        self.bytes_left -= len(encoded)
        return f"data:image/{kind};base64,{encoded}", ""

    def _original_sizes(self, images_dir: str) -> dict[str, Any]:
        if images_dir not in self._sizes:
            path = self.root / images_dir / "sizes.json"
            sizes = load_json(path) if path.is_file() else {}
            if not isinstance(sizes, dict):
                raise InputError(path, "", "expected image id -> [width, height]")
            self._sizes[images_dir] = sizes
        return self._sizes[images_dir]


def png_uri(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _draw(
    image: Image.Image, original_wh: tuple[float, float], box_xyxy: tuple[float, ...]
) -> Image.Image:
    """Scale to `LONG_SIDE_PX` and draw the box: a bright line between dark ones, on any ground."""
    scale = LONG_SIDE_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    enlarged = scale > 2  # rendered scenes: keep their pixels square instead of blurring them
    way = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    shown = image.resize((width, height), way)
    ratio_x, ratio_y = width / original_wh[0], height / original_wh[1]
    left, top, right, bottom = box_xyxy
    corners = (left * ratio_x, top * ratio_y, right * ratio_x - 1, bottom * ratio_y - 1)
    pen = ImageDraw.Draw(shown)
    for inset, colour, line in ((-1, _EDGE_COLOUR, 6), (0, _BOX_COLOUR, 4)):
        x0, y0, x1, y1 = (
            max(0.0, corners[0] + inset),
            max(0.0, corners[1] + inset),
            min(width - 1.0, corners[2] - inset),
            min(height - 1.0, corners[3] - inset),
        )
        if x1 >= x0 and y1 >= y0:
            pen.rectangle((x0, y0, x1, y1), outline=colour, width=line)
    return shown


def _encode(image: Image.Image) -> tuple[str, str]:
    """Return the smaller of PNG and JPEG, base64-encoded, with its kind."""
    found = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 82})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind.upper(), **options)
        found.append((base64.b64encode(buffer.getvalue()).decode("ascii"), kind))
    return min(found, key=lambda item: len(item[0]))
