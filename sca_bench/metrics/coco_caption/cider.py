"""The pieces of CIDEr-D: weights of n-grams, norms, the length penalty."""

from __future__ import annotations

import numpy as np

from sca_bench.metrics.coco_caption.ngrams import Counted, Floats, Ints, total

SIGMA = 6.0
SCALE = 10.0


def inverse_frequencies(frequencies: Ints, num_regions: int) -> Floats:
    """Return log N - log(max(1, df)) of each n-gram.

    Args:
        frequencies: Number of regions with a reference that has the n-gram.
        num_regions: N.
    """
    # One table for both logarithms: an n-gram of every region must weigh exactly nothing.
    logarithms = np.log(np.arange(1, num_regions + 1, dtype=np.float64))
    return np.asarray(logarithms[-1] - logarithms[np.maximum(frequencies, 1) - 1])


def norms(counted: Counted, weights: Floats) -> Floats:
    """Return the length of each caption's vector of weights."""
    num_captions = len(counted.starts) - 1
    owners = np.repeat(np.arange(num_captions), np.diff(counted.starts))
    return np.sqrt(total(owners, weights**2, num_captions))


def length_penalty(difference: Ints) -> Floats:
    """Return the Gaussian penalty for a difference in the number of *bigrams* (sigma 6)."""
    return np.asarray(np.exp(-(difference.astype(np.float64) ** 2) / (2 * SIGMA**2)))


def cosine(products: Floats, caption_norms: Floats, reference_norms: Floats) -> Floats:
    """Return products over norms; a norm of zero divides nothing."""
    both = caption_norms * reference_norms
    return np.divide(products, both, out=products.copy(), where=both != 0)
