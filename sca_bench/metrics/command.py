"""What the `score` command prints: the scores of one file, without a model or a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sca_bench.metrics.rows import read_rows
from sca_bench.metrics.score import Scorer

DEFAULT_METRICS = ("cider_d", "meteor", "spice", "bleu", "rouge_l", "exact_match", "macro_recall")


def score_file(path: str | Path, metrics: Sequence[str] | None = None) -> dict[str, Any]:
    """Score a file of rows.

    Args:
        path: `.jsonl` or `.json` file, see `sca_bench.metrics.rows.read_rows`.
        metrics: Names from `sca_bench.metrics.registry.METRICS`; None takes `DEFAULT_METRICS`, and
            `slots` where a row carries them.

    Returns:
        Plain JSON values: `file`, `num_regions`, `num_images`, `values`, `signatures`,
        `not_computed` and `notes`.

    Raises:
        InputError: The file is at fault, or a metric is unknown.
    """
    rows = read_rows(path)
    if metrics is None:
        metrics = (*DEFAULT_METRICS, *(("slots",) if any(row.slots for row in rows) else ()))
    with Scorer() as scorer:
        result = scorer.score(rows, metrics, where=str(path))
    return {
        "file": str(path),
        "num_regions": len(rows),
        "num_images": len({row.image_id for row in rows}),
        **result.to_dict(),
    }
