"""What `compare` takes of two suites, and of two cells: processor time of the whole command.

    python -m pytest tests/bench/test_compare_speed.py -m bench -s

Two suites of 20 cells with three seeds each, scored on 5,000 regions in 1,700 images: files as runs
leave them, drawn. Scores, statistics and captions are the same in kind as those of `mixer_layers`.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save

from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, STATISTICS, Store

REGIONS, IMAGES, CELLS, SEEDS = 5000, 1700, 20, (0, 1, 2)
MEANS = ("cider_d", "rouge_l", "exact_match", "slots", "meteor")
BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
MOST_S, MOST_SMALL_S = 5.0, 1.0

pytestmark = pytest.mark.bench


def signature(metric):
    fixed = {"scorer": "drawn", "version": "1", "tokenizer": "none", "document_frequency": "none"}
    fixed |= {"references_min": 1, "references_max": 1, "num_regions": REGIONS}
    fixed |= {"region_set": "ab" * 32, "language": "en", "split": "test"}
    return {"metric": metric, **fixed}


def write_runs(root, cells, seeds, settings):
    """Write a runs folder of one suite."""
    draw = np.random.default_rng(len(str(root)))
    store = Store(root)
    images = np.sort(draw.integers(IMAGES, size=REGIONS))
    ids = [f"image_{image:05d}_{number}" for number, image in enumerate(images)]
    image_ids = [f"image_{image:05d}" for image in images]
    text = "a small plain red circle to the left of a large dotted blue square"
    words = text.split(" ")
    captions = [" ".join(draw.permutation(words)[:9]) for _ in ids]
    lines = [
        json.dumps({
            "region_id": name, "image_id": image, "caption": caption, "references": [caption],
            "box_xyxy": [1.0, 2.0, 30.0, 40.0], "log_prob": -0.1,
            "predicted_ious": [0.1, 0.2, 0.3], "seconds": 0.001,
        }) + "\n"
        for name, image, caption in zip(ids, image_ids, captions, strict=True)
    ]  # fmt: skip
    entries = [
        CellEntry(
            cell_id=f"{number:012x}", name=f"size={number}", coordinates={"size": number},
            variant="sca",
        )
        for number in range(cells)
    ]  # fmt: skip
    for entry in entries:
        for seed in seeds:
            folder = store.run_dir(entry.cell_id, seed)
            scores = {name: draw.random(REGIONS).round(6).tolist() for name in (*MEANS, *BLEU)}
            scores["exact_match"] = (draw.random(REGIONS) < 0.7).astype(float).tolist()
            record = RunRecord(
                cell_id=entry.cell_id,
                seed=seed,
                status="done",
                settings=settings,
                variant="sca",
                revision="3",
                scores={
                    name: Score(value=float(np.mean(values)), signature=signature(name))
                    for name, values in scores.items()
                },
                cost={"num_trainable_params": 1000.0},
            )
            store.save(record)
            content = {"region_ids": ids, "image_ids": image_ids, "scores": scores}
            (folder / "region_scores.json").write_text(json.dumps(content))
            (folder / PREDICTIONS).write_text("".join(lines))
            statistics = draw.integers(1, 10, size=(REGIONS, 10)).astype(np.float64)
            (folder / STATISTICS).write_bytes(save({"bleu": statistics}))
    store.save_manifest(
        SuiteManifest(
            suite="drawn", profile="tiny", default_profile="tiny", file="drawn.yaml",
            question="?", axes={"size": list(range(cells))}, seeds=list(seeds),
            metrics=["cider_d", "bleu", "exact_match"], cells=entries,
        )
    )  # fmt: skip
    return root


def measured(*words):
    """Run `compare`; return its processor time and wall time in seconds, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "sca_bench", "compare", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, wall_s, done.stdout


@pytest.fixture(scope="module")
def settings():
    from sca_bench.settings import CellSettings

    return CellSettings().model_dump(mode="json")


@pytest.mark.parametrize("seeds", [SEEDS[:1], SEEDS], ids=["one seed", "three seeds"])
def test_two_suites_of_twenty_cells(tmp_path, seeds, settings):
    one = write_runs(tmp_path / "one", CELLS, seeds, settings)
    other = write_runs(tmp_path / "other", CELLS, seeds, settings)
    words = ("drawn", "drawn", "--runs-dir", one, "--runs-dir-b", other)
    cpu_s, wall_s, out = measured(*words)
    assert "in 20 of 20 cells" in out or "of 20 cells" in out
    print(f"2 x {CELLS} cells x {len(seeds)} seeds: {cpu_s:.2f} CPU seconds, {wall_s:.2f} s")
    assert cpu_s < MOST_S


def test_two_cells(tmp_path, settings):
    one = write_runs(tmp_path / "one", 2, SEEDS, settings)
    cpu_s, wall_s, _ = measured("drawn/size=0", "drawn/size=1", "--runs-dir", one)
    print(f"two cells of three seeds: {cpu_s:.2f} CPU seconds, {wall_s:.2f} s")
    assert cpu_s < 2 * MOST_SMALL_S
