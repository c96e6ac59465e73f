"""Writes the CPU half of `docs/performance.md` from what the benchmark found."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch
import transformers
from vit_b_cells import MOST_REPEATS

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
KEPT = "## On a GPU\n"
"""Where the part begins that is written by hand."""
COMMAND = "OMP_NUM_THREADS=1 python -m pytest tests/bench/test_lockstep_vit_b.py -m bench -s"
ORIGINAL = {
    "image encoder, one image": 15.59,
    "train step of the deepest cell": 25.0,
    "greedy, per region": 0.80,
    "beam 3, per region": 0.94,
    "image encoder + greedy, 8 regions": 15.59 + 6.44,
}
"""CPU seconds of the original implementation at the same shapes, one thread."""
REMARKS = """\
- Sharing saves what is frozen, and the faster the frozen part is, the less there is to share: with
  the position bias of the encoder in one piece the same lockstep would look better by ratio and
  be slower by the clock.
- Region by region, SAM's mixer gives the same bits whatever stands in the batch; on tiny shapes
  that costs about 0.5 ms a region, here up to a tenth of SAM's mixer.
- Not used: AdamW's fused kernel (an update is about 2 % of a cell's own step, and it rounds
  otherwise); one product instead of three for an image's keys, values and queries (same time,
  other rounding); `torch.inference_mode` (4 % of a tiny mixer).
- The text mixer projects its few tokens instead of the image's thousands, which leaves four
  products a layer and region and no keys, values and queries to write, and mixes region by region.
  On one core of an AMD EPYC, at depth 3, a region took 75 CPU ms before, 47 with that, and 31 to
  39 with oneDNN's products in place of MKL's; forward and backward together 192 to 203, 143 and 94.
- Nothing is computed in vain for the first block's image tokens: they are frozen, and no gradient
  is asked of them.
- `runtime.compile` compiles blocks, not the loss: a training makes three graphs in its first step
  (10 to 25 s on a CPU) and none later, whatever captions and numbers of regions come
  (`tests/device/test_compile_counts.py`). On a CPU it does not pay: a step of a tiny cell took
  15 ms, compiled 18, so there is no break-even. It is meant for GPUs, and none was at hand.
- The image tokens that the text mixer's last block leaves behind are read by its closing attention,
  so that block's update is needed.
- glibc gives every large tensor fresh pages. With MALLOC_MMAP_THRESHOLD_ and
  MALLOC_TRIM_THRESHOLD_ above the largest tensor (glibc 2.36, tried by hand) a step of depth 4 took
  2.4 instead of 2.7 CPU s and the encoder 9.0 instead of 9.5, with 8 % more peak memory. The
  package leaves that to whoever starts it: other C libraries may do the opposite.
- bf16 changes numbers and is a setting (`train.precision`), never a default.
"""


def write_page(results: dict, depths: tuple[int, ...], regions: int) -> None:
    """Write the page, and leave its part on GPUs as it is."""
    sections = [
        _head(depths, regions),
        _bars(results["bars"]),
        _training(results["training"], depths),
        _generation(results["generation"]),
        _memory(results["memory"], depths),
        _savings(results["savings"]),
        _limit(results["limit"]),
        _original(results, depths, regions),
        f"## Remarks\n\n{REMARKS}",
    ]
    _, _, by_hand = PAGE.read_text(encoding="utf-8").partition(KEPT)
    made = "\n\n".join(s.strip() for s in sections)
    PAGE.write_text(f"{made}\n\n{KEPT}{by_hand}", encoding="utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _head(depths: tuple[int, ...], regions: int) -> str:
    return f"""# Performance

