"""Time and memory of `report` on a large suite: 20 cells, 3 seeds, 5,000 test regions.

    python -m pytest tests/bench/test_report_speed.py -m bench -s

Measured once on 2 shared cores: 11 s and 0.7 GiB; the limits leave room for slower machines.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import Store

NUM_CELLS, SEEDS, NUM_REGIONS, PER_IMAGE = 20, (0, 1, 2), 5000, 5
METRICS = ("cider_d", "meteor", "spice", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")
WALL_S, PEAK_MIB = 60.0, 2048.0
WORDS = [f"word{number}" for number in range(3000)]
_MEASURED = """
import resource, runpy, sys
sys.argv = ["sca_bench", *sys.argv[1:]]
try:
    runpy.run_module("sca_bench", run_name="__main__")
finally:
    print("peak_kib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def regions() -> list[dict[str, object]]:
    draw = random.Random(1)
    rows: list[dict[str, object]] = []
    for number in range(NUM_REGIONS):
        left, top = draw.uniform(0, 500), draw.uniform(0, 300)
        box = [left, top, left + draw.uniform(8, 139), top + draw.uniform(8, 179)]
        rows.append(
            {
                "region_id": f"{number // PER_IMAGE}/{number % PER_IMAGE}",
                "image_id": str(number // PER_IMAGE),
                "references": [" ".join(draw.choices(WORDS, k=draw.randint(3, 12)))],
                "box_xyxy": box,
            }
        )
    return rows


def build(root: Path) -> SuiteManifest:
    store, rows = Store(root), regions()
    axes = {"mixer.num_layers": list(range(1, NUM_CELLS + 1))}
    cells = [
        CellEntry(cell_id=f"c-{n}", name=f"num_layers={n}", coordinates={"mixer.num_layers": n},
                  variant="sca")
        for n in axes["mixer.num_layers"]
    ]  # fmt: skip
    for entry in cells:
        for seed in SEEDS:
            save_run(store, entry, seed, rows)
    folder = root / "images" / "feed"
    folder.mkdir(parents=True)
    for number in range(0, NUM_REGIONS // PER_IMAGE, 40):
        Image.effect_noise((320, 240), 40).save(folder / f"{number}.png")
    sizes = {str(n): [640, 480] for n in range(NUM_REGIONS // PER_IMAGE)}
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")
    claims = [
        {
            "id": f"claim_{n}",
            "says": f"{metric}(mixer.num_layers={n}) > {metric}(mixer.num_layers=1)",
        }
        for metric in ("cider_d", "spice")
        for n in range(2, 8)
    ]
    suite = SuiteManifest(
        suite="large",
        profile="tiny",
        default_profile="tiny",
        file="large.yaml",
        question="How long does a report take?",
        axes=axes,
        seeds=list(SEEDS),
        metrics=list(METRICS),
        claims=claims,
        cells=cells,
    )
    store.save_manifest(suite)
    return suite


def save_run(store: Store, entry: CellEntry, seed: int, rows: list[dict[str, object]]) -> None:
    draw = random.Random(f"{entry.name} {seed}")
    values = {metric: [round(draw.random(), 6) for _ in rows] for metric in METRICS}
    scores = {
        metric: Score(value=sum(each) / len(each), signature={"metric": metric, "version": "1"})
        for metric, each in values.items()
    }
    record = RunRecord(
        cell_id=entry.cell_id,
        seed=seed,
        status="done",
        settings={},
        variant="sca",
        revision="1",
        scores=scores,
        cost={"train_s": draw.uniform(10, 90), "num_trainable_params": 1e6 * draw.random()},
        images_dir="images/feed",
    )
    store.save(record)
    folder = store.run_dir(entry.cell_id, seed)
    stored = {"region_ids": [row["region_id"] for row in rows], "scores": values}
    (folder / "region_scores.json").write_text(json.dumps(stored), encoding="utf-8")
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as handle:
        for row in rows:
            said = {"caption": " ".join(draw.choices(WORDS, k=8)), "log_prob": draw.uniform(-9, 0)}
            said |= {"predicted_ious": [0.9123, 0.8123, 0.7123], "seconds": 0.0123}
            handle.write(json.dumps(row | said) + "\n")
    with (folder / "log.jsonl").open("w", encoding="utf-8") as handle:
        for step in range(10, 5001, 10):
            handle.write(json.dumps({"step": step, "loss": 3 / step + draw.random()}) + "\n")


@pytest.mark.bench
def test_report_of_a_large_suite_is_quick_and_small(tmp_path: Path) -> None:
    suite = build(tmp_path / "runs")
    words = ["report", "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "reports")]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *words], check=False, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    peak_mib = int(done.stderr.split("peak_kib ")[1].split()[0]) / 1024
    print(f"\nreport: {wall_s:.1f} s, peak {peak_mib:.0f} MiB")
    assert (tmp_path / "reports" / suite.report_name / "index.html").exists()
    assert wall_s < WALL_S
    assert peak_mib < PEAK_MIB
