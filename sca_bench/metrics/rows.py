"""Caption rows: what metrics and reports read of a prediction, and the files of them.

A run writes `predictions.jsonl` with `prediction_line`; `read_rows` reads it, and the files of
strangers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from sca_bench.boxes import FAR_PX
from sca_bench.errors import InputError
from sca_bench.formats.texts import id_text
from sca_bench.reading import (
    ROWS_BYTES,
    is_number,
    named_file,
    parse_json,
    read_lines,
    read_text,
    shown,
)

REQUIRED_KEYS = ("region_id", "image_id", "caption", "references")
_NO_SLOTS: dict[str, str] = {}  # one for all rows


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One region's caption beside its references.

    Attributes:
        region_id: Unique inside a file or a call.
        image_id: The image the region lies in; rows of one image are resampled together.
        caption: The caption to be scored; may be empty.
        references: One or more reference captions.
        slots: For worlds whose captions follow a grammar: slot name -> right word(s).
        box_xyxy: The region's box in pixels of the original image, for metrics that look at it.
        learnt_from: The captions that the region was trained on, where those were not its own.
    """

    region_id: str
    image_id: str
    caption: str
    references: tuple[str, ...]
    slots: Mapping[str, str] = field(default_factory=dict)
    box_xyxy: tuple[float, float, float, float] | None = None
    learnt_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow(CaptionRow):
    """A row as a run writes it: beside what is read again, how sure the captioner was.

    Attributes:
        log_prob: Mean log-probability per generated token, end token included.
        predicted_ious: SAM's predicted IoU of each mask candidate.
        seconds: Wall time of the generation call divided by its regions.
    """

    log_prob: float
    predicted_ious: tuple[float, ...]
    seconds: float


def prediction_line(row: PredictionRow) -> str:
    """Return a row as a line of `predictions.jsonl`, with its line feed.

    Pixels are rounded to 3 digits, the other numbers to 6; slots and `learnt_from` stand there only
    where there are some.
    """
    record: dict[str, object] = {
        "region_id": row.region_id,
        "image_id": row.image_id,
        "caption": row.caption,
        "references": row.references,
        "box_xyxy": row.box_xyxy and [round(side, 3) for side in row.box_xyxy],
        "log_prob": round(row.log_prob, 6),
        "predicted_ious": [round(iou, 6) for iou in row.predicted_ious],
        "seconds": round(row.seconds, 6),
    }
    if row.slots:
        record["slots"] = dict(row.slots)
    if row.learnt_from:
        record["learnt_from"] = row.learnt_from
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_rows(path: str | Path, known: Mapping[str, CaptionRow] | None = None) -> list[CaptionRow]:
    """Read rows from a `.jsonl` file (one record a line) or a `.json` file (a list of records).

    Ids may be numbers and become strings; keys beyond `REQUIRED_KEYS`, `slots`, `box_xyxy` and
    `learnt_from` are ignored.

    Args:
        path: The file.
        known: Region id -> what is known of it elsewhere (`read_references`): its image,
            references, slots and box stand in for those that a record of the file lacks.

    Raises:
        InputError: The file cannot be read, is empty, or a record is at fault; names file, line
            (or record, for a `.json` list) and key.
    """
    path = Path(path)
    rows: list[CaptionRow] = []
    seen: dict[str, str] = {}
    for location, record in iter_records(path):
        row = _row(path, location, record if known is None else _completed(record, known))
        if row.region_id in seen:
            problem = f"{row.region_id!r} appears twice, first in {seen[row.region_id]}"
            fix = "give every region its own id"
            raise InputError(path, f"{location}: region_id", problem, fix)
        seen[row.region_id] = location
        rows.append(row)
    if not rows:
        raise InputError(path, "", "holds no records", "expected one JSON object per region")
    return rows


def read_references(path: str | Path) -> dict[str, CaptionRow]:
    """Return region id -> what a file says of it beside a caption, which it need not have.

    Raises:
        InputError: As `read_rows`.
    """
    path = Path(path)
    found: dict[str, CaptionRow] = {}
    for location, record in iter_records(path):
        row = _row(path, location, {"caption": "", **record} if _is_object(record) else record)
        if row.region_id in found:
            problem, fix = f"{row.region_id!r} appears twice", "give every region its own id"
            raise InputError(path, f"{location}: region_id", problem, fix)
        found[row.region_id] = row
    if not found:
        raise InputError(path, "", "holds no records", "expected one JSON object per region")
    return found


def read_some_rows(path: Path, region_ids: Collection[str]) -> dict[str, CaptionRow]:
    """Return region id -> row of some regions of a run's `predictions.jsonl`.

    Only lines that hold one of the ids are taken apart, which saves nearly all the time of a large
    file. One that is not found so, for a stranger may spell an id otherwise, has all of it read.

    Raises:
        InputError: As `read_rows`; other lines than those meant are not looked at.
    """
    spelt = [json.dumps(name, ensure_ascii=False) for name in region_ids]
    wanted, found = set(region_ids), dict[str, CaptionRow]()
    with named_file(path):
        for number, line in read_lines(path, ROWS_BYTES):
            if any(text in line for text in spelt):
                location = f"line {number}"
                record = parse_json(line, path, location, unique_keys=True)
                row = _row(path, location, record)
                if row.region_id in wanted:
                    found.setdefault(row.region_id, row)
    if len(found) < len(wanted):
        found = {row.region_id: row for row in read_rows(path) if row.region_id in wanted}
    return found


