"""Captions made elsewhere, handed over as a `predictions.jsonl`."""

from sca_bench.variants import VariantSpec

SPEC = VariantSpec(
    name="predictions",
    builder="baselines.predictions.captioner:build",
    summary="Captions made elsewhere, read from a predictions.jsonl",
    looks=False,
    reads=("data", "baseline"),
    trains="never",
    source="whoever made the file",
)
