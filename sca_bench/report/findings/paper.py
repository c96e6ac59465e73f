"""The paper's numbers beside ours: which row belongs to which cell, and in what the two differ.

A published number is never in a column of ours (`score_table`); here both are looked up side by
side, with everything in which their signatures differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sca_bench.errors import at
from sca_bench.report.names import metric_label
from sca_bench.report.read.suite_data import CellRuns, SuiteData
from sca_bench.specs.readers import READERS
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.suite.merge import get
from sca_bench.study.suite.published import (
    NOT_APPLICABLE,
    PUBLISHED,
    TIMES_100,
    Published,
    PublishedValue,
    find_published,
    read_published,
)

COMPARABLE = "comparable"
NOT_COMPARABLE = "not comparable"
_HARMLESS = ("num_seeds",)
"""Differences that are said but do not make two numbers incomparable: a mean over three seeds
estimates what one seed does."""
_FIELDS = {
    "data_set": "data set",
    "split": "split",
    "num_regions": "regions",
    "references": "references",
    "prompt": "prompt",
    "decoding": "decoding",
    "scorer": "scorer",
    "image_encoder": "SAM",
    "language_model": "language model",
    "trained_on": "training data",
    "steps": "steps",
    "num_seeds": "seeds",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same here and in the paper.

    Attributes:
        field: Field of `study.published.PROTOCOL`.
        ours: What holds here.
        paper: What the source says; `not stated` where it says nothing.
    """

    field: str
    ours: str
    paper: str

    def __str__(self) -> str:
        return f"{_FIELDS[self.field]} {self.ours} (paper: {self.paper})"


@dataclass(frozen=True, slots=True)
class PaperCell:
    """A cell with its published row.

    Attributes:
        row: Label of the row.
        values: Metric -> published number, for everything the row has.
        differences: Metric -> in what it differs from ours; only metrics that both sides have.
    """

    row: str
    values: dict[str, PublishedValue]
    differences: dict[str, tuple[Difference, ...]]

    def verdict(self, metric: str) -> str:
        """Say whether one metric's two numbers compare; empty where one of them is missing."""
        differing = self.differences.get(metric)
        return "" if differing is None else verdict_of(differing)


@dataclass(frozen=True, slots=True)
class PaperClaim:
    """The paper's own difference for a claim.

    Attributes:
        says: The claim the rows belong to.
        left: Published number of the left side.
        right: Published number of the right side.
        differences: In what both sides differ from ours; None where one of ours is missing.
    """

    says: str
    left: PublishedValue
    right: PublishedValue
    differences: tuple[Difference, ...] | None

    @property
    def difference(self) -> float:
        """Left minus right in natural units, free of binary rounding."""
        return round(self.left.natural - self.right.natural, 9)


@dataclass(frozen=True, slots=True)
class Paper:
    """The published numbers that a suite asks for.

    Attributes:
        table: Name of the paper's table; empty where the suite names no rows.
        source: The file they were read from, by digest; empty where there is none.
        missing: Why there are no numbers although the suite names rows.
        cells: Name of a cell -> its row.
        published: The whole file, for claims.
    """

    table: str
    source: str = ""
    missing: str = ""
    cells: dict[str, PaperCell] | None = None
    published: Published | None = None

    def cell(self, cell: CellRuns) -> PaperCell | None:
        """Return a cell's published row, if it has one."""
        return (self.cells or {}).get(cell.entry.name)


def read_paper(data: SuiteData, reports_dir: Path) -> Paper:
    """Look up the published rows that a suite's manifest names.

    Args:
        data: The suite.
        reports_dir: Folder whose `published.csv` is read, else that beside the package.

    Raises:
        InputError: The file is malformed, or lacks a table or row that the suite names.
    """
    manifest = data.manifest
    rows = {cell.entry.name: cell.entry.published_row for cell in data.cells}
    if not any(rows.values()) and not manifest.published_claims:
        return Paper("")
    table = manifest.paper or ""
    path = find_published(reports_dir)
    if path is None:
        return Paper(table, missing=f"no {PUBLISHED} in the reports folder or beside the package")
    published = read_published(path)
    cells = {}
    for cell in data.cells:
        row = cell.entry.published_row
        if row:
            key = f"published.{cell.entry.name}"
            with at(manifest.file):
                values = published.row(table, row, key)
            cells[cell.entry.name] = PaperCell(row, values, _differences(cell, values))
    return Paper(table, f"{PUBLISHED}, SHA-256 {published.sha256[:12]}", "", cells, published)


def paper_claim(
    data: SuiteData,
    paper: Paper,
    claim_id: str,
    metric: str,
    sides: Iterable[Sequence[CellRuns]],
) -> PaperClaim | None:
    """Return the paper's difference for a claim; None where it has no two rows with the metric.

    Args:
        data: The suite.
        paper: Its published numbers.
        claim_id: The claim.
        metric: The metric it compares.
        sides: Our cells, left and right; none where this profile has no such cell.

    Raises:
        InputError: The file lacks a row that the suite names.
    """
    entry = data.manifest.published_claims.get(claim_id)
    if entry is None or paper.published is None:
        return None
    with at(data.manifest.file):
        key = f"claims.{claim_id}"
        rows = [paper.published.row(paper.table, row, key) for row in (entry.left, entry.right)]
    if not all(metric in row for row in rows):
        return None
    differing: list[Difference] = []
    measured = True
    for side, row in zip(sides, rows, strict=True):
        own = [_differences(cell, {metric: row[metric]}).get(metric) for cell in side]
        measured = measured and bool(own) and None not in own
        differing += dict.fromkeys(d for each in own for d in each or () if d not in differing)
    left, right = (row[metric] for row in rows)
    return PaperClaim(entry.says, left, right, tuple(differing) if measured else None)


