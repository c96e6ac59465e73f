"""Parts of a predictions file that are scored by themselves: other protocols on the same captions.

Visual Genome is scored in two ways: on every region of the 5,000 test images, and on one region of
each (GLaMM's `test_caption.json`). Their numbers differ by tens of CIDEr-D points and share no
column, but one file of predictions gives both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.rows import CaptionRow, json_kind, read_box, read_id
from sca_bench.reading import ROWS_BYTES, named_file, parse_json, read_text

FIRST_OF_IMAGE = "first_of_image"
"""The built-in subset: the first region of every image, in the order of the rows."""
MIN_IOU = 0.9
_FORMS = (
    "one region id a line, a JSON list of ids, or a JSON object with annotations (id, image_id, "
    "bbox, caption)"
)

Box = tuple[float, float, float, float]


def subset_rows(rows: Sequence[CaptionRow], path: str | Path) -> list[CaptionRow]:
    """Return the rows of a subset.

    Args:
        rows: All rows.
        path: `first_of_image`, or a file: one region id a line; a JSON list of ids; or JSON in the
            manner of COCO's captions, of which each image's annotation whose id equals the
            image's is taken (GLaMM's protocol). Such an annotation means the row of that image
            whose box has the largest IoU with its `bbox` (x, y, width, height), at least 0.9; of
            equal ones the row that has its caption for a reference. Its caption becomes the row's
            only reference.

    Returns:
        Rows in the order of the file (of `rows` for `first_of_image`).

    Raises:
        InputError: The file is at fault, or names a region or image that no row has.
    """
    if str(path) == FIRST_OF_IMAGE:
        firsts: dict[str, CaptionRow] = {}
        for row in rows:
            firsts.setdefault(row.image_id, row)
        return list(firsts.values())
    path = Path(path)
    with named_file(path, fix=f"name a file, or {FIRST_OF_IMAGE}"):
        text = read_text(path, ROWS_BYTES)
    content: object = None
    if text.lstrip().startswith(("[", "{")):
        content = parse_json(text, path, fix=f"expected {_FORMS}")
    if isinstance(content, Mapping):
        return _annotated(rows, path, content)
    if content is None:
        content = [line.strip() for line in text.splitlines() if line.strip()]
    assert isinstance(content, list)
    return _named(rows, path, content)


def subset_digest(path: str | Path) -> str:
    """Return what tells one subset from another: the content of its file, or `first_of_image`.

    Raises:
        InputError: The file cannot be read.
    """
    if str(path) == FIRST_OF_IMAGE:
        return FIRST_OF_IMAGE
    with named_file(path, fix=f"name a file, or {FIRST_OF_IMAGE}"):
        return file_sha256(Path(path))


def _named(rows: Sequence[CaptionRow], path: Path, ids: list[object]) -> list[CaptionRow]:
    by_id = {row.region_id: row for row in rows}
    named: dict[str, CaptionRow] = {}
    unknown = []
    for number, value in enumerate(ids, 1):
        region_id = read_id(path, f"entry {number}", {"region_id": value}, "region_id")
        if region_id in named:
            raise InputError(path, f"entry {number}", f"{region_id!r} is named twice")
        if region_id in by_id:
            named[region_id] = by_id[region_id]
        else:
            unknown.append(region_id)
    if unknown:
        problem = f"{len(unknown)} of {len(ids)} regions are not in the predictions"
        raise InputError(path, unknown[0], problem, "caption the whole split, or name its regions")
    if not named:
        raise InputError(path, "", "names no region", f"expected {_FORMS}")
    return list(named.values())


def _annotated(
    rows: Sequence[CaptionRow], path: Path, content: Mapping[str, object]
) -> list[CaptionRow]:
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise InputError(path, "annotations", "expected a list", f"expected {_FORMS}")
    of_image: dict[str, list[CaptionRow]] = {}
    for row in rows:
        of_image.setdefault(row.image_id, []).append(row)
    chosen: dict[str, tuple[Box, str]] = {}
    images: dict[str, None] = {}
    for number, record in enumerate(annotations, 1):
        entry = f"annotation {number}"
        if not isinstance(record, dict):
            raise InputError(path, entry, f"is {json_kind(record)}, expected an object")
        for key in ("id", "image_id", "bbox", "caption"):
            if key not in record:
                raise InputError(path, f"{entry}: {key}", "is missing", f"expected {_FORMS}")
        own, image_id = (read_id(path, entry, record, key) for key in ("id", "image_id"))
        images[image_id] = None
        if own != image_id:
            continue
        box = read_box(path, f"{entry}: bbox", record["bbox"])
        caption = record["caption"]
        if box is None or not isinstance(caption, str):
            raise InputError(path, entry, "expected a bbox (x, y, width, height) and a caption")
        left, top, width, height = box
        chosen[image_id] = ((left, top, left + width, top + height), caption)
    _check_found(path, images, chosen, "annotation whose id is the image's")
    _check_found(path, chosen, of_image, "row in the predictions")
    matched: dict[str, CaptionRow] = {}
    for image_id, (box, caption) in chosen.items():
        match = _match(of_image[image_id], box, caption)
        if match is not None:
            matched[image_id] = match
    _check_found(path, chosen, matched, f"row whose box_xyxy has an IoU of {MIN_IOU} with its bbox")
    return list(matched.values())


def _check_found(
    path: Path, wanted: Mapping[str, object], present: Mapping[str, object], what: str
) -> None:
    lacking = [image_id for image_id in wanted if image_id not in present]
    if lacking:
        problem = f"{len(lacking)} of {len(wanted)} images have no {what}"
        raise InputError(path, f"image {lacking[0]}", problem, "score predictions of the same set")
    if not wanted:
        raise InputError(path, "annotations", "there are none", f"expected {_FORMS}")


def _match(rows: Sequence[CaptionRow], box: Box, caption: str) -> CaptionRow | None:
    best: tuple[float, bool] | None = None
    closest = None
    for row in rows:
        iou = _iou(row.box_xyxy, box) if row.box_xyxy else 0.0
        rank = (round(iou, 6), canonical(caption) in map(canonical, row.references))
        if iou >= MIN_IOU and (best is None or rank > best):
            best, closest = rank, row
    return None if closest is None else replace(closest, references=(caption,))


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (sum(areas) - both)