def check_rows(rows: list[CaptionRow]) -> None:
    """Check rows that did not come through `read_rows`.

    Raises:
        InputError: No rows, an id that appears twice, or a row without references.
    """
    if not rows:
        raise InputError(None, "rows", "there is nothing to score")
    seen: set[str] = set()
    for row in rows:
        if row.region_id in seen:
            raise InputError(None, "region_id", f"{row.region_id!r} appears twice")
        if not row.references:
            raise InputError(None, f"{row.region_id}: references", "there are none")
        seen.add(row.region_id)


def iter_records(path: Path) -> Iterator[tuple[str, object]]:
    """Yield (location, record) of a `.jsonl` or `.json` file.

    Lines end at a line feed only, since U+2028 may stand in a caption.

    Raises:
        InputError: The file cannot be read, is no JSON, or holds a text that is not Unicode.
    """
    if path.suffix not in {".json", ".jsonl"} and path.exists():
        raise InputError(path, "", "is neither .jsonl nor .json", "give one of these two")
    with named_file(path):
        if path.suffix == ".json":
            yield from _listed(path)
            return
        for number, line in read_lines(path, ROWS_BYTES):
            yield f"line {number}", parse_json(line, path, f"line {number}", unique_keys=True)


def _listed(path: Path) -> Iterator[tuple[str, object]]:
    text = read_text(path, ROWS_BYTES)
    if not text.strip():
        return
    whole = parse_json(text, path, unique_keys=True)
    if not isinstance(whole, list):
        raise InputError(path, "", f"holds {json_kind(whole)}, expected a list of records")
    yield from ((f"record {number}", record) for number, record in enumerate(whole, 1))


def _is_object(record: object) -> TypeGuard[dict[str, object]]:
    return isinstance(record, dict)


def _completed(record: object, known: Mapping[str, CaptionRow]) -> object:
    """Return a record with what is known of its region elsewhere in place of what it lacks."""
    row = known.get(id_text(record.get("region_id")) or "") if _is_object(record) else None
    if row is None or not _is_object(record):
        return record
    stands_in: dict[str, object] = {"image_id": row.image_id, "references": list(row.references)}
    if row.slots:
        stands_in["slots"] = dict(row.slots)
    if row.box_xyxy:
        stands_in["box_xyxy"] = list(row.box_xyxy)
    return stands_in | record


def _row(path: Path, location: str, record: object) -> CaptionRow:
    if not isinstance(record, dict):
        raise InputError(path, location, f"is {json_kind(record)}, expected an object")
    for key in REQUIRED_KEYS:
        if key not in record:
            fix = "every record needs " + ", ".join(REQUIRED_KEYS)
            raise InputError(path, f"{location}: {key}", "is missing", fix)
    region_id = read_id(path, location, record, "region_id")
    image_id = read_id(path, location, record, "image_id")
    caption = record["caption"]
    if not isinstance(caption, str):
        problem = f"is {json_kind(caption)}, expected a string"
        raise InputError(path, f"{location}: caption", problem)
    references = read_texts(path, location, record, "references")
    slots = record.get("slots") or _NO_SLOTS
    if not isinstance(slots, dict):
        raise InputError(path, f"{location}: slots", f"is {json_kind(slots)}, expected an object")
    for name, word in slots.items():
        if not isinstance(word, str):
            raise InputError(
                path, f"{location}: slots.{name}", f"is {json_kind(word)}, expected a string"
            )
    box = read_box(path, f"{location}: box_xyxy", record.get("box_xyxy"))
    has_learnt_from = "learnt_from" in record
    learnt_from = read_texts(path, location, record, "learnt_from") if has_learnt_from else ()
    return CaptionRow(region_id, image_id, caption, references, slots, box, learnt_from)


def read_box(path: Path, location: str, value: object) -> tuple[float, float, float, float] | None:
    """Return four numbers of a record, or None where it has none.

    Raises:
        InputError: They are something else.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 4 or not all(is_number(v) and abs(v) < FAR_PX for v in numbers):
        raise InputError(path, location, f"is {shown(value)}, expected four numbers in pixels")
    first, second, third, fourth = map(float, numbers)
    return first, second, third, fourth


def read_id(path: Path, location: str, record: Mapping[str, object], key: str) -> str:
    """Return an id as a string: 7, "7" and 7.0 are one id.

    Raises:
        InputError: It is neither a non-empty string nor a whole number.
    """
    text = id_text(record[key])
    if text is None:
        problem = f"is {json_kind(record[key])}, expected a non-empty string or an integer"
        raise InputError(path, f"{location}: {key}", problem)
    return text


def read_texts(
    path: Path, location: str, record: Mapping[str, object], key: str
) -> tuple[str, ...]:
    """Return the texts of a record, such as its references.

    Raises:
        InputError: They are no list of at least one string.
    """
    texts = record[key]
    if not isinstance(texts, list):
        problem = f"is {json_kind(texts)}, expected a list of strings"
        raise InputError(path, f"{location}: {key}", problem)
    if not texts:
        raise InputError(path, f"{location}: {key}", "is empty", "give at least one string")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            problem = f"is {json_kind(text)}, expected a string"
            raise InputError(path, f"{location}: {key}[{index}]", problem)
    return tuple(texts)


def json_kind(value: object) -> str:
    """Say in JSON's words what a value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "an empty string" if not value else "a string"
    return "a list" if isinstance(value, list) else "an object"
