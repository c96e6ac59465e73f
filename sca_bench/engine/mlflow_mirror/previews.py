"""What MLflow's page shows of a run's captions: a table that it knows, and a sheet of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sca_bench.errors import InputError
from sca_bench.files import atomic_file, file_name, write_atomic
from sca_bench.formats.pixels import read_picture
from sca_bench.metrics.rows import iter_records, read_box, read_id, read_texts
from sca_bench.output import visible
from sca_bench.reading import RECORD_BYTES, read_json, shown
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS, Store

CAPTIONS, EXAMPLES = "captions.json", "examples.png"
TABLE_TAG = "mlflow.loggedArtifacts"
"""Tag by which MLflow's page knows tables, which it also compares between runs."""
TABLES = json.dumps([{"path": CAPTIONS, "type": "table"}])
MOST_ROWS, MOST_EXAMPLES = 500, 8
_COLUMNS = 4
_SIDE_PX, _GAP_PX, _FONT_PX, _LINES = 240, 12, 14, 3
_STEP_PX = 19
_BOX = (255, 196, 0)


@dataclass(frozen=True, slots=True)
class _Row:
    region_id: str
    image_id: str
    caption: str
    references: tuple[str, ...]
    box_xyxy: tuple[float, float, float, float] | None


def write_captions(store: Store, record: RunRecord, metrics: Sequence[str], folder: Path) -> Path:
    """Write a run's first captions as a table and return its file.

    Args:
        store: The runs folder.
        record: The run.
        metrics: Values whose scores by region stand beside the captions, where there are some.
        folder: Where to write it.

    Raises:
        InputError: A file of the run is missing or damaged.
        OSError: A file cannot be read or written.
    """
    stored = store.region_scores(record.cell_id, record.seed)
    ids, by_metric = stored.get("region_ids", []), stored.get("scores", {})
    named = [name for name in metrics if len(by_metric.get(name, [])) == len(ids) > 0]
    scores = {name: dict(zip(ids, by_metric[name], strict=True)) for name in named}
    rows = [
        [
            row.region_id,
            row.image_id,
            row.caption,
            " / ".join(row.references),
            *(scores[name].get(row.region_id) for name in named),
        ]
        for row in islice(_rows(store, record), MOST_ROWS)
    ]
    if not rows:
        raise InputError(store.root, record.cell_id, "no captions")
    columns = ["region_id", "image_id", "caption", "references", *named]
    path = folder / CAPTIONS
    write_atomic(path, json.dumps({"columns": columns, "data": rows}, ensure_ascii=False))
    return path


def _rows(store: Store, record: RunRecord) -> Iterator[_Row]:
    path = store.run_dir(record.cell_id, record.seed) / PREDICTIONS
    for place, row in iter_records(path):
        if not isinstance(row, dict) or not isinstance(row.get("caption"), str):
            raise InputError(path, place, "is no caption of a region")
        for key in ("region_id", "image_id", "references"):
            if key not in row:
                raise InputError(path, f"{place}: {key}", "is missing")
        yield _Row(
            read_id(path, place, row, "region_id"),
            read_id(path, place, row, "image_id"),
            row["caption"],
            read_texts(path, place, row, "references"),
            read_box(path, f"{place}: box_xyxy", row.get("box_xyxy")),
        )


def write_examples(store: Store, record: RunRecord, folder: Path) -> Path | None:
    """Draw some of a run's regions with their captions and return the file; None without pictures.

    Runs over one split show the same regions.

    Args:
        store: The runs folder.
        record: The run.
        folder: Where to write it.

    Raises:
        InputError: A file of the run, or a picture, is missing or damaged.
        OSError: A file cannot be read or written.
    """
    if not record.images_dir:
        return None
    sizes = _sizes(store.kept(f"{record.images_dir}/sizes.json"))
    names = sorted(sizes)[:: max(1, len(sizes) // MOST_EXAMPLES)][:MOST_EXAMPLES]
    chosen: dict[str, _Row] = {}
    for row in _rows(store, record):  # the first region of each image
        if row.image_id in names and row.box_xyxy is not None:
            chosen.setdefault(row.image_id, row)
            if len(chosen) == len(names):
                break
    tiles = [
        _tile(store.kept(f"{record.images_dir}/{file_name(name)}.png"), chosen[name], sizes[name])
        for name in names
        if name in chosen
    ]
    if not tiles:
        return None
    width, height = tiles[0].size
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    path = folder / EXAMPLES
    with atomic_file(path) as handle:
        sheet.save(handle, format="PNG")
    return path


def _sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Return image id -> original width and height in pixels of the images that were kept."""
    sizes = read_json(path, RECORD_BYTES)
    if not isinstance(sizes, dict):
        raise InputError(path, "", "expected image id -> [width, height]")
    for size in sizes.values():
        sides = size if isinstance(size, list) and len(size) == 2 else [0]
        if not all(type(side) is int and 0 < side < 2**31 for side in sides):
            raise InputError(path, "", f"holds {shown(size)}, expected [width, height]")
    return sizes


def _tile(path: Path, row: _Row, size: tuple[int, int]) -> Image.Image:
    """Return an image with a region's box, its caption, and a reference that is another one."""
    picture = Image.fromarray(read_picture(path).pixels_HW3)
    longest = max(picture.size)
    how = Image.Resampling.NEAREST if longest < _SIDE_PX else Image.Resampling.LANCZOS
    width, height = (max(1, round(side * _SIDE_PX / longest)) for side in picture.size)
    picture = picture.resize((width, height), how)
    assert row.box_xyxy is not None
    scales = (width / size[0], height / size[1]) * 2
    left, top, right, bottom = (v * scale for v, scale in zip(row.box_xyxy, scales, strict=True))
    corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX, width=3)
    side = _SIDE_PX + _GAP_PX
    tile = Image.new("RGB", (side, side + 2 * _LINES * _STEP_PX + _GAP_PX), "white")
    tile.paste(picture, (_GAP_PX // 2, _GAP_PX // 2))
    pen, font, y = ImageDraw.Draw(tile), ImageFont.load_default(size=_FONT_PX), side
    texts = [(row.caption or "(empty caption)", "black")]
    if row.caption not in row.references:
        texts.append((f"reference: {row.references[0]}", "gray"))
    for text, colour in texts:
        for line in _wrapped(visible(text), font):
            pen.text((_GAP_PX // 2, y), line, fill=colour, font=font)
            y += _STEP_PX
    return tile


def _wrapped(text: str, font: Any) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > _SIDE_PX:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:_LINES]
