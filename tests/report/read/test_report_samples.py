"""Rows of a sample: one region each, whatever order the files of its seeds have."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.stats.compare import compare_resampled
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, STATISTICS, Store

Runs = tuple[Store, SuiteManifest]
CELL, OTHER = "c-depth-2", "c-depth-1"


def samples_of(runs: Runs, metric: str):
    data = collect(*runs)
    cells = {cell.entry.cell_id: cell for cell in data.cells}
    samples = Samples(data)
    return samples.of(cells[CELL], metric), samples.of(cells[OTHER], metric)


def keep_bleu(store: Store, cell: str, seed: int) -> None:
    """Give a run BLEU-4 with the statistics that its corpus score is made of."""
    folder, draw = store.run_dir(cell, seed), np.random.default_rng(seed)
    lengths = draw.integers(4, 9, size=(30, 1))
    guesses = np.maximum(lengths - np.arange(4), 0)
    right = draw.integers(0, guesses + 1)
    rows = np.hstack([lengths, lengths + draw.integers(-1, 2, (30, 1)), guesses, right])
    save_file({"bleu": rows.astype(np.float64)}, folder / STATISTICS)
    stored = store.region_scores(cell, seed)
    stored["scores"]["bleu_4"] = draw.random(30).tolist()
    (folder / "region_scores.json").write_text(json.dumps(stored), encoding="utf-8")


def shuffle(store: Store, cell: str, seed: int) -> None:
    """Bring a run's regions into another order, in each of its files."""
    folder, order = store.run_dir(cell, seed), list(range(30))
    random.Random(seed).shuffle(order)
    stored = store.region_scores(cell, seed)
    assert stored["region_ids"] == sorted(stored["region_ids"])
    stored["region_ids"] = [stored["region_ids"][i] for i in order]
    stored["scores"] = {m: [values[i] for i in order] for m, values in stored["scores"].items()}
    (folder / "region_scores.json").write_text(json.dumps(stored), encoding="utf-8")
    rows = load_file(folder / STATISTICS)["bleu"]
    save_file({"bleu": np.ascontiguousarray(rows[order])}, folder / STATISTICS)
    lines = (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / PREDICTIONS).write_text("".join(lines[i] for i in order), encoding="utf-8")


@pytest.mark.parametrize("metric", ["cider_d", "bleu_4"])
@pytest.mark.parametrize("shuffled", [(0,), (1,), (0, 1)])
def test_rows_of_seeds_are_aligned_whatever_the_order_in_their_files(
    runs: Runs, metric: str, shuffled: tuple[int, ...]
) -> None:
    store, suite = runs
    values = {}
    for seed in suite.seeds:
        for cell in (CELL, OTHER):
            keep_bleu(store, cell, seed)
        stored = store.region_scores(CELL, seed)
        values[seed] = dict(zip(stored["region_ids"], stored["scores"][metric], strict=True))
    before = samples_of(runs, metric)
    for seed in shuffled:
        shuffle(store, CELL, seed)
    after = samples_of(runs, metric)

    sample = after[0]
    assert list(sample.region_ids) == sorted(values[0])
    assert list(sample.image_ids) == [name.split("/")[0] for name in sample.region_ids]
    expected = [(values[0][name] + values[1][name]) / 2 for name in sample.region_ids]
    np.testing.assert_allclose(sample.means, expected, rtol=1e-12)
    assert sample.resampled is not None
    assert before[0].resampled is not None
    np.testing.assert_array_equal(sample.resampled.cell.sums, before[0].resampled.cell.sums)
    comparisons = [compare_resampled(a.resampled, b.resampled) for a, b in (before, after)]
    assert comparisons[0] == comparisons[1]
