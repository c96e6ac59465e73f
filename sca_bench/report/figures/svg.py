"""A figure's SVG on any ground: text and axes in the reader's colour, and no ground of its own.

matplotlib draws black on white. Here black becomes `currentColor`, which is black where nobody
says otherwise, and white `var(--ground, #ffffff)`: a page that sets `color` and `--ground` for a
light and a dark screen has figures for both.
"""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

from sca_bench.output import visible

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_LINK}}}href"
_COLOURS = {
    "#000000": "currentColor",
    "black": "currentColor",
    "#ffffff": "var(--ground, #ffffff)",
    "white": "var(--ground, #ffffff)",
}
_FONT = "'DejaVu Sans'"
_FONTS = f"{_FONT}, Verdana, sans-serif"
"""Where DejaVu is missing, Verdana has its widths, and most other fonts are narrower."""
_USE = re.compile(r"(?:^|url\()#([^)\s]+)")
_URL = re.compile(r"url\(#([^)\s]+)\)")

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)


def on_any_ground(text: str) -> str:
    """Return matplotlib's SVG with the reader's colours for black and white.

    Metadata, the style sheet (it would hold for a whole page) and ids that nothing uses are taken
    out. A text that is no XML is returned as it is.
    """
    root = _parsed(text)
    if root is None:
        return text
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    used = {u for each in root.iter() for v in each.attrib.values() for u in _USE.findall(v)}
    for each in root.iter():
        if each.get("id") not in used:
            each.attrib.pop("id", None)
        if "style" in each.attrib:
            each.set("style", _recoloured(each.attrib["style"]))
    # What the style sheet said, and what the elements say nothing of.
    root.attrib |= {"fill": "currentColor", "stroke-linejoin": "round", "stroke-linecap": "butt"}
    return f'<?xml version="1.0" encoding="utf-8"?>\n{_written(root)}\n'


def inlined(text: str, prefix: str, alt: str) -> str:
    """Return an SVG as an element of an HTML page, as wide as the page lets it be.

    Args:
        text: The SVG, of `on_any_ground`.
        prefix: What tells this figure from every other one of the page; no id of the element is one
            of another figure's.
        alt: What the figure shows, for those who cannot see it.

    Returns:
        `<svg role="img" aria-label="...">...</svg>`, with every text escaped; empty where the text
        is no XML.
    """
    root = _parsed(text)
    if root is None:
        return ""
    own = f"f{hashlib.sha256(prefix.encode()).hexdigest()[:8]}-"
    for each in root.iter():
        if "id" in each.attrib:
            each.set("id", own + each.attrib["id"])
        link = each.attrib.pop(_HREF, None)
        if link is not None:
            each.set("href", f"#{own}{link[1:]}" if link.startswith("#") else link)
        for key, value in each.attrib.items():
            each.set(key, _URL.sub(lambda found: f"url(#{own}{found[1]})", value))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": visible(alt, joiners=True)}
    return _written(root)


def _parsed(text: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None


def _written(root: ElementTree.Element) -> str:
    for each in root.iter():  # one element a line, without indentation
        is_text = each.tag in (f"{{{_SVG}}}text", f"{{{_SVG}}}tspan")
        if not is_text and not (each.text or "").strip():
            each.text = "\n" if len(each) else None
        if not (each.tail or "").strip():
            each.tail = "\n"
    root.tail = None
    return ElementTree.tostring(root, encoding="unicode")


def _recoloured(style: str) -> str:
    parts = []
    for part in style.split(";"):
        key, colon, value = (text.strip() for text in part.partition(":"))
        if key in ("fill", "stroke"):
            value = _COLOURS.get(value.lower(), value)
        elif key in ("font", "font-family") and value.endswith(_FONT):
            value = value.replace(_FONT, _FONTS)
        parts.append(f"{key}{colon} {value}".strip())
    return "; ".join(filter(None, parts))