What sharing brings at the published size: SAM ViT-B at 1024 px, GPT-2 small, 8 caption queries,
6 task tokens, one image with {regions} boxes, captions of 11 ids, random weights, fp32. The
ablation has {len(depths)} [cells](glossary.md#cell), with {", ".join(map(str, depths))} mixer
layers.

`{COMMAND}`

{datetime.date.today().isoformat()}, {_cpu()}, one thread, Python {platform.python_version()}, torch
{torch.__version__}, transformers {transformers.__version__}; load average at the end
{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores. What is compared ran in one process, in turns,
at most {MOST_REPEATS} times (SCA_BENCH_REPEATS); of each the run with the least CPU seconds counts.
Wall seconds are those of that run: other work on the machine inflates them, and CPU seconds less
so."""


def _bars(bars: list) -> str:
    rows = [[n, f"{v:.3f}", f"{bar}", "met" if v <= bar else "**missed**"] for n, v, bar in bars]
    return "## Bars\n\n" + _table(["ratio", "found", "at most", ""], rows)


def _training(found: dict, depths: tuple[int, ...]) -> str:
    solo = sum(found[f"solo {d}"].cpu_s for d in depths)
    rows = [
        [name, f"{cost.cpu_s:.2f}", f"{cost.wall_s:.2f}"]
        for name, cost in found.items()
        if name.startswith("solo")
    ]
    rows.append(["all cells solo", f"{solo:.2f}", ""])
    for name in ("lockstep", "lockstep, encoder cache"):
        cost = found[name]
        rows.append([f"all cells in {name}", f"{cost.cpu_s:.2f}", f"{cost.wall_s:.2f}"])
    per_cell = ", ".join(
        f"{name} {value / len(depths):.2f}"
        for name, value in (
            ("solo", solo),
            ("lockstep", found["lockstep"].cpu_s),
            ("with the encoder's embeddings given", found["lockstep, encoder cache"].cpu_s),
        )
    )
    return (
        "## A training step\n\n"
        + _table(["cells by depth", "CPU s", "wall s"], rows)
        + f"\n\nCPU seconds per cell and step: {per_cell}."
    )


def _generation(found: dict) -> str:
    rows = [
        [f"{beams} beams" if beams > 1 else "greedy", label, f"{c.cpu_s:.3f}", f"{c.wall_s:.3f}"]
        for (beams, label), c in found.items()
    ]
    return (
        "## Captions\n\nFrom cached features, the deepest cell, 19 new tokens a region (untrained"
        " decoders never end); all ways give the same ids.\n\n"
        + _table(["decoding", "regions", "CPU s a region", "wall s a region"], rows)
    )


def _memory(found: dict, depths: tuple[int, ...]) -> str:
    names = {
        "alone": f"the cell of depth {depths[-1]} alone",
        "group": f"all {len(depths)} cells in lockstep",
    }
    rows = [
        [names[name], f"{row['peak_gib']:.2f}", f"{row['cpu_s']:.2f}"]
        for name, row in found.items()
    ]
    return (
        "## Memory\n\nPeak resident memory of fresh processes, two training steps each, and CPU"
        " seconds of the second.\n\n" + _table(["", "peak GiB", "CPU s a step"], rows)
    )


def _savings(savings: list) -> str:
    rows = [
        [
            name,
            f"{with_it.cpu_s:.3f}",
            f"{without.cpu_s:.3f}",
            f"{with_it.cpu_s / without.cpu_s:.2f}",
            "bit-equal" if off == 0 else f"{off:.0e}",
        ]
        for name, with_it, without, off in savings
    ]
    return (
        "## Savings one by one\n\nDifferences are relative to the largest value of what is"
        " compared: embeddings, mixed tokens, gradients, log-probabilities, weights.\n\n"
        + _table(["saving", "with, CPU s", "without", "ratio", "largest difference"], rows)
    )


def _limit(found: dict) -> str:
    return f"""## Distance to the arithmetic limit

A [lockstep](glossary.md#lockstep) step of all cells is {found["shared_gflop"]:.0f} GFLOP of frozen
work, done once, and
{found["own_gflop"]:.0f} GFLOP of the cells' own. At the {found["gflop_per_s"]:.0f} GFLOP/s of a
large matrix product here that is {found["limit_s"]:.2f} s; it takes {found["measured_s"]:.2f}
CPU s, {found["measured_s"] / found["limit_s"]:.2f} times the limit."""


def _original(results: dict, depths: tuple[int, ...], regions: int) -> str:
    savings = {name: with_it for name, with_it, _, _ in results["savings"]}
    encoder = savings["encoder: position bias in pieces"].cpu_s
    greedy = results["generation"][1, f"{regions} together"].cpu_s
    beams = results["generation"][3, f"{regions} together"].cpu_s
    here = {
        "image encoder, one image": encoder,
        "train step of the deepest cell": results["training"][f"solo {depths[-1]}"].cpu_s,
        "greedy, per region": greedy,
        "beam 3, per region": beams,
        "image encoder + greedy, 8 regions": encoder + regions * greedy,
    }
    rows = [
        [name, f"{theirs:.2f}", f"{here[name]:.2f}", f"{here[name] / theirs:.2f}"]
        for name, theirs in ORIGINAL.items()
    ]
    return (
        "## Beside the original\n\nCPU seconds, one thread, same shapes. The original was measured"
        " at another time, on another machine, with torch 2.13.0 and transformers 4.36.2, so only"
        " the order of magnitude compares.\n\n" + _table(["", "original", "here", "ratio"], rows)
    )