def verdict_of(differences: tuple[Difference, ...]) -> str:
    """Return the verdict word for some differences."""
    grave = [item for item in differences if item.field not in _HARMLESS]
    return NOT_COMPARABLE if grave else COMPARABLE


def say_differences(differences: tuple[Difference, ...]) -> str:
    """Return the verdict with everything in which two numbers differ."""
    text = "; ".join(map(str, differences))
    return f"{verdict_of(differences)}: {text}" if text else f"{COMPARABLE}: no stated difference"


def say_cell(cell: PaperCell) -> str:
    """Return what separates a cell's numbers from its row: first what all metrics share."""
    metrics = list(cell.differences)
    first = cell.differences[metrics[0]]
    shared = [d for d in first if all(d in cell.differences[metric] for metric in metrics)]
    parts = [str(difference) for difference in shared]
    for metric in metrics:
        own = [str(d) for d in cell.differences[metric] if d not in shared]
        if own:
            parts.append(f"{metric_label(metric)}: {', '.join(own)}")
    return f"{say_verdict(cell)}: {'; '.join(parts) or 'no stated difference'}"


def differing_fields(cells: Iterable[PaperCell]) -> list[str]:
    """Return in what numbers of ours that are not comparable with the paper's differ, in words."""
    graves = (
        difference.field
        for cell in cells
        for differences in cell.differences.values()
        for difference in differences
        if difference.field not in _HARMLESS
    )
    found = set(graves)
    return [words for field, words in _FIELDS.items() if field in found]


def say_verdict(cell: PaperCell) -> str:
    """Return the verdict word, or both words with their metrics where metrics differ."""
    words: dict[str, list[str]] = {}
    for metric in cell.differences:
        words.setdefault(cell.verdict(metric), []).append(metric_label(metric))
    if len(words) == 1:
        return next(iter(words))
    return ", ".join(f"{word} ({', '.join(labels)})" for word, labels in words.items())


def _differences(
    cell: CellRuns, values: dict[str, PublishedValue]
) -> dict[str, tuple[Difference, ...]]:
    differing = {}
    for metric, value in values.items():
        runs = [r for r in cell.done if metric in r.scores and r.scores[metric].value is not None]
        if value.unit == TIMES_100 and runs:
            ours = _protocol(runs[0], metric, len(runs))
            pairs = ((name, ours[name], value.protocol[name]) for name in _FIELDS)
            differing[metric] = tuple(
                Difference(name, _shown(name, own), _shown(name, paper) or "not stated")
                for name, own, paper in pairs
                if paper != NOT_APPLICABLE and not _same(name, own, paper)
            )
    return differing


def _protocol(record: RunRecord, metric: str, num_seeds: int) -> dict[str, str]:
    """Return what holds for a number of ours, in the terms of `published.csv`."""
    signature, settings = record.scores[metric].signature, record.settings
    low, high = (signature.get(f"references_{end}", "") for end in ("min", "max"))
    encoder = get(settings, "encoder.type") or "sam"
    size = str(get(settings, "sam.size") or "")
    stages = [*(settings.get("pretraining") or ()), settings]
    return {
        "data_set": str(get(settings, "data.test.dataset") or ""),
        "split": str(get(settings, "data.test.split") or signature.get("split", "")),
        "num_regions": str(signature.get("num_regions", "")),
        "references": str(low) if low == high else f"{low}-{high}",
        "prompt": str(signature.get("prompt", "")),
        "decoding": str(signature.get("decoding", "")),
        "scorer": str(signature.get("scorer", "")),
        "image_encoder": size if encoder == "sam" else f"{size} ({encoder} image encoder)",
        "language_model": str(get(settings, "text_decoder.weights") or ""),
        "trained_on": " then ".join(_data_of(get(stage, "data.train")) for stage in stages),
        "steps": " + ".join(str(get(stage, "train.steps") or 0) for stage in stages),
        "num_seeds": str(num_seeds),
    }


def _data_of(split: Any) -> str:
    if not isinstance(split, dict):
        return ""
    if "parts" in split:
        return " + ".join(_data_of(part.get("split")) for part in split.get("parts", ()))
    return str(split.get("dataset", ""))


def _same(name: str, ours: str, paper: str) -> bool:
    if name == "scorer":  # two programs compare where they name the same definition in brackets
        return _definition(ours) == _definition(paper) != ""
    if name == "language_model":  # a hub id or a local copy of it
        return Path(ours).name == Path(paper).name != ""
    return ours == paper != ""


def _title(name: re.Match[str]) -> str:
    """Return the title of a data set; any other word, `then` above all, stays."""
    spec = READERS.all().get(name[0])
    return spec.title if spec is not None else name[0]


def _definition(scorer: str) -> str:
    return scorer.partition("(")[2].removesuffix(")")


def _shown(name: str, value: str) -> str:
    if name == "data_set" or name == "trained_on":
        return re.sub(r"[^\s+]+", _title, value)
    if name in ("num_regions", "steps"):
        return " + ".join(
            f"{int(part):,}" if part.isdigit() else part for part in value.split(" + ")
        )
    return value
