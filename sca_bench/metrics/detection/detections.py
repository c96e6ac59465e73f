"""Detections with captions and the regions they should find: plain rows and their readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sca_bench.boxes import FAR_PX
from sca_bench.errors import InputError
from sca_bench.metrics.rows import iter_records, json_kind, read_id, read_texts
from sca_bench.reading import is_number, shown
from sca_bench.types import BoxXYXY


@dataclass(frozen=True, slots=True)
class Detection:
    """One region that a captioner found by itself.

    Attributes:
        image_id: The image it lies in.
        box_xyxy: Original pixels; right > left, bottom > top.
        caption: What it says about it.
        score: How sure it is; the higher the better.
    """

    image_id: str
    box_xyxy: BoxXYXY
    caption: str
    score: float


@dataclass(frozen=True, slots=True)
class DescribedBox:
    """One region that should be found.

    Attributes:
        region_id: Unique inside a file.
        image_id: The image it lies in.
        box_xyxy: Original pixels; right > left, bottom > top.
        references: One or more reference captions.
    """

    region_id: str
    image_id: str
    box_xyxy: BoxXYXY
    references: tuple[str, ...]


def read_detections(path: str | Path) -> list[Detection]:
    """Read detections, one JSON object per line: `image_id`, `box_xyxy`, `caption`, `score`.

    `box_xyxy` is left, top, right, bottom in original pixels. An image without a line has no
    detection; a file without a line has none at all. Further keys are ignored.

    Raises:
        InputError: The file cannot be read or a record is at fault; names file, line and key.
    """
    path, detections = Path(path), []
    for location, record in _checked(path, ("image_id", "box_xyxy", "caption", "score")):
        caption, score = record["caption"], record["score"]
        if not isinstance(caption, str):
            problem = f"is {json_kind(caption)}, expected a string"
            raise InputError(path, f"{location}: caption", problem)
        if not is_number(score):
            problem = f"is {json_kind(score)}, expected a finite number"
            raise InputError(path, f"{location}: score", problem)
        image_id = read_id(path, location, record, "image_id")
        detections.append(Detection(image_id, _box(path, location, record), caption, float(score)))
    return detections


def read_described_boxes(path: str | Path) -> list[DescribedBox]:
    """Read regions, one JSON object per line: `region_id`, `image_id`, `box_xyxy`, `references`.

    Every run's `predictions.jsonl` is such a file. Further keys are ignored.

    Raises:
        InputError: The file cannot be read, is empty, a region id appears twice, or a record is at
            fault; names file, line and key.
    """
    path, boxes = Path(path), {}
    for location, record in _checked(path, ("region_id", "image_id", "box_xyxy", "references")):
        region_id = read_id(path, location, record, "region_id")
        if region_id in boxes:
            raise InputError(path, f"{location}: region_id", f"{region_id!r} appears twice")
        boxes[region_id] = DescribedBox(
            region_id,
            read_id(path, location, record, "image_id"),
            _box(path, location, record),
            read_texts(path, location, record, "references"),
        )
    if not boxes:
        raise InputError(path, "", "holds no regions", "expected one JSON object per region")
    return list(boxes.values())


def _checked(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for location, record in iter_records(path):
        if not isinstance(record, dict):
            raise InputError(path, location, f"is {json_kind(record)}, expected an object")
        for key in keys:
            if key not in record:
                fix = "every record needs " + ", ".join(keys)
                raise InputError(path, f"{location}: {key}", "is missing", fix)
        yield location, record


def _box(path: Path, location: str, record: Mapping[str, object]) -> BoxXYXY:
    sides = record["box_xyxy"]
    if not isinstance(sides, list) or len(sides) != 4 or not all(map(_is_pixel, sides)):
        problem = f"is {shown(sides)}, expected four finite numbers"
        raise InputError(path, f"{location}: box_xyxy", problem)
    left, top, right, bottom = map(float, sides)
    if not (right > left and bottom > top):
        fix = "expected left, top, right, bottom in original pixels"
        raise InputError(path, f"{location}: box_xyxy", f"{shown(sides)} has no area", fix)
    return left, top, right, bottom


def _is_pixel(value: object) -> bool:
    return is_number(value) and abs(value) < FAR_PX
