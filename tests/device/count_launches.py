"""Counts what a training step and a generated token have a GPU do, at the paper's size.

    python tests/device/count_launches.py            # compare with the recorded table, 15 seconds
    python tests/device/count_launches.py --renew    # record what is found

No GPU is needed: kernels, operations and bytes are counted on tensors without content, by CUDA's
rules (`sca_bench.engine.measure.counter`), and the milliseconds are those of an H200 by arithmetic.
`launches.json`, beside this file, keeps two tables: `before` is November 2026, before steps were
made faster for a GPU, and `now` is what was last recorded; and the launches of a `small` cell. A
step has 8 images with 16 regions each, and captions of 18 tokens and the end token; fp16 where
nothing else is said. It fails where launches differ from the record, or bytes and operations by
more than one in a hundred, or where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sca_bench.engine.forecast.costs import Work
from sca_bench.engine.forecast.gpu_hours import GPUS, MATRIX_SHARE
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.flops import PREFIX, TOKEN, count_captions
from sca_bench.engine.measure.step_memory import ENCODER, OWN, SAM_MIXER, count_step
from sca_bench.settings import CellSettings

RECORDED = Path(__file__).with_name("launches.json")
LARGE = {"sam.size": "vit_h", "text_decoder.weights": "random:gpt2-large"}
BASE = {"sam.size": "vit_b", "text_decoder.weights": "random:gpt2"}
FP32 = {**LARGE, "train.precision": "fp32"}
MAIN = "own, all"
STEPS = {
    "": LARGE,
    "own at depth 2": {**LARGE, "mixer.num_layers": 2},
    "own, ViT-B / GPT-2": BASE,
    "own, ViT-B / GPT-2, one image": {**BASE, "train.images_per_batch": 1},
    "own in fp32": FP32,
}
"""Name of a row -> the settings of the step; the parts of the first one have rows of their own."""
TOKENS = {"a token of 64 regions, 3 beams": 64, "a token of 512 regions, 3 beams": 512}
BARS = {"launches": 0.8, "gb": 0.7}
"""Of an own step before: at most so much of it."""
SMALL = {
    "sam.size": "tiny_small",
    "text_decoder.weights": "embedded:lm_scenes",
    "mixer.num_heads": 4,
    "mixer.mlp_dim": 16,
    "train.images_per_batch": 2,
    "train.regions_per_image": 3,
}
"""A cell that is counted in a second: `test_launches.py` does it."""
Row = dict[str, float]


def cell(changes: dict[str, Any]) -> CellSettings:
    """Return the settings of a cell of the paper's size."""
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    nested: dict[str, Any] = {
        "train": {"precision": "fp16"},
        "eval": {"num_beams": 3},
        "data": {"train": scenes, "test": scenes},
    }
    for path, value in changes.items():
        room, name = path.split(".")
        nested.setdefault(room, {})[name] = value
    return CellSettings.model_validate(nested)


def row(work: Work) -> Row:
    """Return the numbers of a row."""
    return {
        "launches": work.launches,
        "tflop": round(work.flop / 1e12, 3),
        "gb": round(work.bytes / 1e9, 2),
        "ms": round(1e3 * GPUS["h200"].seconds(work, MATRIX_SHARE), 1),
    }


def count() -> dict[str, Row]:
    """Count all rows."""
    found: dict[str, Row] = {}
    for name, changes in STEPS.items():
        counter = OpCounter()
        count_step(cell(changes), counter)
        if not name:
            found |= {part: row(counter.work(part)) for part in (ENCODER, SAM_MIXER, *OWN)}
        found[name or MAIN] = row(counter.work(*OWN))
    for name, regions in TOKENS.items():
        counter = OpCounter()
        count_captions(cell({**LARGE, "runtime.eval_regions": regions}), counter)
        found[name] = row(counter.work(TOKEN))
    return found


def count_small() -> dict[str, list[float]]:
    """Return the launches of each part of the small cell, with one and with three mixer layers."""
    found: dict[str, list[float]] = {}
    for layers in (1, 3):
        counter = OpCounter()
        settings = cell({**SMALL, "mixer.num_layers": layers})
        count_step(settings, counter)
        count_captions(settings, counter)
        for part in (ENCODER, SAM_MIXER, *OWN, PREFIX, TOKEN):
            found.setdefault(part, []).append(counter.work(part).launches)
    return found


def faults(found: dict[str, Row], recorded: dict[str, dict[str, Row]]) -> list[str]:
    """Return where what was found is not what was recorded, and the bars that it misses."""
    said = []
    for name, known in recorded["now"].items():
        for what in ("launches", "gb", "tflop"):
            here, there = found[name][what], known[what]
            if abs(here - there) > (0 if what == "launches" else 0.01 * there):
                said.append(f"{name}: {what} {here:g}, recorded {there:g}")
    for what, bar in BARS.items():
        ratio = found[MAIN][what] / recorded["before"][MAIN][what]
        if ratio > bar:
            said.append(f"{MAIN}: {what} are {ratio:.2f} of those before, at most {bar} are wanted")
    return said


def table(found: dict[str, Row], before: dict[str, Row]) -> str:
    """Return the rows as a Markdown table, beside those before."""
    lines = [
        "| part | launches | before | TFLOP | GB | before | H200 ms | before |",
        "| --- |" + " ---: |" * 7,
    ]
    for name, new in found.items():
        old = before[name]
        cells = (
            f"{new['launches']:,.0f}",
            f"{old['launches']:,.0f}",
            f"{new['tflop']:.2f}",
            f"{new['gb']:.1f}",
            f"{old['gb']:.1f}",
            f"{new['ms']:.1f}",
            f"{old['ms']:.1f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Count, print and compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renew", action="store_true", help="record what is found as `now`")
    options = parser.parse_args()
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    found = count()
    print(table(found, recorded["before"]))
    if options.renew:
        recorded |= {"now": found, "small": count_small()}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    wrong = faults(found, recorded)
    print("\n".join(wrong) or "as recorded, and within the bars")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
