"""What a table of paired comparisons costs: 20 systems, 5,000 images, 1,000 resamples.

    python -m pytest tests/bench/test_bootstrap_speed.py -m bench -s

Drawing the weights, the matrix product, and the comparison of the first system with every other
are all timed. With one column, as CIDEr-D has, and with the 23 of METEOR.
"""

import time
import tracemalloc

import numpy as np
import pytest

from sca_bench.stats.bootstrap import CellScores, image_weights, mean_combine, resample
from sca_bench.stats.compare import compare_resampled

SYSTEMS, IMAGES, RESAMPLES = 20, 5000, 1000
MOST_S = 3.0
MOST_MIB = 200


def many_columns(sums, counts):
    """A score of all columns that is no mean over regions."""
    return np.sqrt(sums[..., :11].sum(axis=-1) / sums[..., 11:].sum(axis=-1))


@pytest.mark.bench
@pytest.mark.parametrize(("columns", "combine"), [(1, mean_combine), (23, many_columns)])
def test_twenty_systems(columns, combine):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 16, IMAGES).astype(float)
    cells = [
        CellScores(rng.random((1, IMAGES, columns)) * counts[:, None], counts, combine)
        for _ in range(SYSTEMS)
    ]
    started = time.perf_counter()
    table(cells)
    took_s = time.perf_counter() - started
    tracemalloc.start()
    table(cells)
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    print(f"\n{columns} columns: {took_s:.2f} s, {peak_mib:.0f} MiB at most beside the scores")
    assert took_s < MOST_S
    assert peak_mib < MOST_MIB


def table(cells):
    first, *others = resample(cells, image_weights(IMAGES, RESAMPLES))
    found = [compare_resampled(first, other) for other in others]
    assert all(c.low < c.difference < c.high for c in found)
