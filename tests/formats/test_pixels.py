"""One reader for picture files: what every rule makes of a picture, and what is left bit-equal."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sca_bench.data.image_files import load_image_file
from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.formats.pixels import (
    AS_STORED,
    FIRST_FRAME,
    ORDINARY,
    OVER_WHITE,
    REVISION,
    TURNED,
    UPPER_BITS,
    UPRIGHT,
    PictureDigests,
    counted,
    mark,
    notes_on,
    picture_marks,
    read_colours,
    read_picture,
)
from sca_bench.settings import CellSettings, ScenesSplit
from sca_bench.study.keys.fingerprint import Fingerprints, digest_json
from sca_bench.types import ImageRecord

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 6, 9
DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY16 = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
UPRIGHT_OF = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
"""EXIF orientation -> what its definition (0th row, 0th column) makes of the stored pixels."""


@pytest.fixture
def save(tmp_path):
    def save_it(image, name="x.png", orientation=None, **options):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        if orientation is not None:
            options["exif"] = exif = Image.Exif()
            exif[0x0112] = orientation
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save_it


def pixels(path, **where):
    return read_picture(path, **where).pixels_HW3


# --- ordinary pictures ------------------------------------------------------------------------


PLAIN = {
    "x.png": ("RGB", "L", "1", "P"),
    "x.jpg": ("RGB", "L", "CMYK"),
    "x.tif": ("RGB", "L", "1", "P", "CMYK", "YCbCr", "LAB"),
    "x.gif": ("RGB", "L", "1", "P"),
    "x.webp": ("RGB",),
    "x.bmp": ("RGB", "L", "1", "P"),
}


@pytest.mark.parametrize(
    ("name", "mode"), [(n, mode) for n, all_ in PLAIN.items() for mode in all_]
)
def test_ordinary_pictures_are_what_they_were(save, name, mode):
    lab = Image.frombytes("LAB", (WIDTH, HEIGHT), RGB.tobytes())
    path = save(lab if mode == "LAB" else Image.fromarray(RGB).convert(mode), name)
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(path), expected)
    assert (mark(path), notes_on(path)) == ("", ())


def png(path, header, rows, *chunks):
    """Write a bare PNG of rows of 16-bit numbers, as Pillow itself writes none."""
    start = struct.pack(">IIBBBBB", *header)
    data = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", start), *chunks, (b"IDAT", data), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)
    return path


def test_opaque_alpha_and_16_bit_colours_keep_their_pixels(save, tmp_path):
    opaque = save(np.dstack([RGB, np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    np.testing.assert_array_equal(pixels(opaque), RGB)
    deep = RGB.astype(np.uint16) * 256 + 200
    path = png(tmp_path / "deep.png", (WIDTH, HEIGHT, 16, 2, 0, 0, 0), deep)
    np.testing.assert_array_equal(pixels(path), RGB)
    assert notes_on(path) == read_picture(path).notes == (UPPER_BITS,)
    assert mark(opaque) == mark(path) == ""


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(save, name, orientation):
    options = {"lossless": True} if name == "x.webp" else {}
    path = save(RGB, name, orientation, **options)
    expected = UPRIGHT_OF[orientation](RGB)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels_HW3, expected)
    assert picture.notes == notes_on(path) == (() if orientation == 1 else (UPRIGHT,))
    np.testing.assert_array_equal(pixels(path, stated_hw=expected.shape[:2]), expected)
    if orientation > 4:  # the annotations know only what the file stores
        stored = read_picture(path, (HEIGHT, WIDTH))
        np.testing.assert_array_equal(stored.pixels_HW3, RGB)
        assert stored.notes == notes_on(path, (HEIGHT, WIDTH)) == (AS_STORED,)
        np.testing.assert_array_equal(pixels(path, holds_hw=(2.0, WIDTH - 0.5)), RGB)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing(save, orientation):
    path = save(RGB, orientation=orientation)
    np.testing.assert_array_equal(pixels(path), RGB)
    assert (mark(path), notes_on(path)) == ("", ())


def test_damaged_exif_leaves_a_picture_as_it_is_stored(save):
    path = save(RGB, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    np.testing.assert_array_equal(pixels(path), RGB)


def test_exif_behind_the_pixels_counts(save, tmp_path):
    content = save(RGB, orientation=6).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    last = content.index(b"IEND") - 4
    moved = content[:start] + content[end:last] + content[start:end] + content[last:]
    (tmp_path / "late.png").write_bytes(moved)
    np.testing.assert_array_equal(pixels(tmp_path / "late.png"), UPRIGHT_OF[6](RGB))
    assert notes_on(tmp_path / "late.png") == (UPRIGHT,)


def test_a_split_reads_a_picture_in_the_frame_of_its_annotations(save):
    path = str(save(RGB, "x.webp", 6, lossless=True))
    turned = load_image_file(ImageRecord("1", HEIGHT, WIDTH, path))
    np.testing.assert_array_equal(turned, UPRIGHT_OF[6](RGB))
    np.testing.assert_array_equal(load_image_file(ImageRecord("1", WIDTH, HEIGHT, path)), RGB)
    with pytest.raises(InputError, match=r"x.webp: is 6 x 9 pixels, but its annotations are for 5"):
        load_image_file(ImageRecord("1", 5, 5, path))


# --- see-through pixels -----------------------------------------------------------------------


def over_white(colours, alpha):
    share = alpha[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5)


def test_alpha_is_laid_over_white(save):
    alpha = DRAW.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    path = save(np.dstack([RGB, alpha]))
    assert abs(pixels(path) - over_white(RGB, alpha)).max() <= 1
    assert notes_on(path) == read_picture(path).notes == (OVER_WHITE,)
    assert mark(path) == REVISION
    grey = save(Image.fromarray(np.dstack([RGB[..., 0], alpha])), "grey.png")
    expected = np.repeat(over_white(RGB[..., :1], alpha), 3, axis=2)
    assert abs(pixels(grey) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "mode"), [("x.png", "P"), ("x.png", "L"), ("x.png", "RGB"), ("x.gif", "P")]
)
def test_a_colour_that_stands_for_nothing_is_white(save, name, mode):
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[:, 4:] = (200, 0, 0)
    image = Image.fromarray(red).convert(mode)
    nothing = image.getpixel((0, 0))
    path = save(image, name, transparency=nothing)
    found = pixels(path)
    assert (found[:, :4] == 255).all()
    assert not (found[:, 4:] == 255).all()
    assert mark(path) == REVISION


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])
def test_a_16_bit_colour_that_stands_for_nothing_is_white(tmp_path, kind, channels):
    deep = np.zeros((HEIGHT, WIDTH, channels), np.uint16)
    deep[:, 4:] = 0x8080
    nothing = (b"tRNS", struct.pack(f">{channels}H", *[0x8080] * channels))
    path = png(tmp_path / "deep.png", (WIDTH, HEIGHT, 16, kind, 0, 0, 0), deep, nothing)
    assert pixels(path)[0, ::4].tolist() == [[0, 0, 0], [255, 255, 255], [255, 255, 255]]
    assert mark(path) == REVISION


@pytest.mark.parametrize(("bits", "row", "other"), [(2, [0x1B1B], 170), (4, [0x1212, 0x1212], 34)])
def test_a_grey_of_few_bits_that_stands_for_nothing_is_white(tmp_path, bits, row, other):
    nothing = (b"tRNS", struct.pack(">H", 1))
    rows = np.array([row] * 8, np.uint16)
    path = png(tmp_path / "grey.png", (8, 8, bits, 0, 0, 0, 0), rows, nothing)
    found = pixels(path)[0, :, 0].tolist()
    assert found == ([0, 255, other, 255] * 2 if bits == 2 else [255, other] * 4)
    assert mark(path) == REVISION


def test_a_palette_with_a_table_of_alphas(save):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([0, 0, 0, 100, 100, 100, 200, 200, 200])
    path = save(image, transparency=bytes([0, 128, 255]))
    assert pixels(path)[0, :, 0].tolist() == [255, 177, 200]
    solid = save(image, "solid.png", transparency=bytes([255, 255, 255]))
    assert pixels(solid)[0, :, 0].tolist() == [0, 100, 200]
    assert mark(solid) == ""


# --- more than 8 bits -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.tif", "big.tif", "x.pgm", "x.jp2"])
def test_of_16_bits_the_upper_8_are_kept(save, tmp_path, name):
    if name == "x.pgm":
        content = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + GREY16.astype(">u2").tobytes()
        (path := tmp_path / name).write_bytes(content)
    else:
        options = {"irreversible": False} if name == "x.jp2" else {}
        path = save(GREY16.astype(">u2") if name == "big.tif" else GREY16, name, **options)
    expected = np.repeat((GREY16 >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels(path), expected)
    assert notes_on(path) == read_picture(path).notes == (UPPER_BITS,)
    assert mark(path) == REVISION


def test_a_range_is_never_stretched_to_what_a_picture_holds(save):
    dark = save((GREY16 // 16).astype(np.uint16))
    assert pixels(dark).max() == 15


def tiff(path, values, bits, white_is_zero=False, packed=None):
    """Write a bare little-endian grey TIFF, which Pillow itself does not write."""
    height, width = values.shape
    data = packed or values.astype("<u2").tobytes()
    photometric = 0 if white_is_zero else 1
    entries = [
        *((256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)),
        *((273, 4, 0), (277, 3, 1), (278, 4, height), (279, 4, len(data))),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    body = b"II*\x00" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        value = start if tag == 273 else value
        body += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
        body += value.to_bytes(4, "little")
    path.write_bytes(body + bytes(4) + data)
    return path


def test_tiffs_say_what_white_is(tmp_path):
    inverted = tiff(tmp_path / "inverted.tif", GREY16, 16, white_is_zero=True)
    np.testing.assert_array_equal(pixels(inverted)[..., 0], 255 - (GREY16 >> 8))
    twelve = np.array([[0, 0x800], [0xFFF, 0x7F]])
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x7F])  # two values in three bytes
    path = tiff(tmp_path / "twelve.tif", twelve, 12, packed=packed)
    assert pixels(path)[..., 0].tolist() == [[0, 128], [255, 7]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (GREY16.astype(np.int32), "32-bit integers"),
        (GREY16.astype(np.float32), "floats"),
        (GREY16.astype(np.float32) / 65535, "floats"),
    ],
)
def test_what_has_no_white_is_refused(save, values, said):
    path = save(values, "x.tif")
    line = rf"x.tif: holds {said}, and no file says which of them is white; save it with 8 or 16"
    with pytest.raises(InputError, match=line):
        read_picture(path)
    assert mark(path) == REVISION  # it was read, as something else


# --- several frames, and files that are none --------------------------------------------------


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.webp", "x.png"])
def test_of_several_frames_the_first_is_read(save, name):
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if name == "x.webp" else {}
    path = save(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]
    assert notes_on(path) == (FIRST_FRAME,)
    assert mark(path) == ""


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"x.png: cannot be decoded: .*; fetch the image again"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"y.png: no such image"):
        read_picture(tmp_path / "y.png")
    assert (mark(tmp_path / "x.png"), notes_on(tmp_path / "x.png")) == ("", ())
    assert counted([(), ("a", "b"), ("b",)]) == "1 a; 2 b"


@pytest.mark.parametrize("cut", [30, 60, 100, 200])
def test_a_torn_picture_is_one_line(save, cut):
    path = save(RGB)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"x.png: cannot be decoded"):
        read_picture(path)


# --- colours that are numbers -----------------------------------------------------------------


def test_numbers_in_colours_are_read_as_they_are_stored(save):
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    np.testing.assert_array_equal(read_colours(save(np.dstack([RGB, alpha]))), RGB)
    np.testing.assert_array_equal(read_colours(save(RGB, orientation=6)), RGB)
    for wrong in (GREY16, RGB[..., 0]):
        with pytest.raises(InputError, match="expected R, G and B of 8 bits"):
            read_colours(save(wrong))


# --- what tells pictures apart ----------------------------------------------------------------


def test_only_pictures_that_read_otherwise_have_another_content(save, tmp_path):
    digests = PictureDigests(tmp_path / "memory.sqlite")
    plain = save(RGB, "plain.png")
    assert digests.of(plain, (6, 9)) == file_sha256(plain)
    deep = save(GREY16, "deep.png")
    assert digests.of(deep, (6, 9)) == f"{file_sha256(deep)}+{REVISION}+6x9"
    turned = save(RGB, "turned.webp", 6)
    assert len({digests.of(turned, size) for size in ((6, 9), (9, 6))}) == 2
    again = PictureDigests(tmp_path / "memory.sqlite")
    assert again.of(deep, (6, 9)) == digests.of(deep, (6, 9))
    marks = {"plain.png": ORDINARY, "deep.png": REVISION, "turned.webp": TURNED}
    assert {name: picture_marks(None).of(tmp_path / name) for name in marks} == marks


def test_only_folders_of_such_pictures_have_another_digest(save, tmp_path):
    def digest(*names):
        folder = tmp_path / "folders" / "-".join(names)
        folder.mkdir(parents=True)
        for name in names:
            (tmp_path / name).rename(folder / name)
        split = {"dataset": "coco_instances", "annotations": str(notes), "images": str(folder)}
        scene = ScenesSplit(dataset="scenes", num_images=1, first_seed=0)
        settings = CellSettings(variant="sca", data={"train": split, "test": scene})
        return Fingerprints().inputs(settings)["data.train.images"]

    def by_content(*names):
        folder = tmp_path / "folders" / "-".join(names)
        return digest_json([[name, file_sha256(folder / name)] for name in sorted(names)])

    (notes := tmp_path / "notes.json").write_text("{}")
    save(RGB, "a.png"), save(RGB, "b.webp", 6), save(GREY16, "c.png"), save(RGB, "d.webp", 2)
    assert digest("a.png", "b.webp") == by_content("a.png", "b.webp")
    for name in ("c.png", "d.webp"):
        assert digest(name) == digest_json([by_content(name), REVISION, [name]])


def test_nobody_opens_pictures_beside_the_reader():
    files = [path for top in ("sca_bench", "baselines") for path in (ROOT / top).rglob("*.py")]
    opening = [path for path in files if "Image.open" in path.read_text(encoding="utf-8")]
    assert opening == [ROOT / "sca_bench" / "formats" / "pixels.py"]
