"""Drawing a captioned region: mask, prompt and caption on the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

_BOX_COLOUR, _POINT_COLOUR, _MASK_COLOUR = (255, 196, 0), (255, 64, 64), (0, 114, 178)
_MIN_SIDE_PX = 480


def draw_overlay(
    image: np.ndarray,
    mask: np.ndarray,
    box_xyxy: tuple[float, ...] | None,
    point_xy: tuple[float, ...] | None,
    caption: str,
) -> Image.Image:
    """Return the image with mask, prompt and caption, enlarged if it is very small.

    Of the mask the contour is drawn, so that every object keeps the colour that its caption names.
    """
    picture = Image.fromarray(image)
    factor = max(1.0, _MIN_SIDE_PX / max(picture.size))
    size = (round(picture.width * factor), round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(size) / 300))
    covered = Image.fromarray(mask).convert("L").resize(size, Image.Resampling.NEAREST)
    inside = covered.filter(ImageFilter.MinFilter(2 * line + 1))
    picture.paste(_MASK_COLOUR, mask=ImageChops.subtract(covered, inside))
    if box_xyxy is not None:
        pen.rectangle([v * factor for v in box_xyxy], outline=_BOX_COLOUR, width=line)
    if point_xy is not None:
        x, y, r = point_xy[0] * factor, point_xy[1] * factor, 2 * line
        pen.ellipse([x - r, y - r, x + r, y + r], fill=_POINT_COLOUR, outline="white")
    font_px = max(14, round(max(size) / 32))
    font = ImageFont.load_default(size=font_px)
    lines = _wrapped(caption, font, size[0] - 16)
    step = round(font_px * 1.35)
    framed = Image.new("RGB", (size[0], size[1] + step * len(lines) + 12), "white")
    framed.paste(picture)
    text = ImageDraw.Draw(framed)
    for number, words in enumerate(lines):
        text.text((8, size[1] + 6 + number * step), words, fill="black", font=font)
    return framed


def _wrapped(caption: str, font: Any, width_px: int) -> list[str]:
    lines = [""]
    for word in caption.split() or ["(empty caption)"]:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
