"""One's own regions: a table (`regions.jsonl` or `regions.csv`) beside a folder of images.

A row is one region: its image, where it lies, and what is said of it.

* `image`: the file, relative to the images folder, with `/`.
* Where it lies, in pixels of the upright image, x to the right and y down: `box_xyxy` (left, top,
  right, bottom), `box_xywh` (left, top, width, height), `mask`, or `point_xy`. A mask is a file of
  the folder `masks` (a PNG, black but for the region), or COCO's run lengths or polygons. Without a
  box a mask has its tight one. A point alone has no box: only the prompt `point` can show it.
* `captions` (a list) or `caption`: one or more; none may be empty.
* `region_id`, `image_id`: made of the image's name and a number where they are not given.
* `split`: which split the row belongs to.

`sca_bench.data.readers.table` says how a row is written in JSON Lines and in CSV. A table without
a column `split` is divided by `shares`, image by image, so that no image is in two splits.
A row that is wrong is an error, with its line; only boxes that are too small are left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sca_bench.boxes import FAR_PX, BoxFault, fit_box, xywh_to_xyxy
from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.table import BOX_XYWH, BOX_XYXY, POINT_XY, Row, read_rows
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError, did_you_mean
from sca_bench.formats.pixels import OVER_WHITE, UPPER_BITS, read_picture, upright_hw
from sca_bench.formats.rle import decode_mask, encode_mask, segmentation_rle
from sca_bench.formats.texts import foreign_path, id_text
from sca_bench.reading import shown
from sca_bench.settings.base import Settings, of_kind
from sca_bench.settings.splits import ImageFolderSplit
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import BoxXYXY, ImageRecord, Region

BEYOND = "beyond max_images"
_BORDER_PX = 1.0
"""A box may lie so far outside its image, as rounding leaves it; that part is cut off."""
_SHARED = ("train", "val", "test")
"""The splits that shares make."""
_WAYS = (BOX_XYXY, BOX_XYWH, POINT_XY, "mask")


class Shares(Settings):
    """Which share of the images is in which split, where the table has no column `split`."""

    train: float = Field(0.8, ge=0)
    """Share of `split: train`; shares are relative to each other."""
    val: float = Field(0.0, ge=0)
    """Share of `split: val`."""
    test: float = Field(0.2, ge=0)
    """Share of `split: test`."""
    seed: int = Field(0, ge=0)
    """Another seed deals the images out otherwise."""

    @model_validator(mode="after")
    def _are_shares(self) -> Self:
        if not 0 < self.train + self.val + self.test < math.inf:
            raise ValueError("the shares of train, val and test need a finite sum above 0")
        return self

    def divide(self, image_ids: Iterable[str]) -> dict[str, str]:
        """Return the split of every image.

        Images are put in an order that seed and id alone decide, and cut into three parts whose
        sizes are the shares, rounded.
        """
        order = sorted(set(image_ids), key=self._place)
        total = self.train + self.val + self.test
        ends = [len(order) * end / total for end in accumulate((self.train, self.val, self.test))]
        cuts = [0, *(math.floor(end + 0.5) for end in ends)]
        return {
            image_id: name
            for name, start, end in zip(_SHARED, cuts, cuts[1:], strict=False)
            for image_id in order[start:end]
        }

    def _place(self, image_id: str) -> bytes:
        return hashlib.blake2b(f"{self.seed}\n{image_id}".encode(), digest_size=16).digest()


class RegionsSplit(ImageFolderSplit):
    """A table of regions, `.jsonl` or `.csv`, with images in a folder."""

    dataset: Literal["regions"]
    table: str = of_kind("path")
    """The table: `regions.jsonl` or `regions.csv`."""
    masks: str | None = of_kind("path", None)
    """Folder of the mask files, where rows name some."""
    split: str | None = None
    """Rows of which split: what stands in the column `split`, or one of `shares`; all if none."""
    shares: Shares = Shares()
    """How a table without a column `split` is divided; `weights train-lm` takes these defaults."""


SPEC = ReaderSpec(
    name="regions",
    title="own regions",
    settings=RegionsSplit,
    read="sca_bench.data.readers.regions:read_regions",
    summary="Your own regions: regions.jsonl or regions.csv beside a folder of images",
    masks="its column `mask`",
    licence="yours",
    source="this package",
    example="sca_bench.contract.examples:regions",
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row whose texts have been read."""

    row: Row
    image: str
    image_id: str
    region_id: str
    captions: tuple[str, ...]


