"""The score table: one value a row, and no column that mixes numbers of different signatures."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sca_bench.errors import InputError
from sca_bench.metrics.signature import comparable
from sca_bench.report.names import short_region_set
from sca_bench.stats.seeds import SeedSummary, seed_summary

if TYPE_CHECKING:
    import pandas as pd

REGION_SET = "region_set"
MAY_DIFFER = frozenset({REGION_SET, "num_regions", "short"})
"""Parts of a signature that may differ inside a column: which regions were scored, which the table
states for each row, and the one-line form that repeats it."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One number of one run.

    Attributes:
        suite: Suite it was run for.
        cell: Name of the cell in the suite.
        cell_id: Key of the cell.
        control: Whether the cell is a control.
        seed: Seed of the run.
        metric: Metric name as in the record.
        value: In natural units; None where it is missing.
        signature: What it takes to compare the number; empty for costs and for missing numbers.
        reason: Why the value is missing.
    """

    suite: str
    cell: str
    cell_id: str
    control: bool
    seed: int
    metric: str
    value: float | None
    signature: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def signature_hash(signature: dict[str, Any]) -> str:
    """Return eight hexadecimal digits that name a signature; empty for an empty one."""
    if not signature:
        return ""
    parts = {key: value for key, value in signature.items() if key != "short"}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class ScoreTable:
    """A long frame of scores, one value a row.

    Args:
        rows: The numbers; rows without a value keep their reason.
        may_differ: Signature fields that may differ in a column, because each row states them.

    Attributes:
        frame: Columns suite, cell, cell_id, control, seed, metric, value (natural units, NaN where
            missing), signature (short hash), region_set (first digits), reason.
        signatures: Short hash -> signature.

    Raises:
        InputError: Two numbers of one metric differ in their signature, other than in the region
            set, which the table states row by row.
    """

    def __init__(
        self,
        rows: Iterable[ScoreRow],
        may_differ: frozenset[str] = MAY_DIFFER,
    ) -> None:
        self.signatures: dict[str, dict[str, Any]] = {}
        self._cell_values: dict[tuple[str, str], list[float]] = {}
        self._rows: dict[tuple[str, str], list[ScoreRow]] = {}
        self._region_sets: dict[str, dict[str, list[str]]] = {}
        self._asked = may_differ - MAY_DIFFER
        first: dict[str, ScoreRow] = {}
        self._records: list[dict[str, Any]] = []
        for row in rows:
            if row.value is not None:
                _refuse_mixture(first.setdefault(row.metric, row), row, may_differ)
                self._cell_values.setdefault((row.cell_id, row.metric), []).append(row.value)
                sets = self._region_sets.setdefault(row.metric, {})
                cells = sets.setdefault(_region_set(row.signature), [])
                if row.cell not in cells:
                    cells.append(row.cell)
            self._rows.setdefault((row.cell_id, row.metric), []).append(row)
            key = signature_hash(row.signature)
            if key:
                self.signatures[key] = row.signature
            self._records.append(
                {
                    "suite": row.suite,
                    "cell": row.cell,
                    "cell_id": row.cell_id,
                    "control": row.control,
                    "seed": row.seed,
                    "metric": row.metric,
                    "value": float("nan") if row.value is None else row.value,
                    "signature": key,
                    "region_set": _region_set(row.signature),
                    "reason": row.reason,
                }
            )

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers as pandas has them, which takes a while to import."""
        import pandas as pd

        columns = [
            *("suite", "cell", "cell_id", "control", "seed"),
            *("metric", "value", "signature", "region_set", "reason"),
        ]
        return pd.DataFrame.from_records(self._records, columns=columns)

    def metrics(self, prefix: str = "") -> list[str]:
        """Return the metrics that occur, in order of appearance."""
        names = dict.fromkeys(row["metric"] for row in self._records)
        return [name for name in names if name.startswith(prefix)]

    def rows(self, cell_id: str, metric: str) -> list[ScoreRow]:
        """Return the rows of one cell and metric, by seed; empty where it has none."""
        return self._rows.get((cell_id, metric), [])

    def values(self, cell_id: str, metric: str) -> list[float]:
        """Return the values (natural units) of one cell and metric, by seed; missing left out."""
        return self._cell_values.get((cell_id, metric), [])

    def over_seeds(self, cell_id: str, metric: str) -> SeedSummary | None:
        """Return one cell's mean and spread (natural units) over the seeds that have the metric."""
        values = self._cell_values.get((cell_id, metric))
        return seed_summary(values) if values else None

    def mixture(self, metric: str, cell_ids: Iterable[str]) -> str:
        """Return in what the signatures of some cells differ by one metric; empty if in nothing.

        What the suite's own axes set (`eval.prompt`) is what it asks about, and no difference.
        """
        rows_of_cells = [self.rows(cell_id, metric) for cell_id in cell_ids]
        rows = [row for each in rows_of_cells for row in each if row.value is not None]
        for row in rows[1:]:
            fields = [
                key
                for key in comparable(rows[0].signature, row.signature)
                if key not in self._asked | {"short"} and not _does_not_apply(key, rows[0], row)
            ]
            if fields:
                differing = [
                    f"{key} {_shown(rows[0], key)} against {_shown(row, key)}" for key in fields
                ]
                return f"signatures differ: {', '.join(differing)}"
        return ""

    def region_sets(self, metric: str) -> dict[str, list[str]]:
        """Return region set -> names of the cells that were scored on it, for one metric."""
        return self._region_sets.get(metric, {})

    def signatures_in_use(self) -> dict[str, list[str]]:
        """Return short hash -> the metrics with a number of that signature."""
        metrics_of: dict[str, list[str]] = {key: [] for key in self.signatures}
        for row in self._records:
            key, metric = row["signature"], row["metric"]
            known = not math.isnan(row["value"])
            if key and known and metric not in metrics_of[key]:
                metrics_of[key].append(metric)
        return {key: names for key, names in metrics_of.items() if names}


def _region_set(signature: dict[str, Any]) -> str:
    return short_region_set(str(signature.get(REGION_SET, "")))


def _does_not_apply(key: str, first: ScoreRow, row: ScoreRow) -> bool:
    """A captioner that neither decodes nor is prompted (one caption for all) says `none`."""
    either = "none" in (first.signature.get(key), row.signature.get(key))
    return key in ("decoding", "prompt") and either


def _refuse_mixture(first: ScoreRow, row: ScoreRow, may_differ: frozenset[str]) -> None:
    fields = [
        key
        for key in comparable(first.signature, row.signature)
        if key not in may_differ and not _does_not_apply(key, first, row)
    ]
    if fields:
        differing = [f"{key} {_shown(r, key)}" for key in fields for r in (first, row)]
        raise InputError(
            None,
            row.metric,
            f"numbers with different signatures cannot stand in one column: {first.cell} seed "
            f"{first.seed} has {', '.join(differing[::2])}; {row.cell} seed {row.seed} has "
            f"{', '.join(differing[1::2])}",
            "run the suite again: it scores anew what older metrics of ours gave (in other cases "
            "delete the older run's folder first)",
        )


def _shown(row: ScoreRow, key: str) -> str:
    return repr(row.signature[key]) if key in row.signature else "not stated"
