"""Published numbers: data with signatures of their own, never part of a column of ours.

`published.csv` has one value a row. Which regions it was measured on, with which prompt, decoding,
scorer, encoder, language model, data, steps and seeds stands beside it. An empty field means that
the source does not say; `-` that the field does not apply.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sca_bench.errors import InputError, did_you_mean
from sca_bench.reading import SUITE_BYTES, decode, read_bytes
from sca_bench.study.suite.shipped import shipped

PUBLISHED = "published.csv"
TIMES_100 = "x100"
"""Unit of every score; others are counts."""
NOT_APPLICABLE = "-"
PROTOCOL = (
    *("data_set", "split", "num_regions", "references", "prompt", "decoding", "scorer"),
    *("image_encoder", "language_model", "trained_on", "steps", "num_seeds"),
)
"""What must agree before a published number and one of ours say the same thing."""
COLUMNS = (
    *("table", "row", "coordinates", "metric", "value", "unit"),
    *PROTOCOL,
    *("source", "note"),
)
_REQUIRED = ("table", "row", "metric", "value", "unit", "source")
_FIX = "compare with the file that comes with sca_bench"


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """One number as printed.

    Attributes:
        table: Name of the table, such as `table_4`.
        row: Readable label of the row.
        coordinates: The row as a point of axes, `axis=value;axis=value`; may be empty.
        metric: Name of the metric, as in records.
        printed: The number as printed, in `unit`.
        value: The same as a number.
        unit: `x100` for scores, else what is counted.
        protocol: Field of `PROTOCOL` -> what the source says.
        source: Where it is printed.
        note: What a reader should know.
    """

    table: str
    row: str
    coordinates: str
    metric: str
    printed: str
    value: float
    unit: str
    protocol: dict[str, str]
    source: str
    note: str

    @property
    def natural(self) -> float:
        """The value in natural units (a score of 127.7 is 1.277); counts as they are."""
        return self.value / 100 if self.unit == TIMES_100 else self.value


@dataclass(frozen=True)
class Published:
    """A file of published numbers.

    Attributes:
        path: The file.
        values: Its rows, in its order.
        sha256: Digest of its bytes.
    """

    path: Path
    values: tuple[PublishedValue, ...]
    sha256: str
    _rows: dict[tuple[str, str], dict[str, PublishedValue]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self.values:
            self._rows.setdefault((value.table, value.row), {})[value.metric] = value

    def tables(self) -> list[str]:
        """Return the names of the tables."""
        return list(dict.fromkeys(value.table for value in self.values))

    def rows(self, table: str) -> list[str]:
        """Return the labels of a table's rows."""
        return [row for name, row in self._rows if name == table]

    def row(self, table: str | None, row: str, key: str) -> dict[str, PublishedValue]:
        """Return metric -> value of one row.

        Args:
            table: Name of the table.
            row: Label of the row.
            key: Key of the file that names the row, for the error.

        Raises:
            InputError: There is no such table or row; the nearest one is named.
        """
        if table not in self.tables():
            fix = did_you_mean(str(table), self.tables())
            raise InputError(None, "paper", f"{table!r} is no table of {self.path}", fix)
        if (table, row) not in self._rows:
            fix = did_you_mean(row, self.rows(table))
            raise InputError(None, key, f"{row!r} is no row of {table} in {self.path}", fix)
        return self._rows[table, row]


def find_published(reports_dir: Path | None = None) -> Path | None:
    """Return the file in a reports folder, else the one that comes with the package, else None."""
    own = None if reports_dir is None else reports_dir / PUBLISHED
    return own if own is not None and own.is_file() else shipped(f"reports/{PUBLISHED}")


def read_published(path: Path) -> Published:
    """Read a file of published numbers.

    Raises:
        InputError: It is malformed; the line, the column and the fault are named.
    """
    content = read_bytes(path, SUITE_BYTES)
    lines = decode(content, path).splitlines()
    try:
        reader = csv.reader(lines, strict=True)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise _wrong_header(path, header)
        values, seen = [], set()
        for fields in reader:
            value = _value(path, reader.line_num, fields)
            key = (value.table, value.row, value.metric)
            if key in seen:
                problem = f"{' / '.join(key)} stands there twice"
                raise InputError(path, f"line {reader.line_num}", problem, _FIX)
            seen.add(key)
            values.append(value)
    except csv.Error as error:
        raise InputError(path, "", f"not a CSV file ({error})", _FIX) from None
    return Published(path, tuple(values), hashlib.sha256(content).hexdigest())


def _wrong_header(path: Path, header: Iterable[str]) -> InputError:
    given = list(header)
    missing = [name for name in COLUMNS if name not in given]
    other = [name for name in given if name not in COLUMNS]
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has unknown {', '.join(other)}"] if other else []
    problem = " and ".join(parts) or "has its columns in another order"
    return InputError(path, "line 1", f"the header {problem}", _FIX)


def _value(path: Path, line: int, fields: list[str]) -> PublishedValue:
    line_name = f"line {line}"
    if len(fields) != len(COLUMNS):
        raise InputError(path, line_name, f"{len(fields)} fields, expected {len(COLUMNS)}", _FIX)
    row = dict(zip(COLUMNS, fields, strict=True))
    for name in _REQUIRED:
        if not row[name].strip():
            raise InputError(path, f"{line_name}: {name}", "is empty", _FIX)
    try:
        number = float(row["value"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        problem = f"{row['value']!r} is not a number"
        raise InputError(path, f"{line_name}: value", problem, _FIX)
    return PublishedValue(
        table=row["table"],
        row=row["row"],
        coordinates=row["coordinates"],
        metric=row["metric"],
        printed=row["value"],
        value=number,
        unit=row["unit"],
        protocol={name: row[name] for name in PROTOCOL},
        source=row["source"],
        note=row["note"],
    )