def read_regions(split: RegionsSplit) -> RegionSet:
    """Read one split of a table.

    Args:
        split: Table, folders, and which rows.

    Returns:
        One region per row, images in the order in which the table names them first.

    Raises:
        InputError: The table is missing or not of this form, a row is wrong, an image or mask is
            missing, or no row is of the split.
    """
    table = Path(split.table)
    entries = _entries(read_rows(table))
    parts = _parts(entries, split.shares)
    kept = _of_split(entries, parts, split.split, table)
    by_image: dict[str, list[_Entry]] = {}
    for entry in kept:
        by_image.setdefault(entry.image_id, []).append(entry)
    folder, masks = ImageFolder(split.images), split.masks and ImageFolder(split.masks)
    images: dict[str, ImageRecord] = {}
    names: dict[str, str] = {}  # where an image lies -> what the table calls it
    regions: list[Region] = []
    dropped, left_out, num_clipped = Counter[str](), Counter[str](), 0
    if len(kept) < len(entries):
        dropped[f"not of {split.split}"] = len(entries) - len(kept)
        left_out[f"not of {split.split}"] = len({e.image_id for e in entries}) - len(by_image)
    for image_id, rows in by_image.items():
        if split.max_images is not None and len(images) >= split.max_images:
            left_out[BEYOND] += 1
            dropped[f"in images {BEYOND}"] += len(rows)
            continue
        record = _record(rows[0], folder, split.images)
        if (other := names.setdefault(record.path, rows[0].image)) != rows[0].image:
            problem = f"{rows[0].image!r} is the same file as {other!r}"
            raise rows[0].row.fault("image", problem, "call it so in all rows")
        for entry in rows:
            region, is_clipped = _region(entry, record, masks or None)
            if region.has_box and _is_small(region, record, split.min_side_px):
                dropped[f"side of at most {split.min_side_px:g} px"] += 1
                continue
            images[image_id] = record
            regions.append(region)
            num_clipped += is_clipped
        if image_id not in images:
            left_out["without a usable region"] += 1
    if not regions:
        problem = f"no region is left of {len(entries)}"
        raise InputError(table, "", problem, f"lower min_side_px ({split.min_side_px:g})")
    name = f"regions {table.name}" + (f", {split.split}" if split.split else "")
    left = {why: count for why, count in left_out.items() if count}
    return RegionSet(
        name, images, tuple(regions), dict(dropped), left, num_clipped, task=split.task
    )


def read_texts(table: Path, split: str | None) -> list[str]:
    """Return the captions of a table's rows, in order; no image is looked at.

    Args:
        table: The table.
        split: Rows of which split, as in `RegionsSplit`; all if None.

    Raises:
        InputError: The table is missing or not of this form, a row's text is wrong, or no row is of
            the split.
    """
    entries = _entries(read_rows(table, "--regions"))
    kept = _of_split(entries, _parts(entries, Shares()), split, table)
    return [caption for entry in kept for caption in entry.captions]


def _entries(rows: list[Row]) -> list[_Entry]:
    """Read the texts of all rows; ids that are not given are made."""
    entries: list[_Entry] = []
    files: dict[str, str] = {}  # image id -> its file
    ids: dict[str, str] = {}  # file -> the id that its first row gives it
    lines: dict[str, int] = {}  # region id -> its line
    counts: Counter[str] = Counter()
    for row in rows:
        image = row.values.get("image")
        if image is None:
            raise row.fault("image", "is missing", "name the file, relative to the images folder")
        if not isinstance(image, str) or not image.strip():
            raise row.fault("image", f"expected the name of a file, found {shown(image)}")
        if not foreign_path(image):
            image = str(PurePosixPath(image))  # `./a.jpg` and `a.jpg` are one image
        image_id = _id(row, "image_id", image)
        if ids.setdefault(image, image_id) != image_id:
            problem = f"{image_id!r}, but an earlier row calls {image!r} {ids[image]!r}"
            raise row.fault("image_id", problem, "give every image one id")
        if files.setdefault(image_id, image) != image:
            problem = f"{image_id!r} is already the id of {files[image_id]!r}"
            raise row.fault("image_id", problem, "give every image one id")
        region_id = _id(row, "region_id", f"{image_id}_{counts[image_id]}")
        counts[image_id] += 1
        if region_id in lines:
            problem = f"{region_id!r} stands in line {lines[region_id]}, too"
            raise row.fault("region_id", problem, "give every region its own id, or leave them out")
        lines[region_id] = row.line
        entries.append(_Entry(row, image, image_id, region_id, _captions(row)))
    return entries


def _id(row: Row, key: str, otherwise: str) -> str:
    if key not in row.values:
        return otherwise
    text = id_text(row.values[key])
    if text is None:
        problem = f"expected a text or a whole number, found {shown(row.values[key])}"
        raise row.fault(key, problem)
    return text


