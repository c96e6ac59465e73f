"""The main job of the README against an older commit: time line, ratio, equal numbers.

    python -m pytest tests/bench/test_main_job_speed.py -m bench -s

It needs both cores for itself. SCA_BENCH_BEFORE names another commit than the one on which the bars
were set (af0a796 is the last one before groups were cut), SCA_BENCH_STEPS other steps than the 250
of the profile (the bars hold for those alone).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from bench.timeline import Timeline, watch

ROOT = Path(__file__).parents[2]
BEFORE = os.environ.get("SCA_BENCH_BEFORE", "8c9829e")
STEPS = int(os.environ.get("SCA_BENCH_STEPS", "250"))
MAIN_JOB, TWO_CELLS, REPORT_S, AGAIN_S = 0.6, 0.4, 5.0, 5.0
"""At most: ratios to before, and seconds."""
SMALL = """
suite: two_cells
question: What does a run cost beside its arithmetic?
base:
  variant: sca
  train: {steps: 3, images_per_batch: 2, warmup_steps: 1, val_every: 3}
  data:
    train: {dataset: scenes, first_seed: 0, num_images: 6}
    val: {dataset: scenes, first_seed: 5000, num_images: 2}
    test: {dataset: scenes, first_seed: 900000, num_images: 3}
axes: {mixer.num_layers: [1, 2]}
seeds: [0]
metrics: [cider_d, exact_match, slots]
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of the older commit."""
    folder = tmp_path_factory.mktemp("before") / "tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(folder), BEFORE], check=True, capture_output=True)
    yield folder
    subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}


def run(tree: Path, suite: str, runs: Path, num_runs: int, *words: str) -> Timeline:
    """Run a suite into an empty folder, and show what it did when."""
    command = [sys.executable, "-m", "sca_bench", "run", suite, "--runs-dir", str(runs), *words]
    line = watch(command, runs, num_runs, environment(tree), runs.parent)
    print(f"\n{runs.name}:", *line.out, *line.rows(), sep="\n  ")
    assert line.code == 0
    return line


def seconds(tree: Path, *words: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "sca_bench", *words]
    subprocess.run(command, check=True, env=environment(tree), capture_output=True)
    return time.perf_counter() - began


class Numbers(NamedTuple):
    """What a run gave."""

    status: str
    revision: str
    scores: dict[str, float | None]
    captions: list[dict[str, object]]


def numbers(runs: Path) -> dict[str, Numbers]:
    """Return what every run gave, by the settings that its cells differ in."""
    found = {}
    for path in sorted(runs.glob("cells/*/*/record.json")):
        record = json.loads(path.read_text())
        name = f"{record['settings']['mixer']['num_layers']} layers, {path.parent.name}"
        lines = (path.parent / "predictions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        captions = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        scores = {key: score["value"] for key, score in record["scores"].items()}
        found[name] = Numbers(record["status"], record.get("revision", "?"), scores, captions)
    return found


def revisions(found: dict[str, Numbers]) -> set[str]:
    """Return the revisions of the variant that made numbers."""
    return {run.revision for run in found.values()}


def apart(before: dict[str, Numbers], after: dict[str, Numbers]) -> str:
    """Say how far numbers of the same runs are apart; their revisions may differ.

    A score's difference is a share of what it was before.
    """
    assert before.keys() == after.keys()
    said = [
        (old["caption"], new["caption"])
        for name in before
        for old, new in zip(before[name].captions, after[name].captions, strict=True)
    ]
    scores = [
        (abs((after[name].scores[key] or 0.0) - old) / (abs(old) or 1.0), key, name)
        for name, run in before.items()
        for key, old in run.scores.items()
        if old is not None
    ]
    share, key, name = max(scores)
    kinds = " and ".join("/".join(sorted(revisions(runs))) for runs in (before, after))
    equal = sum(old == new for old, new in said)
    return (
        f"revisions {kinds}: {equal} of {len(said)} captions are equal; "
        f"scores differ by at most {100 * share:.2g} % ({key} of {name})"
    )


@pytest.mark.bench
def test_the_main_job(before: Path, tmp_path: Path) -> None:
    words = ["--set", f"train.steps={STEPS}"] if STEPS != 250 else []
    suite = "ablations/mixer_layers.yaml"
    old = run(before, str(before / suite), tmp_path / "before", 9, *words)
    new = run(ROOT, str(ROOT / suite), tmp_path / "after", 9, *words)
    here = ["--runs-dir", str(tmp_path / "after")]
    again_s = seconds(ROOT, "run", str(ROOT / suite), *here, *words)
    report_s = seconds(ROOT, "report", *here, "--out", str(tmp_path / "reports"))
    ratio = new.wall_s / old.wall_s
    print(f"\nmain job, {STEPS} steps: {old.wall_s:.1f} s before, {new.wall_s:.1f} s: {ratio:.2f}")
    print(f"CPU: {old.cpu_s:.0f} s before, {new.cpu_s:.0f} s; again {again_s:.1f} s; ", end="")
    print(f"report {report_s:.1f} s")
    before_, after = numbers(tmp_path / "before"), numbers(tmp_path / "after")
    print(apart(before_, after))
    if revisions(before_) == revisions(after):
        assert before_ == after
    assert again_s < AGAIN_S
    assert report_s <= REPORT_S
    assert ratio <= MAIN_JOB or STEPS != 250


@pytest.mark.bench
def test_two_cells_of_three_steps(before: Path, tmp_path: Path) -> None:
    file = tmp_path / "two_cells.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(SMALL)), encoding="utf-8")
    took = {
        name: run(tree, str(file), tmp_path / name, 2).wall_s
        for name, tree in (
            ("before_1", before),
            ("after_1", ROOT),
            ("before_2", before),
            ("after_2", ROOT),
        )
    }
    old, new = (min(took[f"{name}_{n}"] for n in (1, 2)) for name in ("before", "after"))
    print(f"\ntwo cells of three steps: {old:.1f} s before, {new:.1f} s: {new / old:.2f}")
    assert new / old <= TWO_CELLS
