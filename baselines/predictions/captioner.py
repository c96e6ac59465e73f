"""A captioner that looks its answers up: for programs that cannot live in this environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, did_you_mean
from sca_bench.formats.texts import id_text
from sca_bench.reading import ROWS_BYTES, is_number, named_file, parse_json, read_lines, shown
from sca_bench.settings import CellSettings
from sca_bench.types import Prediction

KEY = "baseline.weights"


class HandedOver:
    """Answers every region with what the file says of it."""

    def __init__(self, answers: Mapping[str, Prediction], file: Path) -> None:
        """Take the answers by region id, and the file to name in an error."""
        self.answers, self.file = answers, file

    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return the answer of every region of the batch; nothing is looked at.

        Raises:
            InputError: The file has no answer for a region.
        """
        missing = [name for name in batch.region_ids if name not in self.answers]
        if missing:
            problem = f"no line for region {missing[0]!r} of the test split"
            fix = did_you_mean(missing[0], list(self.answers)[:1000])
            raise InputError(self.file, "region_id", problem, fix)
        return [self.answers[name] for name in batch.region_ids]


def build(settings: CellSettings, parts: Any = None) -> HandedOver:
    """Read the file that `baseline.weights` names.

    A line is a JSON object with `region_id` and `caption`; `log_prob` and `predicted_ious` are
    taken where they are there. Lines of other regions are left alone.

    Raises:
        InputError: No such file, a line that is none of this kind, or a region answered twice.
    """
    file = Path(settings.baseline.weights).expanduser()
    if not file.is_file():
        problem = f"{settings.baseline.weights!r} is no file"
        raise InputError(None, KEY, problem, "name a predictions.jsonl")
    answers: dict[str, Prediction] = {}
    with named_file(file, KEY):
        for number, line in read_lines(file, ROWS_BYTES):
            answer = _read(line, file, number)
            if answer.region_id in answers:
                problem = f"region {answer.region_id!r} is answered twice"
                raise InputError(file, f"line {number}", problem, "keep one line a region")
            answers[answer.region_id] = answer
    return HandedOver(answers, file)


def _read(line: str, file: Path, number: int) -> Prediction:
    key = f"line {number}"
    row = parse_json(line, file, key, unique_keys=True)
    if not isinstance(row, dict):
        raise InputError(file, key, "is no object", "expected region_id and caption")
    region_id, caption = id_text(row.get("region_id")), row.get("caption")
    if region_id is None:
        problem = f"is {shown(row.get('region_id'))}, expected a string or a whole number"
        raise InputError(file, f"{key}: region_id", problem)
    if not isinstance(caption, str):
        raise InputError(file, f"{key}: caption", f"is {shown(caption)}, expected a string")
    log_prob = _number(row.get("log_prob", 0.0), file, f"{key}: log_prob")
    given = row.get("predicted_ious", [])
    if not isinstance(given, list):
        raise InputError(file, f"{key}: predicted_ious", f"is {shown(given)}, expected a list")
    ious = tuple(_number(value, file, f"{key}: predicted_ious") for value in given)
    return Prediction(region_id, caption, log_prob, ious, 0.0)


def _number(value: object, file: Path, key: str) -> float:
    if not is_number(value):
        raise InputError(file, key, f"is {shown(value)}, expected a finite number")
    return float(value)
