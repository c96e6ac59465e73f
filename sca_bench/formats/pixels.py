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

A picture comes from anywhere, so it is opened as little as that takes: regular files only, of the
formats in `FORMATS` only (Pillow knows more, and starts a program for one of them), and none that
would decode to more than `MOST_PIXELS`.

`notes_on` says, without decoding, what is done to a picture, and `mark` whether it was read
otherwise before these rules were made; `PictureDigests` tells pictures apart by content and mark.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import mmap
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sca_bench.digests import FileDigests
from sca_bench.errors import InputError
from sca_bench.reading import open_regular

REVISION = "pixels-1"
"""Raised whenever a rule changes; it marks the pictures to which one applies, and no others."""
TURNED = "turned"
"""Mark of a picture that lies on its side in its file; annotations may decide how it is read."""
ORDINARY = "ordinary"

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is read, by Pillow's names; phones' MPO is a JPEG. None of their decoders starts a program,
whatever the file is called."""
MOST_PIXELS, MOST_SIDE_PX = 178_956_970, 65_535
"""Pixels of a picture (where Pillow itself refuses), and the longest side that a JPEG can have."""
_MOST_WEBP_PIXELS = MOST_PIXELS // 2
"""Pixels of a WebP, whose decoder takes four times the memory of others."""
_MOST_BYTES = 2**30
_MOST_SCANS, _MOST_SCANNED = 1_000, 10**10
"""Scans of a progressive JPEG, and pixels that they go over, each over the whole picture: a few
bytes are a scan."""
_MOST_READS, _MOST_READS_OF_RUNS = 1_000_000, 10_000_000
"""How often Pillow may ask for bytes. It takes headers piece by piece, and the runs of a BMP, and a
piece can be a single byte."""
_MUCH = 2**24
"""Pixels from which a picture is converted strip by strip: a copy of all of it is much memory."""

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
_RANGE_IS_KNOWN = ("PNG",)
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
        with _opened(path) as image:
            notes, facts = _notes(image), _facts(image)
            upright = facts.is_upright(stated_hw, holds_hw)
            pixels_HW3 = _rgb(image, path)
    except InputError:
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


def colours_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return an open picture as `read_picture` has one of a file: RGB (H, W, 3), upright."""
    return _rgb(ImageOps.exif_transpose(image), Path("image"))


def notes_on(path: Path, stated_hw: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Return the notes of `read_picture` from a file's header; none where it cannot be read."""
    try:
        with _opened(path) as image:
            notes, facts = _notes(image), _facts(image)
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
        with _opened(path) as image:
            return _facts(image).upright_hw
    except InputError:
        raise
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
        with _opened(path) as image:
            facts = _facts(image)
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
        self.memory = memory
        self._files, self._marks = FileDigests(memory), picture_marks(memory)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.memory,)  # another process opens the memory itself

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
        with _opened(path) as image:
            if image.mode not in ("RGB", "RGBA", "P") or _has_16_bits(image):
                problem = f"holds {image.mode} values, expected R, G and B of 8 bits"
                raise InputError(path, "", problem, "fetch it again")
            return _converted(image)
    except (InputError, FileNotFoundError):
        raise
    except Exception as fault:  # a damaged picture can raise anything
        raise _damaged(path, fault) from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture whose header says that it is one to decode.

    Raises:
        InputError: It is no regular file, of another format, or too large.
        FileNotFoundError: No such file.
        Exception: Whatever a decoder raises.
    """
    _keep_pillow_quiet()
    with _Counted(open_regular(path).detach()) as handle:
        size = handle.seek(0, 2)
        if not size:
            raise InputError(path, "", "cannot be decoded: it is empty", "fetch the image again")
        if size > _MOST_BYTES:
            problem = f"holds {size:,} bytes, and a picture of at most {_MOST_BYTES:,} is read"
            raise InputError(path, "", problem)
        try:
            image = Image.open(handle, formats=FORMATS)
        except UnidentifiedImageError:
            problem = "it is damaged, or none of the formats that are read"
            known = ", ".join("JPEG (also MPO)" if name == "JPEG" else name for name in FORMATS)
            fix = "fetch the image again, or convert it"
            raise InputError(path, "", f"cannot be decoded: {problem} ({known})", fix) from None
        except Image.DecompressionBombError as fault:
            found = re.search(r"\d+", str(fault))
            raise _too_large(path, f"{int(found[0]):,}" if found else "more") from None
        with image:
            width, height = image.size
            most = _MOST_WEBP_PIXELS if image.format == "WEBP" else MOST_PIXELS
            if width * height > most or max(image.size) > MOST_SIDE_PX:
                raise _too_large(path, f"{width:,} x {height:,}", most)
            most_scans = min(_MOST_SCANS, _MOST_SCANNED // (width * height))
            if image.info.get("progressive") and _scans(handle) > most_scans:
                problem = f"cannot be decoded: a JPEG of more than {most_scans:,} scans"
                raise InputError(path, "", problem, "save the image again")
            if image.format == "BMP":
                handle.left = _MOST_READS_OF_RUNS
            yield image


class _Counted(io.BufferedReader):
    """An open file that is read a limited number of times."""

    left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            OverflowError: They are asked for once too often.
        """
        self.left -= 1
        if self.left < 0:
            raise OverflowError("it consists of too many pieces")
        return super().read(size)


