"""BLEU-1 to BLEU-4 from statistics that add up over regions."""

from __future__ import annotations

import numpy as np

from sca_bench.metrics.coco_caption.ngrams import MOST_WORDS, Floats

STATISTICS = 2 + 2 * MOST_WORDS
# pycocoevalcap's guards against division by zero; sentence values depend on them.
_SMALL, _TINY = 1e-9, 1e-15


def bleu_scores(statistics: Floats) -> Floats:
    """Return BLEU-1 to BLEU-4 of single regions or of sums over regions.

    Args:
        statistics: (..., 10): words of the caption, words of the reference closest in length (the
            shorter of two), n-grams of the caption for n = 1 to 4, and how many of them a reference
            has (each at most as often as one reference has it).

    Returns:
        (..., 4), 0-1.

    Source: Papineni et al., BLEU, ACL 2002.
    """
    caption, reference = statistics[..., 0], statistics[..., 1]
    guessed = statistics[..., 2 : 2 + MOST_WORDS]
    correct = statistics[..., 2 + MOST_WORDS : STATISTICS]
    products = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=-1)
    values = products ** (1.0 / np.arange(1, MOST_WORDS + 1))
    ratio = (caption + _TINY) / (reference + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return np.asarray(values * brevity[..., None], dtype=np.float64)
