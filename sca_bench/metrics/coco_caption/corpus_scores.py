"""Corpus scores from sums over regions, for as many sums at once as a bootstrap draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sca_bench.metrics.coco_caption.bleu import bleu_scores
from sca_bench.metrics.coco_caption.meteor_formula import meteor_scores

_BLEU = tuple(f"bleu_{n}" for n in range(1, 5))


def statistics_family(metric: str) -> str | None:
    """Return which of `ScoreResult.statistics` a value is made of: `bleu` or `meteor`.

    None says that the value is the mean of its regions' values.

    Args:
        metric: Key of a value, such as `bleu_3`.
    """
    return "bleu" if metric in _BLEU else "meteor" if metric == "meteor" else None


def corpus_value(
    metric: str, sums: NDArray[np.float64], num_regions: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return the corpus score of each sum.

    Args:
        metric: Key of a value, such as `bleu_3`.
        sums: (..., K), statistics of `statistics_family(metric)` summed over regions; where that is
            None, the regions' values summed, K = 1.
        num_regions: (...), the number of regions summed; BLEU and METEOR do not ask.

    Returns:
        (...).

    Raises:
        ValueError: K does not fit the metric.
    """
    expected = {"bleu": 10, "meteor": 23, None: 1}[statistics_family(metric)]
    if sums.ndim == 0 or sums.shape[-1] != expected:
        raise ValueError(f"{metric}: sums of shape {sums.shape}, expected (..., {expected})")
    if metric in _BLEU:
        return bleu_scores(sums)[..., _BLEU.index(metric)]
    if metric == "meteor":
        return meteor_scores(sums)
    return np.asarray(sums[..., 0] / num_regions, dtype=np.float64)
