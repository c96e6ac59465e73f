"""Picture files that are none to decode: one line each, and no program, no memory, no waiting."""

import contextlib
import io
import os
import socket
import struct
import subprocess
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from sca_bench.errors import InputError
from sca_bench.formats import pixels
from sca_bench.formats.pixels import mark, notes_on, read_colours, read_picture, upright_hw

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
EVERY_READER = (read_picture, upright_hw, read_colours)


def encoded(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray(RGB)).save(buffer, kind, **options)
    return buffer.getvalue()


def refused(path, line):
    """See that every reader says the same, and that what only looks says nothing."""
    for read in EVERY_READER:
        with pytest.raises(InputError, match=line) as error:
            read(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
    assert (mark(path), notes_on(path)) == ("", ())


NOT_READ = ("EPS", "PDF", "PPM", "ICO", "ICNS", "TGA", "PCX", "JPEG2000", "SGI", "DDS")


@pytest.mark.parametrize("kind", NOT_READ)
def test_other_formats_are_refused_whatever_their_name_is(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # Pillow would start Ghostscript for EPS
    (tmp_path / "x.jpg").write_bytes(encoded(kind))
    refused(tmp_path / "x.jpg", r"none of the formats that are read \(JPEG \(also MPO\), PNG, WEBP")


def test_a_phones_formats_of_today_are_named_as_not_read(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (tmp_path / "x.avif").write_bytes(b"\0\0\0\x18ftypavif" + bytes(50))
    for name in ("x.heic", "x.avif"):
        refused(tmp_path / name, "TIFF, GIF.; fetch the image again, or convert it")


def test_the_name_says_nothing_of_the_format(tmp_path):
    (tmp_path / "x.eps").write_bytes(encoded("PNG"))
    np.testing.assert_array_equal(read_picture(tmp_path / "x.eps").pixels_HW3, RGB)
    frames = {"save_all": True, "append_images": [Image.fromarray(RGB)]}
    (tmp_path / "phone.png").write_bytes(encoded("MPO", **frames))
    assert read_picture(tmp_path / "phone.png").pixels_HW3.shape == RGB.shape


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "folder", "empty"])
def test_only_regular_files_are_opened(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an address of a socket is short
    path = tmp_path / "x.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("x.png")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
    refused(path, "it is empty" if kind == "empty" else "is no regular file")


# --- sizes ------------------------------------------------------------------------------------


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, data=b""):
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    last = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + start + b"".join(chunks) + last


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ((13_400, 13_400), "of 179,560,000 pixels"),
        ((50_000, 50_000), "of 2,500,000,000 pixels"),
        ((70_000, 100), "of 70,000 x 100 pixels"),
    ],
)
def test_a_picture_larger_than_any_is_refused_before_it_is_decoded(sides, said, tmp_path):
    (tmp_path / "x.png").write_bytes(png(*sides))
    limit = "; at most 178,956,970 pixels, and 65,535 a side, are read; scale it down"
    refused(tmp_path / "x.png", f"x.png: is a picture {said}{limit}")


def test_a_large_picture_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # below it Pillow is silent
    (tmp_path / "x.png").write_bytes(encoded("PNG"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert read_picture(tmp_path / "x.png").pixels_HW3.shape == RGB.shape
    assert not said


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "I;16"])
def test_large_pictures_are_what_small_ones_are(mode, tmp_path, monkeypatch):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.fromarray(RGB).convert("L" if mode == "I;16" else mode).convert(mode)
    (tmp_path / "x").write_bytes(encoded(kind, image))
    whole = read_picture(tmp_path / "x").pixels_HW3
    monkeypatch.setattr(pixels, "_MUCH", 16 * 20)  # strips of two rows
    np.testing.assert_array_equal(read_picture(tmp_path / "x").pixels_HW3, whole)


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    content = encoded("JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    (tmp_path / "x.jpg").write_bytes(content[:start] + scan * 1_500 + content[-2:])
    begun = time.monotonic()
    refused(tmp_path / "x.jpg", "a JPEG of more than 1,000 scans")
    (tmp_path / "x.jpg").write_bytes(content)
    assert read_picture(tmp_path / "x.jpg").pixels_HW3.shape == RGB.shape
    assert time.monotonic() - begun < 5


def test_fewer_scans_are_read_of_a_larger_jpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_MOST_SCANNED", 9 * RGB.size // 3)
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG", progressive=True))
    refused(tmp_path / "x.jpg", "a JPEG of more than 9 scans")


def test_a_header_of_very_many_pieces_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels._Counted, "left", 10_000)
    jpeg, whole = encoded("JPEG"), encoded("PNG")
    (tmp_path / "x").write_bytes(jpeg[:2] + b"\xff" * 20_000 + jpeg[2:])
    refused(tmp_path / "x", "it consists of too many pieces")
    (tmp_path / "x").write_bytes(whole[:33] + chunk(b"teXt", b"") * 10_000 + whole[33:])
    refused(tmp_path / "x", "it consists of too many pieces")


def test_fewer_pixels_are_read_of_a_webp(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_MOST_WEBP_PIXELS", RGB.size // 3 - 1)
    (tmp_path / "x.webp").write_bytes(encoded("WEBP"))
    refused(tmp_path / "x.webp", "of 9 x 6 pixels; at most 53 pixels")


def test_libtiff_writes_nothing_of_its_own(tmp_path, capfd):
    content = bytearray(encoded("TIFF", compression="tiff_adobe_deflate"))
    content[8:12] = b"\xff" * 4  # where the packed pixels begin
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(InputError, match="cannot be decoded: decoder error"):
        read_picture(tmp_path / "x.tif")
    assert capfd.readouterr() == ("", "")


def test_a_bomb_of_text_is_not_unpacked(tmp_path):
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 * 2**20), 1))
    (tmp_path / "x.png").write_bytes(png(9, 6, bomb))
    with pytest.raises(InputError, match=r"x\.png: cannot be decoded"):
        read_picture(tmp_path / "x.png")


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_cut_is_one_line(kind, tmp_path):
    content = encoded(kind)
    for end in range(1, len(content) - 1, max(1, len(content) // 40)):
        (tmp_path / "x").write_bytes(content[:end])
        with contextlib.suppress(InputError):  # what is left may be a picture
            read_picture(tmp_path / "x")


@pytest.mark.parametrize(
    "fault", [SyntaxError("s"), struct.error("s"), OverflowError(), MemoryError(), KeyError(1)]
)
def test_whatever_a_decoder_raises_is_one_line(fault, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise fault

    (tmp_path / "x.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(InputError, match=r"x\.png: cannot be decoded: .+; fetch the image again"):
        read_picture(tmp_path / "x.png")
