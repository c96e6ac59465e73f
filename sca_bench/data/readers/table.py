"""Rows of `regions.jsonl` and `regions.csv`, in one form, each with its line. No torch.

A row of JSON Lines is an object with some of `KEYS`. In CSV the same names are columns; numbers of
a box or point have a column each (`x0,y0,x1,y1`, or `x,y,width,height`; `point_x,point_y`), or
stand together as JSON (`[12, 30, 80, 95]`); the captions of a region are `caption`, `caption_2`,
`caption_3`, ... Empty cells, and `null` in JSON, are as if they were not there.

Files are UTF-8, with or without a byte-order mark, with line ends of any system.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.reading import ROWS_BYTES, named_file, parse_json, read_text, shown, shown_text

BOX_XYXY, BOX_XYWH, POINT_XY = "box_xyxy", "box_xywh", "point_xy"
KEYS = (
    *("image", BOX_XYXY, BOX_XYWH, "mask", POINT_XY, "captions", "caption"),
    *("region_id", "image_id", "split"),
)
"""What a row may say."""
_NUMBERS = {
    BOX_XYXY: ("x0", "y0", "x1", "y1"),
    BOX_XYWH: ("x", "y", "width", "height"),
    POINT_XY: ("point_x", "point_y"),
}
"""Key -> the columns of CSV that its numbers may stand in."""
_COLUMNS = (*(k for k in KEYS if k != "captions"), *(c for cs in _NUMBERS.values() for c in cs))
_CAPTION = re.compile(r"caption(_([2-9]|[1-9][0-9]{1,5}))?")
_ONE_A_LINE = "write one JSON object a line"
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        file: The file it stands in.
        line: The line that it begins in, from 1.
        values: Key -> value, as JSON has it; of `KEYS`, with all captions in `captions`.
    """

    file: Path
    line: int
    values: dict[str, Any]

    def fault(self, field: str, problem: str, fix: str = "") -> InputError:
        """Return the error for one of its fields."""
        return _fault(self.file, self.line, field, problem, fix)


def read_rows(file: Path, key: str = "table") -> list[Row]:
    """Read all rows of a table.

    Args:
        file: `.jsonl` or `.csv`.
        key: The setting that names it, for errors.

    Raises:
        InputError: The file is missing, is no text of that form, or has a row that is none.
    """
    read = {".jsonl": _json_rows, ".csv": _csv_rows}.get(file.suffix.lower())
    if read is None:
        problem = f"ends in {file.suffix!r}" if file.suffix else "has no ending"
        raise InputError(file, key, f"{problem}, expected .jsonl or .csv", "name it by its form")
    with named_file(file, key):
        text = read_text(file, ROWS_BYTES, key)
    rows = list(read(file, text))
    if not rows:
        raise InputError(file, "", "holds no row", "write one row for each region")
    return rows


def _fault(file: Path, line: int, field: str, problem: str, fix: str = "") -> InputError:
    return InputError(file, f"line {line}: {field}" if field else f"line {line}", problem, fix)


def _check_keys(file: Path, line: int, keys: Iterable[str], known: Iterable[str]) -> None:
    for key in keys:
        if key not in known:
            fix = did_you_mean(key[:60], known) if key else "name it, or leave it out"
            problem = "no key of a region" if key else "a column, or key, has no name"
            raise _fault(file, line, shown_text(key), problem, fix)


def _json_rows(file: Path, text: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield _json_row(file, line, content)


def _json_row(file: Path, line: int, content: str) -> Row:
    values = parse_json(content, file, f"line {line}", unique_keys=True, fix=_ONE_A_LINE)
    if not isinstance(values, dict):
        problem = f"expected an object, found {shown(values)}"
        raise _fault(file, line, "", problem, f"{_ONE_A_LINE}, without a list around")
    _check_keys(file, line, values, KEYS)
    values = {key: value for key, value in values.items() if value is not None}
    if "caption" in values:
        if "captions" in values:
            fix = "write all of them as captions"
            raise _fault(file, line, "caption", "stands beside captions", fix)
        values["captions"] = [values.pop("caption")]
    return Row(file, line, values)


def _csv_rows(file: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as fault:
            fix = "close every quote; write a mask that is longer in a .jsonl"
            raise _fault(file, line, "", f"is not CSV: {fault}", fix) from None
        if not any(cells):
            continue
        if not header:
            header = cells
            _check_header(file, line, header)
        elif len(cells) != len(header):
            problem = f"has {len(cells)} cells, but the header has {len(header)}"
            raise _fault(file, line, "", problem, 'put texts with commas into quotes: "a, b"')
        else:
            given = {n: cell for n, cell in zip(header, cells, strict=True) if cell}
            yield Row(file, line, _csv_values(file, line, given))


def _check_header(file: Path, line: int, header: list[str]) -> None:
    known = {*_COLUMNS, *(name for name in header if _CAPTION.fullmatch(name))}
    if not known.intersection(header):
        for delimiter, name in _DELIMITERS.items():
            if len(header) == 1 and delimiter in header[0]:
                problem = f"has columns apart by {name}, expected commas"
                raise _fault(file, line, "", problem, "save it as CSV with commas")
        fix = "begin with a line such as image,x,y,width,height,caption"
        raise _fault(file, line, "", f"is no header: {shown(','.join(header))}", fix)
    _check_keys(file, line, header, known)
    for name in header:
        if header.count(name) > 1:
            raise _fault(file, line, name, "two columns are called so", "name each column once")
    for names in _NUMBERS.values():
        missing = [name for name in names if name not in header]
        if missing and len(missing) < len(names):
            raise _fault(
                file, line, missing[0], "the column is missing", f"give {', '.join(names)}"
            )


def _csv_values(file: Path, line: int, given: dict[str, str]) -> dict[str, Any]:
    """Return what the cells of a row say, as JSON would."""
    values: dict[str, Any] = {
        key: given[key] for key in ("image", "region_id", "image_id", "split") if key in given
    }
    for key, names in _NUMBERS.items():
        if key in given:
            values[key] = _json_cell(file, line, key, given[key])
        cells = {name: given[name] for name in names if name in given}
        if not cells:
            continue
        if key in given:
            raise _fault(file, line, key, f"stands beside {names[0]}", "give one of them")
        for name in names:
            if name not in cells:
                raise _fault(file, line, name, "is empty", f"give all of {', '.join(names)}")
        values[key] = [_number(file, line, name, cell) for name, cell in cells.items()]
    if "mask" in given:
        is_json = given["mask"][0] in "[{"
        values["mask"] = _json_cell(file, line, "mask", given["mask"]) if is_json else given["mask"]
    captions = [(name, cell) for name, cell in given.items() if _CAPTION.fullmatch(name)]
    if captions:
        order = sorted(captions, key=lambda pair: int(pair[0].partition("_")[2] or 1))
        values["captions"] = [cell for _, cell in order]
    return values


def _json_cell(file: Path, line: int, name: str, cell: str) -> Any:
    try:
        return parse_json(cell, file, f"line {line}: {name}")
    except InputError as fault:
        fix = "write numbers in brackets, such as [12, 30, 80, 95]"
        raise _fault(file, line, name, f"{shown(cell)} {fault.problem}", fix) from None


def _number(file: Path, line: int, name: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        fix = "write it with a point, such as 12.5" if "," in cell else "write pixels, such as 12.5"
        raise _fault(file, line, name, f"{shown(cell)} is no number", fix)
    return number
