"""Captions made elsewhere, handed over as a `predictions.jsonl`."""

import json
from collections.abc import Mapping
from pathlib import Path

from sca_bench.variants import VariantSpec

SPEC = VariantSpec(
    name="predictions",
    builder="baselines.predictions.captioner:build",
    summary="Captions made elsewhere, read from a predictions.jsonl",
    looks=False,
    reads=("data", "baseline"),
    trains="never",
    source="whoever made the file",
    example="baselines.predictions:example",
)


def example(folder: Path) -> Mapping[str, str]:
    """Write captions of the regions that `sca_bench test` has, and return their file."""
    ids = ("wide-0", "wide-1", "wide-2", "high-0")
    lines = [json.dumps({"region_id": name, "caption": f"a {name}"}) for name in ids]
    file = folder / "predictions.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {"baseline.weights": str(file)}
