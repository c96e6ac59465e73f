"""Picture files as pixels: one reader with stated rules, for every room. No torch.

What comes out is RGB with 8 bits a channel. Ordinary pictures (RGB, grey, palettes, CMYK, 1 bit)
are what Pillow makes of them; colour profiles are not applied. Beyond that:

* **Orientation**: upright, as the EXIF orientation says and viewers show it. Where the size that
  annotations state fits only the picture as it is stored, it is left as stored.
* **See-through pixels** (an alpha channel, or a colour or palette entry that stands for nothing)
  are laid over white.
* **16 bits**: the upper 8 are kept, whatever values the picture holds; of a TIFF of 12 bits the
  upper 8 of those. 32-bit integers and floats are refused: no file says what their white is.
* **Several frames** (GIF, TIFF, ...): the first.

`notes_on` says, without decoding, what is done to a picture, and `mark` whether it was read
otherwise before these rules were made; `PictureDigests` tells pictures apart by content and mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sca_bench.digests import FileDigests
from sca_bench.errors import InputError

REVISION = "pixels-1"
"""Raised whenever a rule changes; it marks the pictures to which one applies, and no others."""
TURNED = "turned"
"""Mark of a picture that lies on its side in its file; annotations may decide how it is read."""
ORDINARY = "ordinary"

UPRIGHT = "turned upright as EXIF says"
AS_STORED = "left as stored, against EXIF: only so they have the annotated size"
OVER_WHITE = "with an alpha channel, laid over white"
UPPER_BITS = "of 16 bits a channel, the upper 8 are kept"
FIRST_FRAME = "of several frames, the first is read"

_ORIENTATION = 0x0112
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the stored picture upright; 6 and 8 undo each other."""
_STORED_BY = _UPRIGHT_BY | {6: _UPRIGHT_BY[8], 8: _UPRIGHT_BY[6]}
_SIDEWAYS = frozenset((5, 6, 7, 8))
_BITS, _PHOTOMETRIC = 258, 262
_RANGE_IS_KNOWN = ("PPM", "PNG")
"""Formats whose 32-bit integers are 16-bit ones in a wider place."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels_HW3: RGB.
        notes: What the rules above did to it, in words.
    """

    pixels_HW3: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a file's header says: its EXIF orientation, and both sizes, height and width."""

    orientation: int
    stored_hw: tuple[int, int]
    upright_hw: tuple[int, int]
    turned_by_pillow: bool

    def is_upright(self, stated_hw: tuple[int, int] | None, holds_hw: tuple[float, float]) -> bool:
        """Say whether the picture is read upright; as it is stored only where nothing else fits."""
        fits = [
            (stated_hw is None or hw == stated_hw) and hw[0] >= holds_hw[0] and hw[1] >= holds_hw[1]
            for hw in (self.upright_hw, self.stored_hw)
        ]
        return fits[0] or not fits[1]


def read_picture(
    path: Path,
    stated_hw: tuple[int, int] | None = None,
    holds_hw: tuple[float, float] = (0.0, 0.0),
) -> Picture:
    """Decode a picture file.

    Args:
        path: The file.
        stated_hw: Height and width that annotations state, where they do.
        holds_hw: Height and width that it has at least, as boxes in it show.

    Raises:
        InputError: No such file, it cannot be decoded, or what its values mean is not known.
    """
    try:
        with Image.open(path) as image:
            notes, facts = _notes(image), _facts(image, path)
            upright = facts.is_upright(stated_hw, holds_hw)
            pixels_HW3 = _rgb(image, path)
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(path, "", "no such image") from None
    except Exception as fault:  # a damaged picture can raise anything
        raise _damaged(path, fault) from None
    if facts.orientation != 1:
        notes = (UPRIGHT if upright else AS_STORED, *notes)
        if upright != facts.turned_by_pillow:
            turn = (_UPRIGHT_BY if upright else _STORED_BY)[facts.orientation]
            pixels_HW3 = np.array(Image.fromarray(pixels_HW3).transpose(turn))
    return Picture(pixels_HW3, notes)


