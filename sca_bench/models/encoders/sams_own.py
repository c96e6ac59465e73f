"""The encoder that SAM brings itself: with its weights, or with drawn ones."""

from __future__ import annotations

from sca_bench.specs.encoders import EncoderSpec

SPECS = (
    EncoderSpec("sam", "SAM's own encoder, with the weights of `sam.weights`"),
    EncoderSpec(
        "untrained",
        "SAM's own encoder with random weights, beside the trained rest of SAM: a control",
        draws_weights=True,
    ),
)
