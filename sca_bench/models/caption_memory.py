"""What captioning one region more takes, so that a GPU can be given as many as fit.

Shape legend: S image tokens, C channels, P prefix positions, L generated tokens, B beams.
"""

from __future__ import annotations

from typing import Any

from sca_bench.captioner import Decoding

FLOAT = 4
"""Bytes of a number; in mixed precision less is needed."""
COPIES_OF_IMAGE = 10
"""Tensors of S x C that live at a time in a mixer: tokens, their sums with positions, keys, values,
queries, what attention and norms yield."""
COPIES_OF_SCORES = 4
"""Tensors of a row's vocabulary that live at a time: logits, log-probabilities, and on the way."""


def image_bytes(image_tokens: int, channels: int) -> int:
    """Return what mixing the S image tokens of a region takes."""
    return COPIES_OF_IMAGE * image_tokens * channels * FLOAT


def decoder_bytes(config: Any, prefix: int, decoding: Decoding) -> int:
    """Return what decoding one caption takes: keys and values of all positions, and scores.

    Args:
        config: Of the language model.
        prefix: Positions P.
        decoding: Beams, and tokens at most.
    """
    positions = prefix + decoding.max_new_tokens
    kept = 2 * config.num_hidden_layers * config.hidden_size * positions
    # The rows of the beams are made from those of the regions, which live until then.
    rows = decoding.num_beams + (decoding.num_beams > 1)
    return FLOAT * (rows * kept + decoding.num_beams * COPIES_OF_SCORES * config.vocab_size)