def notes_on(path: Path, stated_hw: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Return the notes of `read_picture` from a file's header; none where it cannot be read."""
    try:
        with Image.open(path) as image:
            notes, facts = _notes(image), _facts(image, path)
    except Exception:  # whoever reads the picture says what is wrong with it
        return ()
    if facts.orientation == 1:
        return notes
    return (UPRIGHT if facts.is_upright(stated_hw, (0.0, 0.0)) else AS_STORED, *notes)


def upright_hw(path: Path) -> tuple[int, int]:
    """Return height and width of a picture as it is read where no annotation states its size.

    Raises:
        InputError: No such file, or its header cannot be read.
    """
    try:
        with Image.open(path) as image:
            return _facts(image, path).upright_hw
    except FileNotFoundError:
        raise InputError(path, "", "no such image") from None
    except Exception as fault:  # a damaged picture can raise anything
        raise _damaged(path, fault) from None


def counted(notes: Iterable[tuple[str, ...]]) -> str:
    """Return in one line how many pictures have which note; empty where none has one."""
    counts = Counter(note for those in notes for note in those)
    return "; ".join(f"{count} {note}" for note, count in sorted(counts.items()))


def mark(path: Path) -> str:
    """Return what tells a file's pixels from those that were read of it before these rules.

    Returns:
        `REVISION` where they are others, `TURNED` where that depends on annotations, and nothing
        for all ordinary pictures and for files that are none.
    """
    try:
        with Image.open(path) as image:
            facts = _facts(image, path)
            if image.mode.startswith("I") or image.mode == "F" or _is_seen_through(image):
                return REVISION
    except Exception:  # whoever reads the picture says what is wrong with it
        return ""
    if facts.orientation == 1 or (facts.turned_by_pillow and facts.stored_hw == facts.upright_hw):
        return ""
    return TURNED if facts.stored_hw != facts.upright_hw else REVISION


def picture_marks(memory: Path | None) -> FileDigests:
    """Return what remembers the marks of files; one without a mark is `ORDINARY`."""
    return FileDigests(memory, REVISION, lambda path: mark(path) or ORDINARY)


class PictureDigests:
    """What tells the pixels of pictures apart, remembered as digests of files are.

    Args:
        memory: SQLite file that keeps it between processes; none where None.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._files, self._marks = FileDigests(memory), picture_marks(memory)

    def of(self, path: Path, stated_hw: tuple[int, int]) -> str:
        """Return the digest of a file; where it is marked, with mark and size.

        Args:
            path: The file.
            stated_hw: Height and width that annotations state, which may decide how it is read.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        digest = self._files.of(path)
        if self._marks.of(path) == ORDINARY:
            return digest
        return f"{digest}+{REVISION}+{stated_hw[0]}x{stated_hw[1]}"


def read_colours(path: Path) -> NDArray[np.uint8]:
    """Read a picture whose colours are numbers, such as a panoptic map: exactly as it is stored.

    Returns:
        RGB (H, W, 3); alpha and orientation are not looked at.

    Raises:
        FileNotFoundError: No such file.
        InputError: It cannot be decoded, or does not hold 8 bits of R, G and B.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA", "P") or _has_16_bits(image):
                problem = f"holds {image.mode} values, expected R, G and B of 8 bits"
                raise InputError(path, "", problem, "fetch it again")
            return np.array(image.convert("RGB"))
    except (InputError, FileNotFoundError, MemoryError):
        raise
    except Exception as fault:  # a damaged picture can raise anything
        raise _damaged(path, fault) from None


def _damaged(path: Path, fault: Exception) -> InputError:
    reason = str(fault) or type(fault).__name__
    return InputError(path, "", f"cannot be decoded: {reason}", "fetch the image again")


def _facts(image: Image.Image, path: Path) -> _Facts:
    try:
        if image.format == "PNG" and "exif" not in image.info and b"eXIf" in path.read_bytes():
            image.load()  # it may stand behind the pixels
        # Not PNG's own: it decodes every picture to see whether there is one.
        stated = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # viewers, too, show a picture whose EXIF is damaged as it is stored
        stated = 1
    orientation = stated if isinstance(stated, int) and stated in _UPRIGHT_BY else 1
    turned_by_pillow = image.format == "TIFF"
    if turned_by_pillow and orientation in _SIDEWAYS:
        image.load()  # older releases of Pillow tell the upright size only then
    size_hw = (image.height, image.width)
    other_hw = size_hw[::-1] if orientation in _SIDEWAYS else size_hw
    if turned_by_pillow:
        return _Facts(orientation, other_hw, size_hw, True)
    return _Facts(orientation, size_hw, other_hw, False)


def _notes(image: Image.Image) -> tuple[str, ...]:
    has_frames = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    what = {
        OVER_WHITE: image.has_transparency_data,
        UPPER_BITS: image.mode.startswith("I") or _has_16_bits(image),
        FIRST_FRAME: has_frames,  # a camera's MPO holds the picture and its own previews
    }
    return tuple(note for note, is_so in what.items() if is_so)


def _rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Return a picture's colours as 8-bit RGB, (H, W, 3)."""
    if image.mode == "F" or (image.mode == "I" and image.format not in _RANGE_IS_KNOWN):
        kind = "floats" if image.mode == "F" else "32-bit integers"
        problem = f"holds {kind}, and no file says which of them is white"
        raise InputError(path, "", problem, "save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return _upper_bits(image)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba_HW4 = np.asarray(_with_alpha(image)).astype(np.uint32)
    alpha_HW1 = rgba_HW4[..., 3:]
    over_white = (rgba_HW4[..., :3] * alpha_HW1 + 255 * (255 - alpha_HW1) + 127) // 255
    return over_white.astype(np.uint8)


def _upper_bits(image: Image.Image) -> NDArray[np.uint8]:
    tags = getattr(image, "tag_v2", {})
    num_bits = 12 if tags.get(_BITS) == (12,) else 16
    is_inverted = tags.get(_PHOTOMETRIC) == 0
    nothing = image.info.get("transparency")
    values_HW = np.asarray(image).astype(np.uint32)
    grey_HW = np.minimum(values_HW >> (num_bits - 8), 255).astype(np.uint8)
    if is_inverted:
        grey_HW = 255 - grey_HW
    if isinstance(nothing, int):
        grey_HW[values_HW == nothing] = 255
    return np.repeat(grey_HW[..., None], 3, axis=2)


def _has_16_bits(image: Image.Image) -> bool:
    """Say whether Pillow drops the lower 8 of 16 bits as it decodes an RGB picture."""
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _widened(image: Image.Image) -> int:
    """Return what Pillow multiplies greys of fewer bits by as it decodes them."""
    kinds = [str(tile.args) for tile in getattr(image, "tile", ())]
    return next((by for bits, by in ((";2", 85), (";4", 17)) if any(bits in k for k in kinds)), 1)


def _is_seen_through(image: Image.Image) -> bool:
    """Say whether any pixel is not opaque; decodes pictures that could have one."""
    if not image.has_transparency_data or image.mode.startswith("I"):
        return False
    alpha = _with_alpha(image).getchannel("A").getextrema()
    return alpha[0] < 255  # type: ignore[operator]


def _with_alpha(image: Image.Image) -> Image.Image:
    nothing = image.info.get("transparency")
    if isinstance(nothing, int) and image.mode == "L":
        # Pillow widens greys of 2 and 4 bits to 8, but not the one that stands for nothing.
        image.info["transparency"] = nothing * _widened(image)
    if isinstance(nothing, tuple) and _has_16_bits(image):
        image.info["transparency"] = tuple(value >> 8 for value in nothing)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")
