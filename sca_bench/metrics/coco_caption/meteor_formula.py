"""METEOR 1.5 from the jar's statistics: its last step, for many regions or sums at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STATISTICS = 23
# The parameters of `-l en`, as the jar holds them: exact, stem, synonym and paraphrase matches.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
_CHUNKS, _WORDS = 20, slice(21, 23)


def summable(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the jar's statistics with no chunk where caption and reference match in one piece.

    The jar leaves that chunk out both of the region's own score and of the corpus'; with it gone,
    statistics add up over regions like any others.

    Args:
        statistics: (regions, 23) as the jar gives them: words and function words of caption and
            reference in turns (4), for each module content and function words matched in each
            (16), chunks, and words matched in each.
    """
    perfect = (_matched(statistics) == statistics[..., :2]).all(axis=-1)
    adjusted = statistics.copy()
    adjusted[perfect & (statistics[..., _CHUNKS] == 1), _CHUNKS] = 0.0
    return adjusted


def meteor_scores(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return METEOR of single regions or of sums over regions.

    Args:
        statistics: (..., 23) from `summable`, or sums of them.

    Returns:
        (...), 0-1.

    Source: Denkowski and Lavie, Meteor Universal, WMT 2014.
    """
    words, function_words = statistics[..., :2], statistics[..., 2:4]
    length = DELTA * (words - function_words) + (1 - DELTA) * function_words
    matches = np.zeros(length.shape)
    for weight_of_kind, offset in ((DELTA, 4), (1 - DELTA, 6)):
        for module, weight in enumerate(MODULE_WEIGHTS):
            start = offset + 4 * module
            matches += statistics[..., start : start + 2] * weight * weight_of_kind
    chunks = statistics[..., _CHUNKS]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(matches / length, -1, 0)
        f_mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragmentation = chunks / (statistics[..., _WORDS].sum(axis=-1) / 2)
        scores = f_mean * (1 - GAMMA * fragmentation**BETA)
    # Nothing over nothing is no match at all.
    return np.asarray(np.where(np.isnan(scores), 0.0, np.maximum(scores, 0.0)), dtype=np.float64)


def _matched(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the words of caption and reference that any module matched, (..., 2)."""
    pairs = statistics[..., 4:_CHUNKS].reshape(*statistics.shape[:-1], 8, 2)
    return np.asarray(pairs.sum(axis=-2), dtype=np.float64)