def _captions(row: Row) -> tuple[str, ...]:
    given = row.values.get("captions")
    if given is None or given == []:
        raise row.fault("caption", "is missing or empty", "say what the region shows")
    if not isinstance(given, list):
        fix = "write one as caption, or a list as captions"
        raise row.fault("captions", f"expected a list of texts, found {shown(given)}", fix)
    for caption in given:
        if not isinstance(caption, str) or not caption.strip():
            key = "caption" if len(given) == 1 else "captions"
            is_empty = caption is None or isinstance(caption, str)
            fix = "leave out empty ones" if is_empty else "write texts; several as a list, captions"
            raise row.fault(key, f"expected a text, found {shown(caption)}", fix)
    return tuple(" ".join(caption.split()) for caption in given)


def _parts(entries: list[_Entry], shares: Shares) -> list[str]:
    """Return the split of every row: what its column says, or its image's by shares."""
    if not any("split" in entry.row.values for entry in entries):
        divided = shares.divide(entry.image_id for entry in entries)
        return [divided[entry.image_id] for entry in entries]
    if shares != Shares():
        problem = "the table has a column split, so shares divide nothing"
        raise InputError(entries[0].row.file, "shares", problem, "drop one of them")
    parts = []
    for entry in entries:
        part = entry.row.values.get("split")
        if part is None:
            raise entry.row.fault(
                "split", "is missing, but other rows have one", "give all rows one"
            )
        if not isinstance(part, str) or not part.strip():
            raise entry.row.fault("split", f"expected a text such as train, found {shown(part)}")
        parts.append(part)
    return parts


def _of_split(
    entries: list[_Entry], parts: list[str], wanted: str | None, table: Path
) -> list[_Entry]:
    if wanted is None:
        return entries
    kept = [entry for entry, part in zip(entries, parts, strict=True) if part == wanted]
    if not kept:
        problem = f"no row of {table} is of {wanted!r}"
        fix = did_you_mean(wanted, set(parts))
        if not any("split" in entry.row.values for entry in entries):
            count = len({entry.image_id for entry in entries})
            problem += f" by shares, which divide {count} image{'s' * (count != 1)}"
            if wanted in _SHARED:
                fix = "give more images, a larger share, or a column split"
        raise InputError(None, "split", problem, fix)
    return kept


def _record(entry: _Entry, folder: ImageFolder, images: str) -> ImageRecord:
    """Return an image's record with its size, from the header of its file."""
    row, name = entry.row, entry.image
    try:
        path = Path(folder.path(name, row.file, f"line {row.line}: image"))
        is_there = path.is_file()
    except OSError as fault:  # a name that is too long, a folder that may not be read
        raise row.fault("image", f"{shown(name)} cannot be read: {fault.strerror}") from None
    if not is_there:
        if not Path(images).is_dir():
            raise InputError(images, "images", "no such folder", "name the folder in `images`")
        others = [other.name for other in path.parent.glob("*") if other.is_file()]
        near = did_you_mean(path.name, others) if path.parent.is_dir() else ""
        fix = near if near.startswith("did") else "names are relative to the images folder"
        raise row.fault("image", f"no such file in {images}: {name!r}", fix)
    try:
        height, width = upright_hw(path)
    except InputError as fault:
        raise row.fault("image", f"{name!r} {fault.problem}", fault.fix) from None
    return ImageRecord(entry.image_id, width, height, str(path))


def _region(entry: _Entry, image: ImageRecord, masks: ImageFolder | None) -> tuple[Region, bool]:
    """Return the region of a row, and whether its box was cut at the image's border."""
    row = entry.row
    ways = [key for key in _WAYS if key in row.values]
    if not ways:
        raise row.fault("box_xyxy", "is missing", f"say where it lies: {', '.join(_WAYS)}")
    boxes = [key for key in ways if key in (BOX_XYXY, BOX_XYWH)]
    if len(boxes) == 2:
        raise row.fault(BOX_XYXY, f"stands beside {BOX_XYWH}", "give one of them")
    if POINT_XY in ways and len(ways) > 1:
        problem = f"stands beside {ways[0] if ways[0] != POINT_XY else ways[1]}"
        raise row.fault(POINT_XY, problem, "leave it out: prompts take points of the box or mask")
    segmentation, tight = _mask(row, image, masks)
    box_xyxy = tight
    if boxes:
        first, second, third, fourth = _numbers(row, boxes[0], 4)
        box_xyxy = (first, second, third, fourth)
        if boxes[0] == BOX_XYWH:
            box_xyxy = xywh_to_xyxy(*box_xyxy)
        _check_box(row, boxes[0], box_xyxy, image)
    elif POINT_XY in ways:
        x, y = _numbers(row, POINT_XY, 2)
        if not (0 <= x <= image.width and 0 <= y <= image.height):
            problem = f"{x:g}, {y:g} is outside its image of {image.width} x {image.height} px"
            raise row.fault(POINT_XY, problem, "give x and y in pixels of the upright image")
        box_xyxy = (x - 0.5, y - 0.5, x + 0.5, y + 0.5)
    cut = box_xyxy if POINT_XY in ways else fit_box(box_xyxy, image.width, image.height)
    assert not isinstance(cut, BoxFault), "a box that has been checked"
    region = Region(
        region_id=entry.region_id,
        image_id=entry.image_id,
        box_xyxy=cut,
        references=entry.captions,
        segmentation=segmentation,
        has_box=POINT_XY not in ways,
    )
    return region, cut != box_xyxy