def _too_large(path: Path, found: str, most: int = MOST_PIXELS) -> InputError:
    limit = f"at most {most:,} pixels, and {MOST_SIDE_PX:,} a side, are read"
    return InputError(path, "", f"is a picture of {found} pixels; {limit}", "scale it down")


def _keep_pillow_quiet() -> None:
    """Have Pillow's warnings about a file ignored: what is wrong with one is said in one line."""
    # Not `catch_warnings`, which is no business of one thread alone.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
    _keep_libtiff_quiet()


@cache
def _keep_libtiff_quiet() -> None:
    """Have libtiff write nothing to the error output, where Pillow has one that can be asked."""
    with contextlib.suppress(OSError, AttributeError):
        pillow = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        pillow.TIFFSetErrorHandler(None)


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _scans(handle: IO[bytes]) -> int:
    """Return how often a JPEG begins a scan; where pixels begin the handle stays."""
    place = handle.tell()
    try:
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            count, found = 0, content.find(b"\xff\xda")
            while found >= 0 and count <= _MOST_SCANS:
                count, found = count + 1, content.find(b"\xff\xda", found + 2)
            return count
    finally:
        handle.seek(place)


def _holds(image: Image.Image, chunk: bytes) -> bool:
    """Say whether the bytes of an open file hold some; where pixels begin its handle stays."""
    handle: IO[bytes] = image.fp  # type: ignore[attr-defined]
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(chunk) >= 0


def _damaged(path: Path, fault: Exception) -> InputError:
    reason = str(fault) or type(fault).__name__
    if isinstance(fault, MemoryError):
        reason = "it needs more memory than there is"
    return InputError(path, "", f"cannot be decoded: {reason}", "fetch the image again")


def _facts(image: Image.Image) -> _Facts:
    try:
        if image.format == "PNG" and "exif" not in image.info and _holds(image, b"eXIf"):
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
        return _converted(image)
    whole = _with_alpha(image)
    over_white_HW3 = np.empty((whole.height, whole.width, 3), np.uint8)
    for rows, strip in _strips(whole):
        rgba_HW4 = np.asarray(strip).astype(np.uint32)
        alpha_HW1 = rgba_HW4[..., 3:]
        over_white = (rgba_HW4[..., :3] * alpha_HW1 + 255 * (255 - alpha_HW1) + 127) // 255
        over_white_HW3[rows] = over_white
    return over_white_HW3


def _converted(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture as RGB, converted by Pillow."""
    image.load()  # older releases of Pillow tell the size of some TIFFs only then
    if image.width * image.height <= _MUCH:
        return np.array(image.convert("RGB"))
    pixels_HW3 = np.empty((image.height, image.width, 3), np.uint8)
    for rows, strip in _strips(image):
        pixels_HW3[rows] = np.asarray(strip.convert("RGB"))
    return pixels_HW3


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield a picture in strips of whole rows, each with the rows that it is of."""
    height = max(1, _MUCH // 16 // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _upper_bits(image: Image.Image) -> NDArray[np.uint8]:
    tags = getattr(image, "tag_v2", {})
    num_bits = 12 if tags.get(_BITS) == (12,) else 16
    is_inverted = tags.get(_PHOTOMETRIC) == 0
    nothing = image.info.get("transparency")
    image.load()  # older releases of Pillow tell the size of some TIFFs only then
    pixels_HW3 = np.empty((image.height, image.width, 3), np.uint8)
    for rows, strip in _strips(image):
        values_HW = np.asarray(strip).astype(np.uint32)
        grey_HW = np.minimum(values_HW >> (num_bits - 8), 255).astype(np.uint8)
        if is_inverted:
            grey_HW = 255 - grey_HW
        if isinstance(nothing, int):
            grey_HW[values_HW == nothing] = 255
        pixels_HW3[rows] = grey_HW[..., None]
    return pixels_HW3


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
    return image if image.mode == "RGBA" else image.convert("RGBA")
