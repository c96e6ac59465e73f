"""What `compare` promises: nothing found where nothing is, and what it says it can find, found.

    python -m pytest tests/stats/test_compare_promises.py -m bench -s

takes all conditions of the coverage table (docs/statistics.md) that it does not mark approximate.
"""

from dataclasses import replace

import numpy as np
import pytest
from coverage_conditions import REAL, WORLDS, _real_pairs
from simulated_cells import RESAMPLES, trials

from sca_bench.report.compare.compared import finding_of
from sca_bench.stats.bootstrap import image_weights, resample
from sca_bench.stats.compare import compare_resampled
from sca_bench.stats.power import detectable

TRIALS = 2000
SEEDS = ((3, 3), (5, 5), (3, 5))
AT_ONCE = 200
ENOUGH_IMAGES = [name for name, world in WORLDS.items() if world.num_images >= 60]


def world_pairs(name, seeds, num, draw, difference=0.0):
    """Yield pairs of cells on the same resamples, the first better by `difference`."""
    world = WORLDS[name]
    world = replace(
        world, num_seeds=tuple(s if t else 1 for s, t in zip(seeds, world.trained, strict=True))
    )
    weights, rng = image_weights(world.num_images, RESAMPLES, seed=3), np.random.default_rng(draw)
    for start in range(0, num, AT_ONCE):
        pairs = trials(world, min(AT_ONCE, num - start), rng, difference)
        cells = resample([cell for pair in pairs for cell in pair], weights)
        yield from zip(cells[::2], cells[1::2], strict=True)


def real_pairs(name, seeds, num, draw):
    weights = image_weights(150, RESAMPLES, seed=3)
    yield from _real_pairs(REAL[name], seeds, num, np.random.default_rng(draw), weights)


def share(pairs, *findings):
    """Return the share of pairs of which `compare` says one of these; none may be approximate."""
    found = []
    for b, a in pairs:
        comparison = compare_resampled(b, a)
        assert not comparison.approximate
        found.append(finding_of(comparison, True) in findings)
    return float(np.mean(found))


def stated_size(pairs):
    """Return the difference that `power` says can be found in 80 %, the mean over pairs."""
    return float(np.mean([detectable(compare_resampled(b, a)) for b, a in pairs]))


@pytest.mark.bench
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("name", [*ENOUGH_IMAGES, *REAL])
def test_nothing_is_found_where_nothing_is(name, seeds):
    pairs = world_pairs if name in WORLDS else real_pairs
    none = share(pairs(name, seeds, TRIALS, 1), "none", "same")
    print(f"A/A, {name}, {seeds}: {100 * none:.1f} % without a difference")
    assert 0.93 <= none <= 0.97


@pytest.mark.bench
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("name", ENOUGH_IMAGES)
def test_a_difference_of_the_stated_size_is_found_in_80_percent(name, seeds):
    size = stated_size(world_pairs(name, seeds, TRIALS, 1))
    found = share(world_pairs(name, seeds, TRIALS, 2, difference=size), "better")
    print(f"planted {size:.3f}, {name}, {seeds}: found in {100 * found:.1f} %")
    assert 0.75 <= found <= 0.85


@pytest.mark.parametrize("name", ["images and seeds alike", "interaction, spreads 3 to 1"])
def test_both_promises_in_a_few_trials(name, simulation):
    """A part of the above, seeded: the bars, and four standard errors of so few trials."""
    num, seeds = 300, (3, 3)
    pairs = list(world_pairs(name, seeds, num, 1))
    assert share(pairs, "none", "same") == pytest.approx(0.95, abs=0.02 + 4 * 0.0126)
    size = stated_size(pairs)
    found = share(world_pairs(name, seeds, num, 2, difference=size), "better")
    assert found == pytest.approx(0.8, abs=0.05 + 4 * 0.0231)