def _numbers(row: Row, key: str, count: int) -> tuple[float, ...]:
    given = row.values[key]
    if not isinstance(given, list) or len(given) != count:
        raise row.fault(key, f"expected {count} numbers, found {shown(given)}")
    for number in given:
        if type(number) not in (int, float) or not abs(number) < FAR_PX:
            raise row.fault(key, f"expected {count} numbers, found {shown(number)} among them")
    return tuple(float(number) for number in given)


def _check_box(row: Row, key: str, box_xyxy: BoxXYXY, image: ImageRecord) -> None:
    left, top, right, bottom = box_xyxy
    if not (right > left and bottom > top):
        problem = f"{shown(row.values[key])} has no area"
        fix = "right and bottom come after left and top; is it box_xywh?"
        if key == BOX_XYWH:
            fix = "width and height are above 0"
        raise row.fault(key, problem, fix)
    size = f"{image.width} x {image.height} px"
    if max(box_xyxy) <= 1 < min(image.width, image.height):
        problem = f"{shown(row.values[key])} is at most 1 pixel of {size}"
        raise row.fault(key, problem, "give pixels, not shares of the image")
    outside = max(-left, -top, right - image.width, bottom - image.height)
    if outside > _BORDER_PX:
        other = f"is it {BOX_XYWH if key == BOX_XYXY else BOX_XYXY}?"
        problem = f"{shown(row.values[key])} reaches {outside:g} px out of its image of {size}"
        raise row.fault(key, problem, f"give pixels of the upright image; {other}")
    if isinstance(fit_box(box_xyxy, image.width, image.height), BoxFault):
        raise row.fault(key, f"{shown(row.values[key])} is outside its image of {size}")


def _is_small(region: Region, image: ImageRecord, min_side_px: float) -> bool:
    return isinstance(fit_box(region.box_xyxy, image.width, image.height, min_side_px), BoxFault)


_NO_BOX: BoxXYXY = (0.0, 0.0, 0.0, 0.0)


def _mask(row: Row, image: ImageRecord, masks: ImageFolder | None) -> tuple[str, BoxXYXY]:
    """Return a row's mask as `Region` holds it, and its tight box; empty where it has none."""
    given = row.values.get("mask")
    if given is None:
        return "", _NO_BOX
    if isinstance(given, str):
        mask_HW = _mask_of_file(row, given, image, masks)
        segmentation = json.dumps(encode_mask(mask_HW))
    else:
        segmentation = json.dumps(given, separators=(",", ":"))
        try:
            mask_HW = decode_mask(segmentation_rle(segmentation, image.height, image.width))
        except ValueError as fault:
            raise row.fault("mask", str(fault), "give COCO's run lengths or polygons") from None
    if not mask_HW.any():
        raise row.fault("mask", "has no pixel", "leave the row out, or give a box")
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = map(float, tight)
    return segmentation, (left, top, right, bottom)


def _mask_of_file(
    row: Row, name: str, image: ImageRecord, masks: ImageFolder | None
) -> NDArray[np.bool_]:
    if masks is None:
        fix = "name their folder in `masks`"
        raise row.fault("mask", f"names a file, {name!r}, and there is no folder of masks", fix)
    try:
        path = Path(masks.path(name, row.file, f"line {row.line}: mask"))
    except OSError as fault:
        raise row.fault("mask", f"{shown(name)} cannot be read: {fault.strerror}") from None
    if path.suffix.lower() != ".png":
        raise row.fault("mask", f"{name!r} is no PNG", "other pictures blur the edge; save a PNG")
    try:
        picture = read_picture(path, (image.height, image.width))
    except InputError as fault:
        problem = f"{name!r}: {fault.problem}"
        raise row.fault("mask", problem, "names are relative to the folder `masks`") from None
    if {OVER_WHITE, UPPER_BITS}.intersection(picture.notes):
        problem = f"{name!r} has an alpha channel or 16 bits"
        raise row.fault("mask", problem, "save it in black and white, 8 bits")
    height, width = picture.pixels_HW3.shape[:2]
    if (height, width) != (image.height, image.width):
        problem = f"{name!r} is {width} x {height} px, but its image {image.width} x {image.height}"
        raise row.fault("mask", problem, "give a mask of the size of its image")
    return np.asarray(picture.pixels_HW3.any(axis=-1))
